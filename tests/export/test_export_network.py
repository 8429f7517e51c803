"""Writing of exports: MXNet's files without mnssd, the sidecar, and failures that leave nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import CLASSES, SIZE, make_classifier, make_image, make_net, network_outputs

from mnssd.data.image import read_image, resize_for_network, to_network_input
from mnssd.errors import ExportError, ImageError, OptionError
from mnssd.export import write
from mnssd.export.formats import export_formats
from mnssd.export.options import ExportOptions
from mnssd.export.write import export_network
from mnssd.inference.detector import Detector
from mnssd.nn.spec import SCORE_FLOOR

# A program without mnssd, which takes everything from the sidecar.
PLAIN = """
import json, sys
sys.modules["mnssd"] = None  # importing it would now fail
import cv2, numpy as np, mxnet as mx

folder, sidecar_name, target, *images = sys.argv[1:]
sidecar = json.load(open(f"{folder}/{sidecar_name}"))
files, spec = sidecar["files"], sidecar["input"]
net = mx.gluon.SymbolBlock.imports(
    f"{folder}/{files['symbol']['file']}", [spec["name"]], f"{folder}/{files['params']['file']}"
)
planes = []
for image in images:
    pixels = cv2.cvtColor(cv2.imread(image), cv2.COLOR_BGR2RGB)
    pixels = cv2.resize(pixels, tuple(spec["size"]), interpolation=cv2.INTER_LINEAR)
    planes.append(((pixels * spec["scale"] - spec["mean"]) / spec["std"]).transpose(2, 0, 1))
x = mx.nd.array(np.stack(planes), dtype=spec["dtype"])
assert list(x.shape[1:]) == spec["shape"][1:]
out = [o.asnumpy() for o in net(x)]
assert [f"{n}" for n in net._cached_graph[1].list_outputs()] == [o["name"] for o in sidecar["outputs"]]
assert [list(o.shape[1:]) for o in out] == [o["shape"][1:] for o in sidecar["outputs"]]
np.savez(target, *out)
"""


def read_json(folder: Path, name: str = "pets") -> Dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text())


def sorted_rows(ids: np.ndarray, scores: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Detections of one image as (class, score, box), in an order that rounding does not change."""
    rows = np.hstack([ids, scores, boxes])[ids[:, 0] >= 0]
    return rows[np.lexsort([rows[:, 2].round(0), rows[:, 0]])]


@pytest.mark.parametrize("head", ["ssd", pytest.param("ssdlite", marks=pytest.mark.slow)])
def test_plain_mxnet_computes_the_same_detections(
    head: str, tiny_export: Path, tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path: Path
) -> None:
    net, exported = tiny_detector[0], tiny_export
    if head == "ssdlite":
        net, spec = make_net(1, head, "mobilenet_v1")
        exported = tmp_path / "lite"
        export_network(net, spec, exported, image_files, "pets")
    target = tmp_path / "outputs.npz"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", PLAIN, str(exported), "pets.json", str(target), *image_files[:3]]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    outputs = list(np.load(target).values())
    x = to_network_input([resize_for_network(read_image(path), SIZE) for path in image_files[:3]])
    expected = network_outputs(net, x)
    for i in range(3):
        theirs, ours = sorted_rows(*(a[i] for a in outputs)), sorted_rows(*(a[i] for a in expected))
        assert len(ours) > 20
        assert len(np.unique(ours[:, 0])) == len(CLASSES)
        np.testing.assert_array_equal(theirs[:, 0], ours[:, 0])
        np.testing.assert_allclose(theirs[:, 1], ours[:, 1], atol=1e-4)
        np.testing.assert_allclose(theirs[:, 2:], ours[:, 2:], atol=0.1)


def test_sidecar_describes_files_input_and_network(
    tiny_export: Path, tiny_detector: Tuple[Any, Any], image_files: List[str]
) -> None:
    net, spec = tiny_detector
    sidecar = read_json(tiny_export)
    assert (sidecar["format"], sidecar["schema_version"], sidecar["name"]) == ("mnssd-export", 2, "pets")
    kinds = {
        "symbol", "params", "onnx", "int8_symbol", "int8_params", "onnx_int8", "shared_symbol",
        "shared_params",
    }  # fmt: skip
    if not export_formats["openvino"].obstacle():
        kinds |= {"openvino_xml", "openvino_bin"}
    if not export_formats["tflite"].obstacle():
        kinds |= {"tflite", "tflite_fp16"}
    if not export_formats["ncnn"].obstacle():
        kinds |= {"ncnn_param", "ncnn_bin", "ncnn_fp16_param", "ncnn_fp16_bin"}
    assert set(sidecar["files"]) == kinds
    assert len(list(tiny_export.iterdir())) == len(kinds) + 1
    for entry in sidecar["files"].values():
        assert (tiny_export / entry["file"]).stat().st_size == entry["bytes"]
    assert sidecar["input"]["layout"] == "NCHW"
    assert sidecar["input"]["shape"] == [None, 3, SIZE[1], SIZE[0]]
    assert sidecar["classes"] == list(CLASSES)
    assert sidecar["detector"] == spec.as_dict()
    assert sidecar["symbol"]["weights"] == "float32"
    assert sidecar["thresholds"] == {
        "score": SCORE_FLOOR,
        "nms_iou": net.nms_thresh,
        "nms_candidates": net.nms_topk,
        "max_detections": net.post_nms,
    }
    assert sidecar["versions"]["mxnet"] == mx.__version__
    for engine in ("plain", "fused", "onnx"):
        figures = sidecar["parity"][engine]
        assert figures["images"] == len(image_files)
        assert figures["detections"] > 200
        assert 0 < figures["heads_max_difference"] < 1e-3
        assert figures["score_max_difference"] <= 1e-4
        assert figures["box_max_difference"] <= 0.1


def test_batchnorm_is_folded_and_heads_are_named(
    tiny_export: Path, tiny_detector: Tuple[Any, Any], image_files: List[str]
) -> None:
    symbol = mx.sym.load(str(tiny_export / "pets-symbol.json"))
    assert not [node for node in json.loads(symbol.tojson())["nodes"] if "BatchNorm" in node["op"]]
    assert symbol.list_auxiliary_states() == []
    inner, descriptions = symbol.get_internals(), read_json(tiny_export)["heads"]
    heads = mx.sym.Group([inner[head["name"]] for head in descriptions])
    block = mx.gluon.SymbolBlock(heads, [mx.sym.var("data", dtype="float32")])
    block.collect_params().load(str(tiny_export / "pets-0000.params"), ignore_extra=True)
    x = mx.nd.array(to_network_input([resize_for_network(read_image(image_files[0]), SIZE)]))
    for output, expected, head in zip(block(x), tiny_detector[0].heads(x), descriptions):
        assert list(output.shape[1:]) == head["shape"][1:]
        largest = float(expected.abs().max().asscalar())
        np.testing.assert_allclose(output.asnumpy(), expected.asnumpy(), rtol=0, atol=1e-4 * largest)


def test_nms_settings_are_exported(image_files: List[str], tmp_path: Path) -> None:
    net, spec = make_net()
    net.set_nms(0.3, 100, 7)
    export_network(net, spec, tmp_path / "e", image_files[:2], "pets")
    sidecar = read_json(tmp_path / "e")
    assert sidecar["thresholds"]["nms_iou"] == 0.3
    assert sidecar["outputs"][2]["shape"] == [None, 7, 4]


def test_pixel_input_and_float16_weights(
    tiny_detector: Tuple[Any, Any], tiny_export: Path, image_files: List[str], tmp_path: Path
) -> None:
    pixels, half = ExportOptions(pixels=True), ExportOptions(pixels=True, fp16_weights=True)
    expected = Detector.load(tiny_export)(image_files[0], score=0.3)
    sizes = {}
    for name, options in (("pixels", pixels), ("half", half)):
        exported = export_network(*tiny_detector, tmp_path / name, image_files, name, options)
        sizes[name] = exported.sidecar["files"]["params"]["bytes"]
        result = Detector.load(tmp_path / name)(image_files[0], score=0.3)
        assert abs(len(result) - len(expected)) <= 0.1 * len(expected)
        if name == "pixels":
            assert result.names == expected.names
            np.testing.assert_allclose(result.scores, expected.scores, atol=1e-3)
    assert sizes["half"] < 0.65 * sizes["pixels"]
    stem = tmp_path / "pixels" / "pixels"
    net = mx.gluon.SymbolBlock.imports(f"{stem}-symbol.json", ["pixels"], f"{stem}-0000.params")
    image = make_image(0, *SIZE)
    scores = net(mx.nd.array(image[None], dtype="uint8"))[1].asnumpy()
    direct = tiny_detector[0](mx.nd.array(to_network_input([image])))[1].asnumpy()
    np.testing.assert_allclose(scores, direct, atol=1e-4)


@pytest.mark.parametrize("name", ["symbol", pytest.param("int8", marks=pytest.mark.slow)])
def test_raw_heads_export_has_anchors_and_is_not_a_detector(
    name: str, tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path: Path
) -> None:
    options = ExportOptions((name,), raw_heads=True)
    exported = export_network(*tiny_detector, tmp_path / "raw", image_files[:3], "raw", options)
    assert exported.sidecar[name]["outputs"] == ["cls_preds_output", "box_preds_output"]
    assert len(exported.sidecar[name]["anchors"]) == len(tiny_detector[0].anchors)
    with pytest.raises(ExportError, match=r"raw\.json.*--raw-heads"):
        Detector.load(tmp_path / "raw")
    if name == "symbol":
        files = [str(path) for path in exported.paths[:2]]
        net = mx.gluon.SymbolBlock.imports(files[0], ["data"], files[1])
        x = mx.nd.array(to_network_input([make_image(0, *SIZE)]))
        for ours, theirs in zip(tiny_detector[0].heads(x), net(x)):
            np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), atol=1e-3)


def test_raw_heads_of_a_classifier_are_refused(image_files: List[str], tmp_path: Path) -> None:
    net, spec = make_classifier()
    with pytest.raises(OptionError, match="raw_heads"):
        export_network(net, spec, tmp_path / "e", image_files[:1], options=ExportOptions(raw_heads=True))


# ---- failures ----------------------------------------------------------------------------------------------


def change_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write weights that differ slightly from the network's."""
    save = mx.nd.save

    def damaged(path: str, arrays: Dict[str, mx.nd.NDArray]) -> None:
        key = next(key for key in arrays if key.endswith("_folded_weight"))
        save(path, {**arrays, key: arrays[key] * 1.01})

    monkeypatch.setattr(mx.nd, "save", damaged)


def change_nms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a graph with another threshold of non-maximum suppression."""
    save = mx.sym.Symbol.save

    def damaged(self: mx.sym.Symbol, path: str) -> None:
        text = self.tojson()
        assert '"overlap_thresh": "0.45"' in text
        save(mx.sym.load_json(text.replace('"overlap_thresh": "0.45"', '"overlap_thresh": "0.6"')), path)

    monkeypatch.setattr(mx.sym.Symbol, "save", damaged)


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail to write the last file."""

    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_sidecar", fails)


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize(
    ("fault", "error", "named"),
    [
        (change_weights, ExportError, r"image0\.jpg"),
        (change_nms, ExportError, r"image\d\.jpg.*class \d"),
        (fill_disk, OSError, "28"),
    ],
)
def test_failed_export_leaves_everything_unchanged(
    fault: Any,
    error: type,
    named: str,
    replaces: bool,
    tiny_detector: Tuple[Any, Any],
    image_files: List[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "pets"
    if replaces:
        export_network(*tiny_detector, folder, image_files[:1], "old")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    fault(monkeypatch)
    with pytest.raises(error, match=named):
        export_network(*tiny_detector, folder, image_files[:3], "new")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert len(list(tmp_path.iterdir())) == replaces


@pytest.mark.parametrize("options", [ExportOptions(), ExportOptions(fp16_weights=True)])
def test_nan_weights_are_refused(options: ExportOptions, image_files: List[str], tmp_path: Path) -> None:
    net, spec = make_net()
    net.heads.box_predictors[0].bias.set_data(mx.nd.full(net.heads.box_predictors[0].bias.shape, np.nan))
    with pytest.raises(ExportError, match=r"image0\.jpg"):
        export_network(net, spec, tmp_path / "e", image_files[:1], options=options)
    assert not list(tmp_path.iterdir())


def test_earlier_export_is_replaced_but_nothing_else(
    tiny_detector: Tuple[Any, Any], tiny_export: Path, image_files: List[str], tmp_path: Path
) -> None:
    folder = tmp_path / "e"
    shutil.copytree(tiny_export, folder)
    export_network(*tiny_detector, folder, image_files[:1], "second")
    assert {path.name for path in folder.iterdir()} == {
        "second-0000.params", "second-symbol.json", "second.json",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"e: holds notes\.txt"):
        export_network(*tiny_detector, folder, image_files[:1], "third")
    with pytest.raises(OptionError, match=r"notes\.txt"):
        export_network(*tiny_detector, folder / "notes.txt", image_files[:1])
    assert (folder / "second.json").exists()


def test_empty_folder_is_replaced(
    tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path: Path
) -> None:
    (tmp_path / "e").mkdir()
    export_network(*tiny_detector, tmp_path / "e", image_files[:1])
    assert (tmp_path / "e" / "detector.json").exists()


@pytest.mark.parametrize("name", ["a/b", "..", "-x", "ä", "a b"])
def test_invalid_names_are_refused(
    name: str, tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=repr(name)):
        export_network(*tiny_detector, tmp_path / "e", image_files[:1], name)


def test_parity_images_are_required_and_must_be_readable(
    tiny_detector: Tuple[Any, Any], tmp_path: Path
) -> None:
    with pytest.raises(ExportError):
        export_network(*tiny_detector, tmp_path / "e", [])
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff no")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        export_network(*tiny_detector, tmp_path / "e", [tmp_path / "bad.jpg"])
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jpg"]
