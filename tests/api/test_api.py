"""The Python API on small runs."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.runs import TINY

import mnssd
from mnssd import api, registry, zoo
from mnssd.cli.main import main
from mnssd.errors import MnssdError, OptionError, WeightsError

NAMED = ("dataset", "network", "width", "size", "epochs")
OPTIONS = {**{key: value for key, value in TINY.items() if key not in NAMED}, "weights": "none"}


@pytest.fixture(scope="module")
def run(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> mnssd.Run:
    output = tmp_path_factory.mktemp("api") / "run"
    return mnssd.train_detector(
        data=shapes, model="ssd_96_mobilenet_v2_0.25", epochs=1, output=output, **{**OPTIONS, "ema": 0.0}
    )


def test_import_is_cheap() -> None:
    code = "import mnssd, sys; print([name for name in ('mxnet', 'numpy', 'cv2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().strip() == "[]"


def test_every_public_name_exists() -> None:
    for name in mnssd.__all__:
        assert callable(getattr(mnssd, name)), name
        assert name in dir(mnssd)
    with pytest.raises(AttributeError, match="train_everything"):
        mnssd.train_everything  # noqa: B018


def test_public_functions_stay_callable_after_all_modules_are_imported() -> None:
    code = (
        "import importlib, pkgutil, mnssd\n"
        "for module in pkgutil.walk_packages(mnssd.__path__, 'mnssd.'):\n"
        "    if module.name != 'mnssd.__main__': importlib.import_module(module.name)\n"
        "print([name for name in mnssd.__all__ if not callable(getattr(mnssd, name))])"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize("module", [zoo, registry])
def test_examples_in_docstrings(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted
    assert not result.failed


def test_a_run_knows_its_network(run: mnssd.Run, shapes: str) -> None:
    assert run.task == "detection"
    assert run.weights.is_file()
    config = (run.path / "config.yaml").read_text()
    assert f"data_root: {shapes}" in config
    assert mnssd.Run(run.path).detector().size == (96, 96)


def test_evaluate_equals_the_command(run: mnssd.Run, tmp_path: Path) -> None:
    result = run.evaluate(metric="voc12")
    assert main(["eval", str(run.path), "--metric", "voc12", "--json", str(tmp_path / "eval.json")]) == 0
    written = json.loads((tmp_path / "eval.json").read_text())
    assert result.mean_ap == written["mAP"]
    assert result.as_dict()["ap_per_class"] == written["ap_per_class"]
    assert mnssd.evaluate(run.weights, metric="voc12").mean_ap == result.mean_ap


def test_export_writes_what_the_detector_loads(run: mnssd.Run, shapes: str, tmp_path: Path) -> None:
    images = Path(shapes) / "JPEGImages"
    folder = run.export(["symbol", "onnx"], output=tmp_path / "export", images=images)
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".json", ".onnx", ".params"]
    image = next(images.iterdir())
    detections = mnssd.Detector.load(folder)(image, score=0.0)
    expected = run.detector()(image, score=0.0)
    assert detections.names == expected.names
    assert detections.scores == pytest.approx(expected.scores, abs=1e-4)


def test_report(run: mnssd.Run, tmp_path: Path) -> None:
    page = run.report(tmp_path / "report")
    assert page == tmp_path / "report" / "index.html"
    assert page.is_file()


def test_classifier(shapes: str, tmp_path: Path) -> None:
    run = mnssd.train_classifier(
        data="shapes", data_root=shapes, model="mobilenet_v2_0.25", epochs=1, size=32, batch_size=8,
        output=tmp_path / "run",
    )  # fmt: skip
    result = run.evaluate()
    assert 0 <= result.top1 <= result.top5 <= 1
    image = next((Path(shapes) / "JPEGImages").iterdir())
    assert len(run.classifier()(image, top=3)) == 3
    with pytest.raises(MnssdError):
        run.detector()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"batchsize": 8}, "batch_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"lr": "fast"}, "lr"),
        ({"size": "300,300"}, "300,300"),
        ({"model": "ssd_300_mobilenet_v9"}, "ssd_300_mobilenet_v9"),
        ({"model": "mobilenet_v2"}, "mobilenet_v2"),
        ({"model": "ssd_300_mobilenet_v2", "size": 320}, "size"),
        ({"data": "voc", "data_root": "a", "dataset": "coco"}, "dataset"),
    ],
)
def test_invalid_options_are_named(arguments: dict, named: str) -> None:
    with pytest.raises(OptionError, match=named):
        mnssd.train_detector(**arguments)


def test_missing_run_is_named(tmp_path: Path) -> None:
    for function in (mnssd.Run, mnssd.evaluate, mnssd.export):
        with pytest.raises(MnssdError, match="nowhere"):
            function(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match="nowhere"):
        mnssd.Detector.load(tmp_path / "nowhere")


def test_detector_model_is_refused_for_a_classifier() -> None:
    with pytest.raises(OptionError, match="mobilenet_v2"):
        mnssd.train_classifier(model="ssd_300_mobilenet_v2")


def test_list_models_matches_patterns() -> None:
    assert mnssd.list_models("ssdlite_320_mobilenet_v2*")[0] == "ssdlite_320_mobilenet_v2"
    assert "mobilenet_v1_0.25" in mnssd.list_models()
    assert api.get_model("mobilenet_v2_0.25", classes=3) is not None
