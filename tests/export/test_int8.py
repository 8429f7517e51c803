"""Exports in 8 bits and 16: what the engines answer, what is measured, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import SIZE, make_image, make_net, write_images, write_run

from mnssd.cli.main import main, run_command
from mnssd.data.image import to_network_input
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import ExportError, MnssdError, OptionError
from mnssd.export import quantization_check
from mnssd.export.detector import HEADS, export_detector
from mnssd.export.load import load_export
from mnssd.export.options import ENGINES, Formats
from mnssd.boxes import iou
from mnssd.export.quantization_check import INT8, QuantizationCheck
from mnssd.inference.detector import Detector

ALL = Formats(("symbol", "onnx", "int8", "onnx-int8"))


@pytest.fixture(scope="module")
def trained() -> Tuple[Any, Any]:
    return make_net()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> List[str]:
    return write_images(tmp_path_factory.mktemp("images"), 10)


@pytest.fixture(scope="module")
def exported(trained: Tuple[Any, Any], images: List[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "pets"
    export_detector(trained[0], folder, images, "pets", trained[1], ALL)
    return folder


# ---- exports -----------------------------------------------------------------------------------------------


def test_a_folder_with_everything(exported: Path) -> None:
    sidecar = json.loads((exported / "pets.json").read_text())
    kinds = {"symbol", "params", "onnx", "int8_symbol", "int8_params", "onnx_int8"}
    assert set(sidecar["files"]) == kinds
    assert set(sidecar["comparison"]) == {"plain", "fused", "onnx", "int8", "onnx_int8"}
    for kind in ("int8", "onnx_int8"):
        assert sidecar[kind]["calibration"] == {"method": "naive", "images": 10}
        assert sidecar["comparison"][kind]["images"] == 10
        assert sidecar["comparison"][kind]["cosine"] > 0.9
    assert sidecar["symbol"]["weights"] == "float32"
    bytes_of = {kind: entry["bytes"] for kind, entry in sidecar["files"].items()}
    assert bytes_of["int8_params"] < 0.35 * bytes_of["params"]


@pytest.mark.parametrize("engine", list(ENGINES))
def test_each_engine_finds_nearly_the_same(engine: str, exported: Path, images: List[str]) -> None:
    expected = Detector.load(exported)(images, score=0.6)
    found = Detector.load(exported, engine=engine)(images, score=0.3)
    sure = alike = 0
    for ours, theirs in zip(expected, found):
        for name, _, box in ours:
            sure += 1
            alike += any(
                other == name and iou(np.array(box), np.array(place)) > 0.5 for other, _, place in theirs
            )
    assert sure > 20
    assert alike >= (0.8 if "int8" in engine else 0.99) * sure


@pytest.mark.parametrize("engine", ["mxnet-int8", "onnxruntime-int8"])
def test_a_batch_answers_as_its_images_alone(engine: str, exported: Path) -> None:
    loaded = load_export(exported, "detection", mx.cpu(), engine, HEADS)
    assert loaded
    pixels = [make_image(i, *SIZE) for i in range(5)]
    together = loaded.engine(pixels)
    for i, image in enumerate(pixels):
        for whole, alone in zip(together, loaded.engine([image])):
            np.testing.assert_allclose(whole[i], alone[0], atol=1e-4)


@pytest.mark.parametrize("names", [("int8",), ("onnx-int8",)])
def test_eight_bits_alone_and_pixels(
    names: Tuple[str, ...], trained: Tuple[Any, Any], images: List[str], tmp_path: Path
) -> None:
    for pixels in (False, True):
        formats = Formats(names, pixels=pixels, calibration="percentile")
        export_detector(trained[0], tmp_path / str(pixels), images, "x", trained[1], formats)
    floats, levels = (Detector.load(tmp_path / str(p))(images[0], score=0.3) for p in (False, True))
    assert len(floats) > 2
    assert floats.names == levels.names
    np.testing.assert_allclose(floats.scores, levels.scores, atol=0.01)


def test_pixels_and_half_the_bits_of_symbol_files(
    trained: Tuple[Any, Any], images: List[str], tmp_path: Path
) -> None:
    plain = Formats()
    levels, half = Formats(pixels=True), Formats(pixels=True, fp16_weights=True)
    sizes = {}
    for name, formats in (("plain", plain), ("levels", levels), ("half", half)):
        exported = export_detector(trained[0], tmp_path / name, images, name, trained[1], formats)
        sizes[name] = exported.sidecar["files"]["params"]["bytes"]
        found = Detector.load(tmp_path / name)(images[0], score=0.3)
        if name == "plain":
            expected = found
        if name != "half":
            assert found.names == expected.names
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
        assert abs(len(found) - len(expected)) <= 0.1 * len(expected)
    assert sizes["half"] < 0.65 * sizes["levels"]
    start = tmp_path / "levels" / "levels"
    net = mx.gluon.SymbolBlock.imports(f"{start}-symbol.json", ["pixels"], f"{start}-0000.params")
    image = make_image(0, *SIZE)
    scores = net(mx.nd.array(image[None], dtype="uint8"))[1].asnumpy()
    direct = trained[0](mx.nd.array(to_network_input([image])))[1].asnumpy()
    np.testing.assert_allclose(scores, direct, atol=1e-4)


@pytest.mark.parametrize("name", ["symbol", "int8"])
def test_raw_heads_are_for_others(
    name: str, trained: Tuple[Any, Any], images: List[str], tmp_path: Path
) -> None:
    formats = Formats((name,), raw_heads=True)
    exported = export_detector(trained[0], tmp_path / "raw", images, "raw", trained[1], formats)
    assert exported.sidecar[name]["outputs"] == ["cls_preds_output", "box_preds_output"]
    assert len(exported.sidecar[name]["anchors"]) == len(trained[0].anchors)
    with pytest.raises(ExportError, match="raw heads"):
        Detector.load(tmp_path / "raw")
    if name == "symbol":
        files = [str(path) for path in exported.paths[:2]]
        net = mx.gluon.SymbolBlock.imports(files[0], ["data"], files[1])
        x = mx.nd.array(to_network_input([make_image(0, *SIZE)]))
        for ours, theirs in zip(trained[0].heads(x), net(x)):
            np.testing.assert_allclose(ours.asnumpy(), theirs.asnumpy(), atol=1e-3)


def test_a_missing_format_is_named(exported: Path, tmp_path: Path, trained: Tuple[Any, Any]) -> None:
    run = write_run(tmp_path / "run", *trained)
    for path, engine in ((run, "mxnet-int8"), (run, "onnxruntime-int8")):
        with pytest.raises(OptionError, match="mnssd export --format (onnx-)?int8"):
            Detector.load(path, engine=engine)
    with pytest.raises(OptionError, match="engine is auto or one of"):
        Detector.load(exported, engine="tensorrt")


# ---- agreement ---------------------------------------------------------------------------------------------


def answer(count: int) -> List[np.ndarray]:
    rng = np.random.default_rng(count)
    ids = rng.integers(0, 3, (1, count, 1)).astype(np.float32)
    scores = np.sort(rng.uniform(0.6, 1, (1, count, 1)), axis=1)[:, ::-1].astype(np.float32)
    corners = rng.uniform(0, 100, (1, count, 2))
    return [ids, scores, np.concatenate([corners, corners + 20], axis=2).astype(np.float32)]


def test_what_is_equal_agrees_and_what_is_swapped_does_not() -> None:
    ours = answer(30)
    same, other = QuantizationCheck(INT8), QuantizationCheck(INT8)
    same.add_detections(ours, ours)
    same.check()
    assert (same.confident, same.agreed, same.score_mean_difference) == (60, 60, 0)
    other.add_detections(ours, [(ours[0] + 1) % 3, *ours[1:]])
    with pytest.raises(ExportError, match="answers too differently.*--calibration"):
        other.check()


def test_few_answers_judge_nothing_but_heads_do() -> None:
    few = QuantizationCheck(INT8)
    ours = answer(5)
    few.add_detections(ours, [(ours[0] + 1) % 3, *ours[1:]])
    few.check()
    x = np.random.default_rng(0).normal(0, 1, (2, 50, 4))
    few.add_heads([x], [x + 0.01], ["a", "b"])
    few.check()
    few.add_heads([x], [x[:, ::-1]], ["a", "b"])
    with pytest.raises(ExportError, match="too differently"):
        few.check()


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (np.full((1, 4), np.nan), np.ones((1, 4)), "the network's own answer is not finite"),
        (np.ones((1, 4)), np.full((1, 4), np.nan), "the export's answer is not finite"),
        (np.ones((1, 4)), np.ones((1, 5)), "answers 5 numbers"),
    ],
)
def test_broken_heads_are_refused(ours: np.ndarray, theirs: np.ndarray, said: str) -> None:
    with pytest.raises(ExportError, match=f"photo: .*{said}"):
        QuantizationCheck(INT8).add_heads([ours], [theirs], ["photo"])


def test_classifiers_agree_by_their_first_guess() -> None:
    tally = QuantizationCheck(quantization_check.FLOAT16)
    tally.add_probabilities(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.8, 0.2], [0.6, 0.4]]))
    assert (tally.confident, tally.agreed) == (4, 2)


# ---- the commands ------------------------------------------------------------------------------------------


def test_the_command_calibrates_on_the_training_set(
    trained: Tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_shapes(tmp_path / "shapes", train=6, val=3, size=(96, 96))
    run = write_run(tmp_path / "run", *trained, dataset="shapes", data_root=str(tmp_path / "shapes"))
    arguments = [str(run), "--output", str(tmp_path / "out"), "--format", "symbol,int8", "--calibrate", "4"]
    assert run_command("export", arguments) == 0
    assert "int8: 3 images:" in capsys.readouterr().out
    sidecar = json.loads((tmp_path / "out" / "run.json").read_text())
    assert sidecar["int8"]["calibration"] == {"method": "naive", "images": 4}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--calibrate", "0"], "calibrate must be at least 1"),
        (["--format", "onnx", "--fp16-weights"], "fp16_weights is for symbol files"),
        (["--calibration", "guess"], "invalid choice"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: List[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["export", str(tmp_path), "--output", str(tmp_path / "x"), *arguments]) != 0
    assert said in capsys.readouterr().err


def test_bench_puts_them_side_by_side(
    exported: Path, trained: Tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "set"
    make_shapes(folder, train=2, val=3, size=(96, 96))
    run = write_run(tmp_path / "run", *trained)
    result = tmp_path / "result.json"
    options = ["--data-root", str(folder), "--seconds", "0.1", "--run", str(run), "--json", str(result)]
    assert main(["bench", "export", str(exported), *options]) == 0
    rows = json.loads(result.read_text())["rows"]
    assert [row["what"] for row in rows] == ["network", *ENGINES]
    for row in rows:
        assert set(row["heads"]) == set(row["whole"]) == {"1", "8"}
        assert min(*row["heads"].values(), *row["whole"].values()) > 0
        assert row["peak_megabytes"] > 50
        assert row["map"] is None  # the shapes are none of its classes
    printed = capsys.readouterr().out
    assert all(engine in printed for engine in ENGINES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "give one folder of an export"), (["nowhere"], "nowhere"), (["a", "b"], "give one folder")],
)
def test_bench_says_what_it_needs(arguments: List[str], said: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "export", *arguments]) != 0
    assert said in capsys.readouterr().err


def test_what_a_process_cannot_do_is_said(exported: Path) -> None:
    from mnssd.bench import exports
    from mnssd.bench.options import BenchOptions

    with pytest.raises(MnssdError, match="nowhere"):
        exports._Worker("mxnet", exported, BenchOptions(dataset="voc", data_root="nowhere"))
