"""Damaged files of ncnn exports, and files of other networks, are refused before ncnn reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Tuple

import numpy as np
import pytest
from helpers.detectors import SIZE, make_image, random_network
from helpers.layer_exports import copy_files, export_small, replace_file

pytest.importorskip("ncnn")

from mnssd import zoo
from mnssd.errors import ExportError
from mnssd.export.ncnn_check import check_files
from mnssd.export.ncnn_file import (
    NcnnLayer,
    to_param,
)
from mnssd.export.options import ExportOptions
from mnssd.export.write import export_network
from mnssd.inference.detector import Detector

PARAM, BIN = "x.ncnn.param", "x.ncnn.bin"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Any, Any, Path]:
    """A detector and its export in both formats; not to be modified."""
    return export_small(tmp_path_factory.mktemp("ncnn") / "e", "mobilenet_v2", ("ncnn", "ncnn-fp16"))


@pytest.fixture
def copy(exported: Any, tmp_path: Path) -> Path:
    return copy_files(exported[2], tmp_path / "copy")


@pytest.mark.parametrize("name", [PARAM, BIN, "x-fp16.ncnn.param", "x-fp16.ncnn.bin"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "text", "longer"])
def test_damaged_files_are_refused(name: str, damage: str, copy: Path) -> None:
    content = (copy / name).read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()
    damaged = {
        "cut": content[: len(content) // 2], "empty": b"", "noise": content[:8] + noise, "text": b"hello",
        "longer": content + b"0000",
    }[damage]  # fmt: skip
    replace_file(copy, name, damaged)
    with pytest.raises(ExportError, match=name):
        Detector.load(copy, engine="ncnn-fp16" if "fp16" in name else "ncnn")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("7767517", "7767518"), ("0=96 1=96 2=3", "0=96 1=96 2=4"), (" 5=1 ", " 5=0 "), (" 3=2 ", " 3=0 "),
        (" 4=1 ", " 4=-1 "), (" 4=1 ", " 4=999999999 "), ("0=0\n", "0=1\n"), ("9=3", "9=2"),
        ("-23310=2,0.0,6.0", "-23310=2,0.0,7.0"), ("-23310=2,0.0,6.0", "-23310=99999999,0.0,6.0"),
        ("Convolution ", "Deconvolution "), ("ConvolutionDepthWise ", "Convolution "),
        (" 1 1 ", " 9999999 1 "), (" 1 1 ", " -1 1 "), (" 7=", " 7=1"),
        ("BinaryOp", "Binary\tOp"), ("pixels data", "pixels pixels"),
        ("Input pixels", "Input pix\0els"), ("Permute", "Permute\n"), ("Split", "Flip"), ("0=3\n", "0=3.0\n"),
        ("MemoryData", "Input"), ("anchors 0=4", "anchors 0=5"),
        ("Scale data 1 1 pixels data", "Scale data 1 1 other data"), ("0=3 1=1\n", "0=3 1=0\n"),
    ],
)  # fmt: skip
def test_damaged_lines_are_refused(old: str, new: str, copy: Path) -> None:
    """ncnn ends the process on some of these, and computes something else on others."""
    text = (copy / PARAM).read_text()
    if old == "0=96 1=96 2=3":
        old = f"0={SIZE[0]} 1={SIZE[1]} 2=3"
    assert old in text
    replace_file(copy, PARAM, text.replace(old, new, 1).encode())
    with pytest.raises(ExportError, match=PARAM):
        Detector.load(copy, engine="ncnn")


def test_tensors_larger_than_memory_are_refused() -> None:
    values = {0: 10**6, 1: 1, 11: 1, 3: 1, 13: 1, 4: 10**6, 14: 10**6, 5: 1, 6: 3 * 10**6}
    layers = [
        NcnnLayer("Input", "pixels", (), ("pixels",), {0: 8, 1: 8, 2: 3}),
        NcnnLayer("Convolution", "c", ("pixels",), ("c",), values),
    ]
    with pytest.raises(ValueError, match="size of layer c"):
        check_files(to_param(layers), b"", "float32", (8, 8), {})


def test_a_missing_file_and_a_changed_file_are_refused(copy: Path) -> None:
    content = bytearray((copy / BIN).read_bytes())
    content[-100] ^= 1
    (copy / BIN).write_bytes(bytes(content))
    with pytest.raises(ExportError, match=BIN):
        Detector.load(copy, engine="ncnn")
    (copy / BIN).unlink()
    with pytest.raises(ExportError, match=BIN):
        Detector.load(copy, engine="ncnn")


def test_weights_of_the_other_type_are_refused(copy: Path) -> None:
    replace_file(copy, BIN, (copy / "x-fp16.ncnn.bin").read_bytes())
    with pytest.raises(ExportError, match=BIN):
        Detector.load(copy, engine="ncnn")


@pytest.mark.parametrize("other", [{"size": (96, 96)}, {"classes": ("a", "b")}], ids=["size", "classes"])
def test_files_of_another_network_are_refused(other: Any, exported: Any, copy: Path, tmp_path: Path) -> None:
    spec = zoo.DetectorSpec(**{**vars(exported[1]), **other})
    images = [make_image(0, *SIZE)]
    export_network(random_network(spec), spec, tmp_path / "o", images, "x", ExportOptions("ncnn"))
    for name in (PARAM, BIN):
        replace_file(copy, name, (tmp_path / "o" / name).read_bytes())
    with pytest.raises(ExportError, match=PARAM):
        Detector.load(copy, engine="ncnn")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("anchors", [[1, 2, 3]]), ("anchors", "none"), ("scores", "mean"), ("scores", None),
        ("anchors", [[1, 2, 3, 4]] * 10), ("outputs", ["cls_preds"]), ("outputs", ["box_preds", "cls_preds"]),
        ("outputs", [["cls_preds"], "box_preds"]),
    ],
)  # fmt: skip
def test_damaged_descriptions_are_refused(key: str, value: Any, copy: Path) -> None:
    sidecar = json.loads((copy / "x.json").read_text())
    sidecar["ncnn"][key] = value
    (copy / "x.json").write_text(json.dumps(sidecar))
    with pytest.raises(ExportError, match=r"x\.(ncnn\.param|json)"):
        Detector.load(copy, engine="ncnn")
