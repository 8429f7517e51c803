"""What a file holds that is offered as weights: file kinds by their first bytes, and types of arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

PARAMS_MAGIC = b"\x12\x01\0\0\0\0\0\0"
"""First bytes of MXNet parameter files: kMXAPINDArrayListMagic, src/ndarray/ndarray.cc."""

START = 512
"""Bytes that `describe_file` looks at; the mark of a tar archive is at 257."""

_READABLE = (".params", ".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")
_EXPECTED = "expected MXNet's .params, or .safetensors or .pth"

# (offset, first bytes there, what the file is and what to do)
_MAGIC = (
    (
        0,
        b"mnssd checkpoint",
        "the training state of a run, for --resume; give best.params of the same folder",
    ),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as of Keras; it cannot be converted"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it and give the file in it"),
    (0, b"BZh", "a bzip2 archive; unpack it and give the file in it"),
    (0, b"\xfd7zXZ\0", "an xz archive; unpack it and give the file in it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it and give the file in it"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive; unpack it and give the file in it"),
    (257, b"ustar", "a tar archive; unpack it and give the file in it"),
    (4, b"TFL3", "a TensorFlow Lite model; make a run of it with: mnssd import FILE"),
    (0, b"GGUF", "a GGUF model; it cannot be converted"),
    (0, b"version https://git-lfs", "a pointer of Git LFS instead of the file; run `git lfs pull`"),
    (0, b"model_checkpoint_path:", "a list of TensorFlow checkpoints; they cannot be converted"),
    (0, b"<?xml", "an XML file; make a run of an OpenVINO network with: mnssd import FILE"),
    (0, b"\x93NUMPY", "a NumPy array; weights need names"),
)

_SUFFIXES = {
    ".onnx": "an ONNX model; it cannot be converted",
    ".pb": "a TensorFlow graph; make a run of it with: mnssd import FILE",
    ".index": "the index of a TensorFlow checkpoint; it cannot be converted",
    ".meta": "the graph of a TensorFlow checkpoint; it cannot be converted",
    ".caffemodel": "a Caffe network; make a run of it with: mnssd import FILE",
    ".prototxt": "a Caffe network; make a run of it with: mnssd import FILE",
    ".mlmodel": "a Core ML model; it cannot be converted",
    ".weights": "a Darknet model; it cannot be converted",
}


class OtherContent(ValueError):
    """The file is sound, but holds something else than weights; the message says what, and what to do."""


def describe_file(path: str, start: bytes) -> str:
    """What a file is that no reader here knows, by its first bytes and its name."""
    if not start:
        return "an empty file; copy or download it again"
    for offset, magic, description in _MAGIC:
        if start[offset : offset + len(magic)] == magic:
            return description
    suffix = Path(path).suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if ".data-0" in Path(path).name:
        return "the data of a TensorFlow checkpoint; it cannot be converted"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a weights file; the download failed"
    if text.startswith((b"{", b"[")):
        return "a JSON file, without weights; give the weights file beside it"
    return f"no weights file of a known kind; {_EXPECTED}"


def describe_missing(path: str) -> Optional[str]:
    """What is wrong with a path that is no file; None if it is one."""
    if os.path.isfile(path):
        return None
    if os.path.isdir(path):
        names = sorted(os.listdir(path))
        if "saved_model.pb" in names:
            return "a TensorFlow SavedModel; it cannot be converted"
        files = [name for name in names if name.endswith(_READABLE)]
        best = [name for name in files if name == "best.params"] or files
        return f"a folder; give a file, such as {os.path.join(path, best[0])}" if best else "a folder"
    if os.path.exists(f"{path}.index"):
        return "a TensorFlow checkpoint; it cannot be converted"
    return "no such weights file"


def list_names(names: List[str], most: int = 8) -> str:
    """The first names, and the number of others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Float32 values of bfloat16 numbers, which are the upper halves of float32 numbers."""
    return (bits.astype("<u4") << 16).view("<f4")


def as_float32(arrays: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """The arrays with floating-point values as float32; others as they are."""
    return {
        name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in arrays.items()
    }


def require_floats(arrays: Dict[str, np.ndarray]) -> None:
    """Raise OtherContent if convolutions or matrices are integers: values of a quantized network."""
    for name, value in arrays.items():
        if value.ndim >= 2 and value.dtype.kind != "f":
            raise OtherContent(
                f"holds quantized weights ({name} is {value.dtype}); give the floating-point weights"
            )
