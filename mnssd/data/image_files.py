"""Which files are images: by the ending of their names, or else by their first bytes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Callable, Iterator, List, NoReturn, Sequence, Union

from ..errors import DataError

IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jfif", ".jpe", ".jp2", ".j2k", ".jpf",
    ".jpx", ".j2c", ".jpc", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".tga", ".dib", ".ras", ".sr",
    ".sgi", ".pcx", ".qoi", ".mpo", ".apng",
)  # fmt: skip
"""Endings of image files that `read_image` reads, in order of preference."""

UNREADABLE_ENDINGS = (
    ".heic", ".heif", ".hif", ".jxl", ".jxr", ".wdp", ".jls", ".dds", ".svg", ".svgz", ".psd", ".psb",
    ".xcf", ".exr", ".hdr",
    ".pam", ".pfm", ".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf",
    ".rw2", ".raf", ".pef", ".srw", ".3fr", ".iiq", ".x3f", ".dcm", ".dicom", ".nii", ".ecw", ".djvu",
)  # fmt: skip
"""Endings of image files that `read_image` does not read."""

_OTHER_ENDINGS = frozenset((
    # annotations, lists, text
    ".txt", ".xml", ".json", ".jsonl", ".ndjson", ".geojson", ".csv", ".tsv", ".yaml", ".yml", ".rec",
    ".lst", ".idx", ".names", ".data", ".cfg", ".ini", ".toml", ".md", ".rst", ".html", ".htm", ".log",
    ".pbtxt", ".tfrecord", ".xls", ".xlsx", ".ods", ".doc", ".docx", ".pdf", ".tex", ".eps", ".ai",
    ".ico", ".cur",
    # code, arrays, weights, databases, archives, videos
    ".py", ".pyc", ".ipynb", ".sh", ".bat", ".m", ".js", ".css", ".c", ".h", ".cpp", ".npy", ".npz",
    ".mat", ".pkl", ".pickle", ".h5", ".hdf5", ".parquet", ".pt", ".pth", ".onnx", ".params", ".ckpt",
    ".weights", ".caffemodel", ".pb", ".tflite", ".db", ".sqlite", ".mdb", ".cache", ".lock", ".zip",
    ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".mp4", ".avi", ".mov", ".mkv", ".webm",
    ".m4v", ".mpg", ".mpeg", ".wmv", ".mp3", ".wav", ".aae", ".thm", ".xmp",
    # backups, incomplete downloads, the image cache
    ".bak", ".orig", ".old", ".tmp", ".part", ".crdownload", ".swp", ".rgb", ".split",
))  # fmt: skip

_COMPANIONS = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", "picasa.ini"})
_COMPANION_FOLDERS = frozenset(
    {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
)

_IMAGE_START = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF.{4}WEBP|II[*+]\0|MM\0[*+]|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0"
    rb"|\0\0\0\x0cjP  |\xffO\xffQ|.{4}ftypavi[fs]|P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+\d+|\x59\xa6\x6a\x95|qoif",
    re.DOTALL,
)
_UNREADABLE_STARTS = (
    ("Xcode's PNG (CgBI)", re.compile(rb"\x89PNG\r\n\x1a\n....CgBI", re.DOTALL)),
    ("HEIC", re.compile(rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)),
    ("JPEG XL", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("PSD", re.compile(rb"8BPS")),
    ("OpenEXR", re.compile(rb"\x76\x2f\x31\x01")),
    ("Radiance HDR", re.compile(rb"#\?(RADIANCE|RGBE)")),
    ("PAM", re.compile(rb"P7\n")),
    ("PFM", re.compile(rb"P[Ff]\s")),
    ("JPEG XR", re.compile(rb"II\xbc[\0\x01]")),
    ("DDS", re.compile(rb"DDS \x7c\0\0\0")),
    ("SVG", re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<!DOCTYPE svg[^>]*>\s*)*<svg\b", re.DOTALL)),
)
_START_BYTES = 256

DRAWING_MARK = b"drawn by mnssd detect"
"""In drawings by `mnssd detect`: the EXIF tag Software of images, an unused box at the end of MP4 files."""

_EDGE = 4096  # bytes at both ends of a file that are searched for the mark
_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1a]")  # control characters


def is_image_file(path: Union[str, Path]) -> bool:
    """Whether a file is an image that `read_image` may read.

    Known endings decide, in any case. Files without an ending or with an unknown one are opened, and are
    images if they start as one. Companion files of systems, such as ``._a.jpg`` and ``Thumbs.db``, are none.
    """
    return _is_kind(path, IMAGE_ENDINGS, (), lambda start: bool(_IMAGE_START.match(start)))


def is_unreadable_image(path: Union[str, Path]) -> bool:
    """Whether a file is an image of a kind that `read_image` does not read, such as HEIC."""
    return _is_kind(path, UNREADABLE_ENDINGS, IMAGE_ENDINGS, lambda start: bool(unreadable_kind(start)))


def _is_kind(
    path: Union[str, Path], endings: Sequence[str], others: Sequence[str], starts: Callable[[bytes], bool]
) -> bool:
    """Whether the ending is in `endings`, or tells nothing and the first bytes pass `starts`."""
    name = os.path.basename(path)
    ending = _ending(name)
    if _is_companion(name) or ending in others:
        return False
    return ending in endings or (not _is_other(name, ending) and starts(_first_bytes(path)))


def unreadable_kind(data: bytes) -> str:
    """Name of the kind of image that starts with `data`, if `read_image` does not read it; else empty."""
    return next((kind for kind, start in _UNREADABLE_STARTS if start.match(data)), "")


def is_unknown_file(path: Union[str, Path]) -> bool:
    """Whether neither the name nor the first bytes tell what a file is; text without an ending is known."""
    name = os.path.basename(path)
    ending = _ending(name)
    if _is_companion(name) or _is_other(name, ending) or ending in IMAGE_ENDINGS:
        return False
    start = _first_bytes(path)
    is_image = bool(_IMAGE_START.match(start) or unreadable_kind(start))
    return not is_image and (bool(ending) or bool(_NO_TEXT.search(start)))


def is_drawing(path: Union[str, Path]) -> bool:
    """Whether `mnssd detect` has drawn the image or video, so that it is no input."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            edges = file.read(_EDGE)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _EDGE))
            return DRAWING_MARK in edges or DRAWING_MARK in file.read()
    except (OSError, ValueError):
        return False


def refuse_folder(error: OSError) -> NoReturn:
    """Raise the DataError of a folder that cannot be read."""
    raise DataError(
        f"{error.filename}: folder cannot be read ({error.strerror}); change its permissions, or move it away"
    ) from error


def names_in(folder: Union[str, Path]) -> List[str]:
    """Sorted names of what is in a folder, none if it does not exist; DataError if it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        refuse_folder(error)


def files_below(
    folder: Union[str, Path],
    follow_links: bool = False,
    on_error: Callable[[OSError], object] = refuse_folder,
) -> Iterator[str]:
    """Paths of all files in a folder and its subfolders, sorted within each folder.

    Hidden folders and those that systems add, such as ``__MACOSX``, are left out. `on_error` is called with
    the error of each folder that cannot be read (its `filename`); by default it raises DataError. If it
    returns, the other folders are read.
    """

    def report(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):  # no folder, thus no files
            on_error(error)

    for place, folders, names in os.walk(folder, onerror=report, followlinks=follow_links):
        folders[:] = sorted(name for name in folders if not _is_companion_folder(name))
        for name in sorted(names):
            yield os.path.join(place, name)


def image_files_below(
    folder: Union[str, Path],
    follow_links: bool = False,
    on_error: Callable[[OSError], object] = refuse_folder,
) -> Iterator[str]:
    """Those of `files_below` that are images."""
    return filter(is_image_file, files_below(folder, follow_links, on_error))


def _ending(name: str) -> str:
    return os.path.splitext(name.rstrip())[1].lower()


def _is_companion(name: str) -> bool:
    return name.startswith("._") or name.lower() in _COMPANIONS


def _is_companion_folder(name: str) -> bool:
    return name.startswith(".") or name.lower() in _COMPANION_FOLDERS


def _is_other(name: str, ending: str) -> bool:
    """Whether the name tells that the file is no image."""
    return ending in _OTHER_ENDINGS or ending in UNREADABLE_ENDINGS or name.endswith(("~", "_original"))


def _first_bytes(path: Union[str, Path]) -> bytes:
    if not os.path.isfile(path):  # a pipe would block
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(_START_BYTES)
    except (OSError, ValueError):
        return b""
