"""Every image decoded once: whether it can be, what it is, and whether it is there twice."""

from __future__ import annotations

import hashlib
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ..data.dataset import Dataset
from ..data.findings import Finding
from ..data.image import decode_image, read_bytes, read_header
from ..data.prefetch import prefetch
from ..data.sample import Sample
from ..errors import ImageError

_AHEAD = 64  # images handed to the threads before their results are asked for: bounds the memory

_STARTS = {
    "JPEG": (b"\xff\xd8\xff", (".jpg", ".jpeg")),
    "PNG": (b"\x89PNG\r\n\x1a\n", (".png",)),
    "BMP": (b"BM", (".bmp",)),
}
"""First bytes of a format and the endings that its files have."""


class _Seen(NamedTuple):
    digest: Optional[bytes]
    findings: List[Finding]


def check_images(
    parts: Mapping[str, Dataset],
    workers: int,
    twins: Dict[str, str],
    progress: Callable[[], object] = lambda: None,
) -> Iterator[Finding]:
    """Decode every image.

    Parameters
    ----------
    parts : mapping of str to Dataset
        The lists by name.
    workers : int
        Threads; 0 for none.
    twins : dict
        By path of an image that is there already, under another name, the path of the first: added to.
    progress : callable
        Called after each image.

    Yields
    ------
    Finding
    """
    first: Dict[bytes, Tuple[str, str]] = {}
    told = set()
    samples = ((name, sample) for name, dataset in parts.items() for sample in dataset)
    for name, sample, seen in prefetch(_look, samples, workers, _AHEAD):
        progress()
        yield from (finding for finding in seen.findings if sample.image_path not in told)
        told.add(sample.image_path)
        if seen.digest is None:
            continue
        where, path = first.setdefault(seen.digest, (name, sample.image_path))
        if path == sample.image_path:
            continue
        twins[sample.image_path] = path
        if where != name:
            text = f"in {name}, and in {where} as {path}"
            yield Finding("image-in-two-lists", sample.image_path, "", text)
        else:
            yield Finding("image-repeated", sample.image_path, "", f"as {path}")


def _look(item: Tuple[str, Sample]) -> Tuple[str, Sample, _Seen]:
    name, sample = item
    return name, sample, _inspect(sample)


def _inspect(sample: Sample) -> _Seen:
    path = sample.image_path
    try:
        data = read_bytes(path)
        header = read_header(data, path)
        pixels = decode_image(data, path)
    except ImageError as error:
        return _Seen(None, [Finding("image-unreadable", path, "", str(error))])
    found: List[Finding] = []
    if header.orientation != 1:
        found.append(Finding("image-turned", path, "", f"orientation {header.orientation}"))
    real = (pixels.shape[1], pixels.shape[0])
    if sample.size != real:
        code = "size-turned" if sample.size == (real[1], real[0]) else "size-differs"
        found.append(Finding(code, path, "", f"{sample.size}, not {real}"))
    for name, (start, endings) in _STARTS.items():
        if data.startswith(start) and "." in path and not path.lower().endswith(endings) and "#" not in path:
            found.append(Finding("ending-untrue", path, "", f"it is {name}"))
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16)
    digest.update(repr(pixels.shape).encode())
    return _Seen(digest.digest(), found)
