"""Checks that decode every image: damage, size, format and duplicates."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from ..data.annotations.annotation import size_mismatch
from ..data.annotations.paths import image_stem, referenced_files
from ..data.annotations.record_file import parse_record_image_path
from ..data.dataset import Dataset
from ..data.findings import Finding
from ..data.image import decode_image, read_bytes
from ..data.image_files import IMAGE_ENDINGS, files_below, is_unknown_file, is_unreadable_image
from ..data.image_header import read_header
from ..data.prefetch import prefetch
from ..data.sample import Sample
from ..errors import ImageError

_AHEAD = 64  # images decoded before their results are used; bounds the memory

_SIGNATURES = {
    "JPEG": (b"\xff\xd8\xff", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    "PNG": (b"\x89PNG\r\n\x1a\n", (".png", ".apng")),
    "BMP": (b"BM", (".bmp", ".dib")),
    "GIF": (b"GIF8", (".gif",)),
}
"""First bytes of a format, and its file name endings."""

_ANNOTATION_ENDINGS = (".xml", ".txt", ".json")  # with the name of one image


def check_images(
    parts: Mapping[str, Dataset],
    workers: int,
    duplicates: Dict[str, str],
    progress: Callable[[], object] = lambda: None,
) -> Iterator[Finding]:
    """Decode every image, with `workers` threads; `progress` is called after each.

    `duplicates` is filled with the path of each duplicate image and the path of the first one.
    """
    first: Dict[bytes, Tuple[str, str]] = {}
    reported: Set[str] = set()
    samples = ((name, sample) for name, dataset in parts.items() for sample in dataset)
    for name, path, digest, findings in prefetch(_check_image, samples, workers, _AHEAD):
        progress()
        if path not in reported:
            yield from findings
        reported.add(path)
        if digest is None:
            continue
        first_list, first_path = first.setdefault(digest, (name, path))
        if first_path == path:
            continue
        duplicates[path] = first_path
        if first_list == name:
            yield Finding("image-duplicate", path, "", f"same as {first_path}")
        else:
            yield Finding("image-in-two-lists", path, "", f"in {name}, and in {first_list} as {first_path}")


def _check_image(item: Tuple[str, Sample]) -> Tuple[str, str, Optional[bytes], List[Finding]]:
    """Check one image: name of its list, path, digest of the pixels (None if unreadable), findings."""
    name, sample = item
    path = sample.image_path
    try:
        data = read_bytes(path)
        header = read_header(data, path)
        pixels = decode_image(data, path)
    except ImageError as error:
        return name, path, None, [Finding("image-unreadable", path, "", str(error))]
    findings: List[Finding] = []
    if header.orientation != 1:
        findings.append(Finding("image-rotated", path, "", f"EXIF orientation {header.orientation}"))
    size = (pixels.shape[1], pixels.shape[0])
    if sample.size != size:
        code, _, text = size_mismatch(path, sample.size, size)
        findings.append(Finding(code, path, "", text))
    if os.path.splitext(path)[1].lower() in IMAGE_ENDINGS and parse_record_image_path(path) is None:
        for image_format, (signature, endings) in _SIGNATURES.items():
            if data.startswith(signature) and not path.lower().endswith(endings):
                findings.append(Finding("image-wrong-extension", path, "", f"the file is {image_format}"))
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16)
    digest.update(repr(pixels.shape).encode())
    return name, path, digest.digest(), findings


def unsupported_images(root: Path, parts: Mapping[str, Dataset]) -> Iterator[Finding]:
    """Findings about images of kinds that cannot be read, such as HEIC, and files of an unknown kind."""
    paths = list(files_below(root))
    yield from (Finding("file-unknown", path, "", "") for path in filter(is_unknown_file, paths))
    unsupported = list(filter(is_unreadable_image, paths))
    if not unsupported:
        return
    annotated = {image_stem(path) for path in paths if path.lower().endswith(_ANNOTATION_ENDINGS)}
    referenced = referenced_files(parts)
    for path in unsupported:
        is_annotated = image_stem(path) in annotated or os.path.realpath(path) in referenced
        code = "image-unsupported" if is_annotated else "image-unsupported-unannotated"
        yield Finding(code, path, "", "convert to JPEG or PNG")
