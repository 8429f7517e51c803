"""The sidecar: a JSON file beside an export, with everything needed to run it without this package.

- ``name``; ``task``; ``classes``; ``versions``
- ``files``: name, size and SHA-256 of each file, by kind (`ExportFormat.files`)
- ``input``: name, layout, dtype, shape (null for the batch), channels, size, normalization
- ``outputs``, ``heads``: name in MXNet's graph, shape and meaning of each tensor
- one section per format (`ExportFormat.section`): its own ``input``; ``outputs``, names of its tensors in
  the order of ``outputs`` above, or of ``heads`` if it ends with a detector's heads, then the ``anchors``;
  ``scores``, the function that makes class scores of the logits, if the engine decodes the heads;
  ``weights``, their type in the files (see `export.packing`); ``opset`` of ONNX; ``runtime`` of web
  pages; ``bits`` and ``huffman`` of shared weights; ``bits`` of the weights of ONNX in 8-bit integers, 8 if
  absent; ``calibration`` of 8-bit formats: method and number of images
- for a detector ``boxes``, their coordinates; ``thresholds`` of the score and of non-maximum suppression
- ``detector`` or ``classifier``: the structure, as `zoo.DetectorSpec` or `zoo.ClassifierSpec`
- ``parity``: figures of the parity check (`export.parity`)
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ..errors import ExportError
from ..imagenet import IMAGENET_MEAN, IMAGENET_STD
from ..options import Size
from .formats import by_priority

FORMAT = "mnssd-export"
SCHEMA_VERSION = 2

INPUT_NAME, PIXELS_NAME = "data", "pixels"
"""Names of an input of normalized floats and of uint8 pixels."""


class Task(NamedTuple):
    """What an export for a task is called, and what runs it."""

    noun: str
    use: str


TASKS = {
    "detection": Task("detector", "mnssd detect or mnssd.Detector"),
    "classification": Task("classifier", "mnssd classify or mnssd.Classifier"),
}


def describe_input(size: Size, central_part: Optional[float] = None) -> Dict[str, Any]:
    """The ``input`` section for a network of this ``(width, height)``.

    A classifier sees the `central_part` of each side; see `data.classification.transforms.val_transform`.
    """
    resize: Dict[str, Any] = {"resize": "bilinear to exactly this width and height, proportions not kept"}
    if central_part is not None:
        resize = {
            "central_part": central_part,
            "resize": "the central part of each side to exactly this width and height, proportions not kept;"
            " area averaging where both sides shrink, else bilinear",
        }
    return {
        **describe_format_input(size, False),
        "channels": "RGB",
        "size": list(size),
        **resize,
        "scale": 1 / 255,
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "pixel": "(value * scale - mean) / std",
    }


def describe_tensor(name: str, shape: Sequence[int], holds: str, **details: Any) -> Dict[str, Any]:
    """An entry of ``outputs`` or ``heads``; `shape` is without the batch axis."""
    return {"name": f"{name}_output", "shape": [None, *shape], "holds": holds, **details}


def describe_format_input(size: Size, pixels: bool, channels_last: bool = False) -> Dict[str, Any]:
    """The ``input`` of a format's section: normalized floats, or uint8 pixels."""
    width, height = size
    if pixels:
        return {"name": PIXELS_NAME, "layout": "NHWC", "dtype": "uint8", "shape": [None, height, width, 3]}
    if channels_last:
        return {"name": INPUT_NAME, "layout": "NHWC", "dtype": "float32", "shape": [None, height, width, 3]}
    return {"name": INPUT_NAME, "layout": "NCHW", "dtype": "float32", "shape": [None, 3, height, width]}


def describe_planes(size: Size) -> Dict[str, Any]:
    """The ``input`` of a format's section: RGB pixels from 0 to 255 as floats, one image."""
    width, height = size
    return {"name": PIXELS_NAME, "layout": "CHW", "dtype": "float32", "shape": [3, height, width]}


def takes_pixels(sidecar: Mapping[str, Any], section: str) -> bool:
    """Whether the input of a format is pixels."""
    return bool(sidecar[section]["input"]["name"] == PIXELS_NAME)


def may_saturate(sidecar: Mapping[str, Any], section: str) -> bool:
    """Whether sums of the 8-bit integers of a format may saturate on processors without VNNI.

    There two products are added in 16 bits, into which those with weights of 7 bits fit.
    """
    return int(sidecar[section].get("bits", 8)) > 7


def describe_file(path: Path) -> Dict[str, Any]:
    """Name, size in bytes and SHA-256 of a file."""
    content = path.read_bytes()
    return {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_sidecar(path: Path, sidecar: Mapping[str, Any]) -> None:
    """Write the JSON; its folder is still temporary, so this need not be atomic."""
    path.write_text(json.dumps(sidecar, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def find_sidecars(folder: Path) -> List[Path]:
    """The sidecars in a folder, recognized by their content."""
    return [path for path in sorted(folder.glob("*.json")) if _parse(path) is not None]


def folder_of_file(path: Path) -> Optional[Path]:
    """The folder of a file that belongs to an export; None for others."""
    endings = (".json", *(ending for entry in by_priority() for ending in entry.files.values()))
    may_belong = path.name.endswith(endings) and path.is_file()  # else large files beside it are not read
    for sidecar in find_sidecars(path.parent) if may_belong else []:
        files = (_parse(sidecar) or {}).get("files")
        entries = files.values() if isinstance(files, dict) else []
        names = [entry.get("file") for entry in entries if isinstance(entry, dict)]
        if path.name in [sidecar.name, *names]:
            return path.parent
    return None


def read_sidecar(path: Path) -> Dict[str, Any]:
    """Read and check a sidecar.

    Raises
    ------
    ExportError
        If it is missing, damaged, of another version, or describes an input that this version does not
        produce: running it anyway would give wrong results.
    """
    sidecar = _parse(path)
    if sidecar is None:
        raise ExportError(f"{path}: not the sidecar of an export; export it again")
    version = sidecar.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ExportError(
            f"{path}: schema version {version}, expected {SCHEMA_VERSION}; use the mnssd that wrote it, or"
            " export it again"
        )
    try:
        is_valid = _is_valid(sidecar)
        unknown = set(sidecar["files"]) - {kind for entry in by_priority() for kind in entry.files}
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ExportError(f"{path}: damaged ({error!r}); export it again") from error
    if unknown:
        raise ExportError(
            f"{path}: file kind {min(unknown)!r} belongs to no known export format; load its plugin with"
            " --plugin FILE, or export it again"
        )
    if not is_valid:
        raise ExportError(f"{path}: describes an export that this mnssd did not write; export it again")
    return sidecar


def read_export(folder: Path) -> Tuple[Path, Dict[str, Any]]:
    """Path and content of the sidecar of an export folder, with the checksums of all files verified.

    Raises
    ------
    ExportError
        If there is no sidecar or more than one, or a file is missing or damaged.
    """
    sidecars = find_sidecars(folder)
    if not sidecars:
        raise ExportError(f"{folder}: no export (no sidecar); make one with: mnssd export RUN")
    if len(sidecars) > 1:
        names = ", ".join(path.name for path in sidecars)
        raise ExportError(f"{folder}: more than one export ({names}); give each a folder of its own")
    sidecar = read_sidecar(sidecars[0])
    for entry in sidecar["files"].values():
        path = folder / entry["file"]
        try:
            actual = describe_file(path)
        except OSError as error:
            raise ExportError(
                f"{path}: {error.strerror}; {sidecars[0].name} lists it; export again"
            ) from error
        if actual["sha256"] != entry["sha256"]:
            raise ExportError(f"{path}: damaged or changed (wrong checksum); export it again")
    return sidecars[0], sidecar


def _is_valid(sidecar: Mapping[str, Any]) -> bool:
    part = sidecar["input"].get("central_part")
    classes, (width, height) = sidecar["classes"], sidecar["input"]["size"]
    files = [entry["file"] for entry in sidecar["files"].values()]
    is_detector = sidecar["task"] == "detection"
    return (
        isinstance(classes, list)
        and len(classes) > 0
        and all(isinstance(name, str) for name in [*classes, *files])
        and all(Path(name).name == name and "\0" not in name for name in files)
        and _has_whole_formats(sidecar, (width, height))
        and all(isinstance(entry["sha256"], str) for entry in sidecar["files"].values())
        and sidecar["input"] == describe_input((width, height), part)
        and sidecar["task"] in TASKS
        and ((part is None) if is_detector else isinstance(part, float) and 0 < part <= 1)
    )


def _has_whole_formats(sidecar: Mapping[str, Any], size: Size) -> bool:
    """Whether the files are those of one or more formats, all files and a section of each."""
    kinds = set(sidecar["files"])
    formats = [entry for entry in by_priority() if kinds & set(entry.files)]
    complete = kinds == {kind for entry in formats for kind in entry.files}
    return bool(formats) and complete and all(_is_section(sidecar[entry.section], size) for entry in formats)


def _is_section(section: Any, size: Size) -> bool:
    inputs = [describe_format_input(size, *kind) for kind in ((False,), (True,), (False, True))]
    inputs.append(describe_planes(size))
    names = section["outputs"]
    return section["input"] in inputs and isinstance(names, list) and all(isinstance(n, str) for n in names)


def _parse(path: Path) -> Optional[Dict[str, Any]]:
    """The JSON if it claims to be a sidecar, else None."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None
