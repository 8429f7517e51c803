"""The built-in synthetic dataset `shapes`, rendered in Pascal VOC layout.

An image depends only on the seed, its split, its index and the size.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Callable, Iterable, NamedTuple, Optional, Tuple, Union

import cv2
import numpy as np

from ...errors import DataError, OptionError
from ...files import atomic_folder
from ...options import Size
from ...runtime.processor import usable_cores
from ..annotations.voc_xml import write_annotation
from ..prefetch import prefetch
from .outlines import SHAPE_CLASSES
from .scene import render_scene

MARKER = "shapes.json"
"""File in the folder of a complete dataset, with its settings."""

# Increased when the same settings render other images than before.
_VERSION = 1

# In smaller images, the smallest shapes have less than ten pixels and their outlines look alike.
_MIN_SIDE = 64

_SPLITS = ("train", "val")
_JPEG_QUALITY = (80, 95)


class _Settings(NamedTuple):
    """What the images depend on; stored in `MARKER`."""

    train: int
    val: int
    width: int
    height: int
    seed: int
    version: int = _VERSION


def make_shapes(
    folder: Union[str, Path],
    train: int = 800,
    val: int = 200,
    size: Size = (320, 320),
    seed: int = 0,
    workers: Optional[int] = None,
    progress: Optional[Callable[[int], object]] = None,
) -> bool:
    """Render the dataset; returns False if `folder` already contains it.

    Writes ``JPEGImages``, ``Annotations``, ``ImageSets/Main/{train,val,trainval}.txt``, ``classes.txt`` and
    `MARKER`, all or nothing.

    Parameters
    ----------
    folder : str or Path
        A new or empty folder, or one with the same dataset.
    train, val : int
        Number of images.
    size : (int, int)
        ``(width, height)`` of the images.
    seed : int
    workers : int, optional
        Worker threads. Defaults to the number of usable cores.
    progress : callable, optional
        Called with 1 after each image.

    Raises
    ------
    OptionError
        If a number or the size is out of range.
    DataError
        If `folder` has other content or cannot be written.
    """
    settings = _Settings(train, val, *size, seed)
    _check(settings)
    folder = Path(folder).absolute()
    if _exists(folder, settings):
        return False
    try:
        # It has its final name while it is rendered, because the annotations contain it.
        with atomic_folder(folder) as temporary:
            _render_all(temporary, settings, workers or usable_cores(), progress)
    except OSError as error:
        if _exists(folder, settings):  # another process wrote the same dataset in the meantime
            return True
        raise DataError(
            f"{folder}: the shapes dataset cannot be written ({error.strerror or error}); "
            "free some space or choose another folder"
        ) from error
    return True


def _check(settings: _Settings) -> None:
    if settings.train < 1 or settings.val < 1:
        raise OptionError(
            f"shapes: train and val must be at least 1, not {settings.train} and {settings.val}"
        )
    if settings.seed < 0:
        raise OptionError(f"shapes: seed must be at least 0, not {settings.seed}")
    if min(settings.width, settings.height) < _MIN_SIDE:
        raise OptionError(
            f"shapes: both sides of size must be at least {_MIN_SIDE}, not {settings.width}x{settings.height}"
        )


def _exists(folder: Path, settings: _Settings) -> bool:
    """Whether `folder` has the complete dataset; raises DataError if it has other content."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        existing = _Settings(**json.loads((folder / MARKER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise DataError(
            f"{folder}: exists and is not a shapes dataset ({MARKER} is missing or damaged); "
            "choose another folder or remove it"
        ) from None
    if existing != settings:
        changed = [key for key in settings._fields if getattr(existing, key) != getattr(settings, key)]
        old, new = (", ".join(f"{key} {getattr(s, key)}" for key in changed) for s in (existing, settings))
        raise DataError(
            f"{folder}: has a shapes dataset with {old}, not {new}; choose another folder or remove it"
        )
    return True


def _render_all(
    folder: Path, settings: _Settings, workers: int, progress: Optional[Callable[[int], object]]
) -> None:
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    ids = {split: [f"{split}_{i:06d}" for i in range(getattr(settings, split))] for split in _SPLITS}
    jobs = [(number, i) for number, split in enumerate(_SPLITS) for i in range(len(ids[split]))]

    def render_one(job: Tuple[int, int]) -> None:
        rng = np.random.default_rng([settings.seed, *job])
        _render_one(folder, ids[_SPLITS[job[0]]][job[1]], (settings.width, settings.height), rng)

    with contextlib.closing(prefetch(render_one, jobs, workers, 4 * workers)) as rendered:
        for _ in rendered:
            if progress is not None:
                progress(1)
    for split, names in {**ids, "trainval": ids["train"] + ids["val"]}.items():
        _write_lines(folder / "ImageSets" / "Main" / f"{split}.txt", names)
    _write_lines(folder / "classes.txt", SHAPE_CLASSES)
    (folder / MARKER).write_text(json.dumps(settings._asdict()) + "\n", encoding="utf-8")


def _render_one(folder: Path, image_id: str, size: Size, rng: np.random.Generator) -> None:
    scene = render_scene(rng, size)
    quality = int(rng.integers(_JPEG_QUALITY[0], _JPEG_QUALITY[1], endpoint=True))
    pixels = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert encoded, image_id
    # cv2.imwrite does not report a full disk.
    (folder / "JPEGImages" / f"{image_id}.jpg").write_bytes(data.tobytes())
    names = [SHAPE_CLASSES[label] for label in scene.labels]
    write_annotation(folder / "Annotations" / f"{image_id}.xml", f"{image_id}.jpg", size, names, scene.boxes)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
