"""The built-in dataset `shapes`, in Pascal VOC layout, rendered from a seed by `mnssd.data.shapes.scene`.

Image `index` of a split depends on the seed, the split, the index and the size alone: neither the
number of workers nor the number of images changes it.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterable, NamedTuple, Optional, Tuple, Union

import cv2
import numpy as np

from ...errors import DataError, OptionError
from ...files import atomic_folder
from ..annotations.voc_xml import write_annotation
from .outlines import SHAPE_CLASSES
from .scene import render_scene

__all__ = ["MARKER", "SHAPE_CLASSES", "make_shapes"]

#: The file that says that a folder holds a complete set, and what it was made from.
MARKER = "shapes.json"

# Raised when the same parameters give other images than before.
_VERSION = 1

# Below this the smallest shapes are under ten pixels: no outline is left to tell them apart.
_SMALLEST_PICTURE = 64

_SPLITS = ("train", "val")
_JPEG_QUALITY = (80, 95)


class _Recipe(NamedTuple):
    """What a set is made from; stored in `MARKER`."""

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
    size: Tuple[int, int] = (320, 320),
    seed: int = 0,
    workers: Optional[int] = None,
    progress: Optional[Callable[[int], object]] = None,
) -> bool:
    """Render the set, unless `folder` already holds it.

    Written are ``JPEGImages``, ``Annotations``, ``ImageSets/Main/{train,val,trainval}.txt``,
    ``classes.txt`` and `MARKER`. Everything is rendered beside `folder` and renamed when complete,
    so that `folder` never holds half a set.

    Parameters
    ----------
    folder : str or Path
        Where the set goes: a new or empty folder, or one with this very set.
    train, val : int
        Number of images for training and for validation.
    size : tuple of int
        ``(width, height)`` of every image in pixels.
    seed : int
        Another seed, other images.
    workers : int, optional
        Threads; by default one for every processor this process may use. (Not processes: a fork
        after MXNet is loaded may hang. OpenCV works outside the interpreter's lock.)
    progress : callable, optional
        Called with 1 for each image done, from this thread.

    Returns
    -------
    bool
        False when the set was there and nothing had to be done.

    Raises
    ------
    OptionError
        For a number or a size that makes no sense.
    DataError
        When `folder` holds something else, or cannot be written.
    """
    recipe = _Recipe(train, val, *size, seed)
    _check(recipe)
    folder = Path(folder).absolute()
    if _is_there(folder, recipe):
        return False
    try:
        # It has its final name while it is rendered, because the annotations contain it.
        with atomic_folder(folder) as temporary:
            _render_all(temporary, recipe, workers or _processors(), progress)
    except OSError as error:
        if _is_there(folder, recipe):  # another process wrote the same dataset in the meantime
            return True
        raise DataError(
            f"{folder}: the shapes cannot be written there ({error.strerror or error}); no half set was left "
            "behind. Make room, or choose another folder"
        ) from error
    return True


def _check(recipe: _Recipe) -> None:
    if recipe.train < 1 or recipe.val < 1:
        raise OptionError(
            f"shapes: 1 image or more for train and for val, not {recipe.train} and {recipe.val}"
        )
    if recipe.seed < 0:
        raise OptionError(f"shapes: the seed is 0 or more, not {recipe.seed}")
    if min(recipe.width, recipe.height) < _SMALLEST_PICTURE:
        raise OptionError(
            f"shapes: an image has {_SMALLEST_PICTURE} pixels or more each way, "
            f"not {recipe.width}x{recipe.height}"
        )


def _is_there(folder: Path, recipe: _Recipe) -> bool:
    """Whether `folder` holds the complete set; an error when it holds anything else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = _Recipe(**json.loads((folder / MARKER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise DataError(
            f"{folder} exists and is no set of shapes ({MARKER} is missing or damaged); "
            "choose another folder, or remove this one"
        ) from None
    if found != recipe:
        differ = [key for key in recipe._fields if getattr(found, key) != getattr(recipe, key)]
        there = ", ".join(f"{key} {getattr(found, key)}" for key in differ)
        wanted = ", ".join(f"{key} {getattr(recipe, key)}" for key in differ)
        raise DataError(
            f"{folder} holds shapes made with {there}, not {wanted}; "
            "choose another folder, or remove this one to render anew"
        )
    return True


def _render_all(
    folder: Path, recipe: _Recipe, workers: int, progress: Optional[Callable[[int], object]]
) -> None:
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    ids = {split: [f"{split}_{i:06d}" for i in range(getattr(recipe, split))] for split in _SPLITS}
    jobs = [(number, i) for number, split in enumerate(_SPLITS) for i in range(len(ids[split]))]

    def render_one(job: Tuple[int, int]) -> None:
        rng = np.random.default_rng([recipe.seed, *job])
        _render_one(folder, ids[_SPLITS[job[0]]][job[1]], (recipe.width, recipe.height), rng)

    # When one fails, or the user interrupts, `map` cancels those that have not begun.
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(render_one, jobs):
            if progress is not None:
                progress(1)
    for split, names in {**ids, "trainval": ids["train"] + ids["val"]}.items():
        _write_lines(folder / "ImageSets" / "Main" / f"{split}.txt", names)
    _write_lines(folder / "classes.txt", SHAPE_CLASSES)
    (folder / MARKER).write_text(json.dumps(recipe._asdict()) + "\n", encoding="utf-8")


def _render_one(folder: Path, image_id: str, size: Tuple[int, int], rng: np.random.Generator) -> None:
    scene = render_scene(rng, size)
    quality = int(rng.integers(_JPEG_QUALITY[0], _JPEG_QUALITY[1], endpoint=True))
    coded, data = cv2.imencode(
        ".jpg", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert coded, image_id
    # Not imwrite: it tells nobody that the disk is full.
    (folder / "JPEGImages" / f"{image_id}.jpg").write_bytes(data.tobytes())
    names = [SHAPE_CLASSES[label] for label in scene.labels]
    write_annotation(folder / "Annotations" / f"{image_id}.xml", f"{image_id}.jpg", size, names, scene.boxes)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
