"""Export formats of OpenVINO: rounded weights, bfloat16, missing package, other files, telemetry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from helpers.detectors import make_classifier, make_image, random_network

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.errors import ExportError, OptionError
from mnssd.export import openvino_model
from mnssd.export.options import ExportOptions, parse_formats
from mnssd.export.sidecar import describe_file
from mnssd.export.write import export_network
from mnssd.inference.classifier import Classifier
from mnssd.inference.detector import Detector


@pytest.fixture
def openvino() -> None:
    pytest.importorskip("onnx")
    if "openvino" not in parse_formats("all"):
        pytest.skip("OpenVINO is not installed")


@pytest.fixture
def classifier() -> Tuple[Any, zoo.ClassifierSpec]:
    return make_classifier("mobilenet_v1", size=(64, 64))


def test_classifiers_in_float32_and_8_bits(
    openvino: None, classifier: Any, image_files: List[str], tmp_path: Path
) -> None:
    options = ExportOptions("symbol,openvino,openvino-int8", pixels=True)
    export_network(*classifier, tmp_path / "cls", image_files[:4], "cls", options)
    assert json.loads((tmp_path / "cls" / "cls.json").read_text())["openvino_int8"]["bits"] == 7
    image, table = make_image(3, 64, 64), {}
    for engine in ("mxnet", "openvino", "openvino-int8"):
        predictions = Classifier.load(tmp_path / "cls", engine=engine)(image, top=9)
        table[engine] = {prediction.name: prediction.probability for prediction in predictions}
    assert table["openvino"] == pytest.approx(table["mxnet"], abs=1e-4)
    assert table["openvino-int8"] == pytest.approx(table["mxnet"], abs=0.2)
    assert table["openvino-int8"] != pytest.approx(table["mxnet"], abs=1e-5)
    sizes = [(tmp_path / "cls" / name).stat().st_size for name in ("cls.bin", "cls-int8.bin")]
    assert sizes[1] < 0.4 * sizes[0]


def test_float16_weights_take_half_the_space(
    openvino: None, classifier: Any, image_files: List[str], tmp_path: Path
) -> None:
    sizes = {}
    for half in (False, True):
        options = ExportOptions("openvino", fp16_weights=half)
        exported = export_network(*classifier, tmp_path / str(half), image_files[:2], "cls", options)
        sizes[exported.sidecar["openvino"]["weights"]] = exported.paths[1].stat().st_size
    assert 0.45 < sizes["float16"] / sizes["float32"] < 0.55


def test_bfloat16_only_where_the_processor_has_it(
    openvino: None, classifier: Any, image_files: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it has not, OpenVINO computes in float32, so the files themselves can be made and checked."""
    images, options = image_files[:2], ExportOptions("openvino-bf16")
    monkeypatch.setattr(openvino_model, "has_bfloat16", lambda: True)
    paths = export_network(*classifier, tmp_path / "cls", images, "cls", options).paths
    assert [path.name for path in paths] == ["cls-bf16.xml", "cls-bf16.bin", "cls.json"]
    image = make_image(1, 64, 64)
    names = [p.name for p in Classifier.load(tmp_path / "cls", engine="openvino-bf16")(image)]
    monkeypatch.setattr(openvino_model, "has_bfloat16", lambda: False)
    with pytest.raises(ExportError, match=r"cls-bf16\.xml"):
        Classifier.load(tmp_path / "cls", engine="openvino-bf16")
    with pytest.raises(OptionError, match="openvino-bf16"):
        export_network(*classifier, tmp_path / "other", images, "cls", options)
    assert not (tmp_path / "other").exists()
    assert "openvino-bf16" not in parse_formats("all")
    export_network(*classifier, tmp_path / "exact", images, "cls", ExportOptions("openvino"))
    assert names == [p.name for p in Classifier.load(tmp_path / "exact")(image)]


def test_without_the_package(
    classifier: Any, image_files: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(OptionError, match="openvino>="):
        export_network(*classifier, tmp_path / "cls", image_files[:1], "cls", ExportOptions("openvino"))
    assert not (tmp_path / "cls").exists()
    assert not [name for name in parse_formats("all") if name.startswith("openvino")]
    assert "symbol" in parse_formats("all")


def test_engine_without_the_package(
    openvino: None, tiny_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExportError, match=r"pets\.xml.*pip install openvino"):
        Detector.load(tiny_export, engine="openvino")


def replace_files(export: Path, other: Path) -> None:
    """Put the files of another export into this one, with valid checksums."""
    sidecar = json.loads((export / "cls.json").read_text())
    for kind, entry in sidecar["files"].items():
        shutil.copy(other / entry["file"], export / entry["file"])
        sidecar["files"][kind] = describe_file(export / entry["file"])
    (export / "cls.json").write_text(json.dumps(sidecar))


@pytest.mark.parametrize("change", [{"size": (96, 64)}, {"classes": ("a", "b")}])
def test_files_of_another_network_are_refused(
    change: Any, openvino: None, classifier: Any, image_files: List[str], tmp_path: Path
) -> None:
    spec = zoo.ClassifierSpec(**{**vars(classifier[1]), **change})
    options = ExportOptions("openvino")
    export_network(*classifier, tmp_path / "cls", image_files[:1], "cls", options)
    export_network(random_network(spec), spec, tmp_path / "other", image_files[:1], "cls", options)
    replace_files(tmp_path / "cls", tmp_path / "other")
    with pytest.raises(ExportError, match=r"cls\.xml"):
        Classifier.load(tmp_path / "cls")


@pytest.mark.parametrize("name", ["pets.xml", "pets.onnx", "pets.json"])
def test_a_file_of_an_export_is_refused_with_its_folder(
    name: str, tiny_export: Path, image_files: List[str], capsys: pytest.CaptureFixture
) -> None:
    if not (tiny_export / name).exists():
        pytest.skip("the format is not installed")
    assert main(["detect", str(tiny_export / name), image_files[0]]) != 0
    assert f"give its folder, {tiny_export}" in capsys.readouterr().err


def test_results_stay_when_the_next_image_is_detected(openvino: None, tiny_export: Path) -> None:
    from mnssd.export.load import load_export
    from mnssd.runtime.settings import pick_context

    loaded = load_export(tiny_export, "detection", pick_context("cpu"), "openvino")
    assert loaded
    first = loaded.engine([make_image(1, *loaded.size)])
    copies = [output.copy() for output in first]
    loaded.engine([make_image(2, *loaded.size)] * 2)
    for output, copy in zip(first, copies):
        np.testing.assert_array_equal(output, copy)


def test_import_sends_no_telemetry(openvino: None, tmp_path: Path) -> None:
    """OpenVINO's own import writes an identifier into the home folder before it sends anything."""
    code = "from mnssd.runtime.openvino import import_openvino as f; import sys; f(); print(*sys.modules)"
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True
    )
    assert "openvino" in done.stdout.split()
    assert "openvino_telemetry" not in done.stdout.split()
    assert not list(tmp_path.iterdir())


def test_signals_arrive_after_engines_were_released(openvino: None, tiny_export: Path) -> None:
    code = (
        "import gc, os, signal, sys; from mnssd.export.load import load_export; "
        "from mnssd.runtime import settings; from pathlib import Path; "
        "ctx = settings.pick_context('cpu'); "
        "load = lambda: load_export(Path(sys.argv[1]), 'detection', ctx, 'openvino'); "
        "first, second = load(), load(); del first; gc.collect(); del second; gc.collect(); "
        "signal.signal(signal.SIGINT, lambda *_: print('received')); os.kill(os.getpid(), signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_export)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "received\n"), done.stderr
