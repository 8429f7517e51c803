"""The JSON file beside an export: everything somebody needs to run it without this package.

Schema 2 (1 had no sections ``symbol``, ``int8`` and ``onnx_int8``):

- ``name``; ``task``: ``detection`` (also where it is absent) or ``classification``
- ``files``: name, size and SHA-256 of each, by kind: ``symbol`` and ``params``, MXNet's; ``onnx``; and in 8
  bits ``int8_symbol``, ``int8_params`` and ``onnx_int8``
- ``input``: name, layout, dtype, shape (null for the batch), channels, size, how pixels become numbers
- ``outputs``, ``heads``: name in MXNet's graph, shape and meaning of each tensor
- ``symbol``, ``onnx``, ``int8``, ``onnx_int8``, of the formats that are there: ``input``, its own;
  ``outputs``, its own tensors, which mean what ``outputs`` do, or ``heads``, in this order; where it answers
  a detector's heads, the ``anchors``; of MXNet's ``weights``, the type in the file (see `export.packing`); of
  ONNX the ``opset``; of 8 bits the ``calibration``: method, and on how many images
- ``classes``; ``versions``
- of a detector ``boxes``: their coordinates; ``thresholds`` of the score and of non-maximum suppression;
  ``detector``: the structure (`zoo.DetectorSpec`), null where not known
- of a classifier ``classifier``: the structure (`zoo.ClassifierSpec`)
- ``comparison``: with the network, before the export was declared good (`export.parity`)
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..data.image import IMAGENET_MEAN, IMAGENET_STD
from ..errors import ExportError

FORMAT = "mnssd-export"
SCHEMA_VERSION = 2

INPUT_NAME = "data"
PIXELS_NAME = "pixels"
"""Of the input of a network that takes floats, and of one that takes pixels as they are."""

FORMATS = {
    "symbol": ("symbol", "params"),
    "onnx": ("onnx",),
    "int8": ("int8_symbol", "int8_params"),
    "onnx_int8": ("onnx_int8",),
}
"""The kinds of files of each format, by the name of its section. An export may hold any of the formats."""

Size = Tuple[int, int]


class Task(NamedTuple):
    """How an export for a task is called, and what runs it."""

    noun: str
    use: str


TASKS = {
    "detection": Task("detector", "mnssd detect or mnssd.inference.detector.Detector"),
    "classification": Task("classifier", "mnssd classify or mnssd.inference.classifier.Classifier"),
}


def describe_input(size: Size, central_part: Optional[float] = None) -> Dict[str, Any]:
    """The ``input`` section for a network of this ``(width, height)``.

    A classifier looks at the `central_part` of each side, see `data.classification.transforms.val_transform`.
    """
    resize: Dict[str, Any]
    if central_part is None:
        resize = {"resize": "bilinear to exactly this width and height, proportions not kept"}
    else:
        resize = {
            "central_part": central_part,
            "resize": "the central part of each side to exactly this width and height, proportions not kept;"
            " area averaging where both sides shrink, else bilinear",
        }
    return {
        "name": INPUT_NAME,
        "layout": "NCHW",
        "dtype": "float32",
        "shape": [None, 3, size[1], size[0]],
        "channels": "RGB",
        "size": list(size),
        **resize,
        "scale": 1 / 255,
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "pixel": "(value * scale - mean) / std",
    }


def describe_own_input(size: Size, takes_pixels: bool) -> Dict[str, Any]:
    """The ``input`` of a format's section; of floats it is as the general ``input`` section says."""
    if not takes_pixels:
        return {
            "name": INPUT_NAME,
            "layout": "NCHW",
            "dtype": "float32",
            "shape": [None, 3, size[1], size[0]],
        }
    return {"name": PIXELS_NAME, "layout": "NHWC", "dtype": "uint8", "shape": [None, size[1], size[0], 3]}


def describe_file(path: Path) -> Dict[str, Any]:
    """Name, size in bytes and SHA-256 of a file of the export."""
    content = path.read_bytes()
    return {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_sidecar(path: Path, sidecar: Mapping[str, Any]) -> None:
    """Write the JSON. The folder it goes into is not yet visible, so plain writing will do."""
    path.write_text(json.dumps(sidecar, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def find_sidecars(folder: Path) -> List[Path]:
    """The sidecars in a folder, by their content; none when it is no export."""
    return [path for path in sorted(folder.glob("*.json")) if _parse(path) is not None]


def read_sidecar(path: Path) -> Dict[str, Any]:
    """Read and check a sidecar.

    Raises
    ------
    ExportError
        When it is missing, damaged, of another version, or describes an input that this version does
        not make: running it all the same would give wrong answers.
    """
    sidecar = _parse(path)
    if sidecar is None:
        raise ExportError(f"{path}: not the JSON file of an export by mnssd; export it again")
    version = sidecar.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ExportError(
            f"{path}: written in version {version} of the schema, this mnssd reads {SCHEMA_VERSION};"
            " use the mnssd that wrote it, or export it again"
        )
    sidecar.setdefault("task", "detection")
    try:
        part = sidecar["input"].get("central_part")
        classes, size = sidecar["classes"], tuple(sidecar["input"]["size"])
        files = [entry["file"] for entry in sidecar["files"].values()]
        sound = (
            isinstance(classes, list)
            and len(classes) > 0
            and all(isinstance(name, str) for name in [*classes, *files])
            and all(Path(name).name == name and "\0" not in name for name in files)
            and _are_formats(sidecar, (size[0], size[1]))
            and all(isinstance(entry["sha256"], str) for entry in sidecar["files"].values())
            and len(size) == 2
            and sidecar["input"] == describe_input((size[0], size[1]), part)
            and sidecar["task"] in TASKS
            and ((part is None) if sidecar["task"] == "detection" else _is_part(part))
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ExportError(f"{path}: damaged ({error!r}); export it again") from error
    if not sound:
        raise ExportError(f"{path}: describes an export that this mnssd did not write; export it again")
    return sidecar


def read_export(folder: Path) -> Tuple[Path, Dict[str, Any]]:
    """The one sidecar of an export folder, with every file it names checked against its checksum.

    Raises
    ------
    ExportError
        When there is none, or more than one; and for a file that is missing or damaged.
    """
    found = find_sidecars(folder)
    if not found:
        raise ExportError(f"{folder}: holds no export (no JSON file of one); make one with: mnssd export RUN")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ExportError(f"{folder}: holds more than one export ({names}); give each a folder of its own")
    sidecar = read_sidecar(found[0])
    for entry in sidecar["files"].values():
        path = folder / entry["file"]
        try:
            actual = describe_file(path)
        except OSError as error:
            raise ExportError(f"{path}: {error.strerror}; {found[0].name} names it; export again") from error
        if actual["sha256"] != entry["sha256"]:
            raise ExportError(f"{path}: damaged or changed (its checksum is another); export it again")
    return found[0], sidecar


def _are_formats(sidecar: Mapping[str, Any], size: Size) -> bool:
    """Whether the files are those of one or more formats, each whole and with a section of its own."""
    kinds = set(sidecar["files"])
    formats = [name for name, needed in FORMATS.items() if kinds & set(needed)]
    whole = kinds == {kind for name in formats for kind in FORMATS[name]}
    return bool(formats) and whole and all(_is_section(sidecar[name], size) for name in formats)


def _is_section(section: Any, size: Size) -> bool:
    inputs = [describe_own_input(size, takes_pixels) for takes_pixels in (False, True)]
    names = section["outputs"]
    return section["input"] in inputs and isinstance(names, list) and all(isinstance(n, str) for n in names)


def _is_part(value: Any) -> bool:
    return isinstance(value, float) and 0 < value <= 1


def _parse(path: Path) -> Optional[Dict[str, Any]]:
    """The JSON if it claims to be a sidecar, else None."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.get("format") == FORMAT else None
