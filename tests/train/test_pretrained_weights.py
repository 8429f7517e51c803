"""Training from published weights: default, cache, resume, and without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml
from helpers.runs import TINY, train
from helpers.user_folder import publish

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.errors import OptionError, WeightsError
from mnssd.tasks import classification, detection
from mnssd.tasks.run import train_detector
from mnssd.train.options import ClassificationTraining, DetectionTraining
from mnssd.weights import published
from mnssd.weights.published import best_published, cached_path


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses of published weights where nothing answers, and datasets that must not be opened."""
    gone = [replace(e, address=f"https://localhost:1/{e.file}") for e in published.CATALOG]
    monkeypatch.setattr(published, "CATALOG", tuple(gone))

    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("the dataset was opened")

    monkeypatch.setattr(detection, "open_dataset", opened)
    monkeypatch.setattr(classification, "open_classification_dataset", opened)


@pytest.fixture
def in_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in the cache that is the published one for the network of tiny runs."""
    import mxnet as mx

    monkeypatch.setenv("MNSSD_HOME", str(tmp_path / "home"))
    net = zoo.build_backbone("mobilenet_v2", TINY["width"])
    zoo.initialize(net)
    net(mx.nd.zeros((1, 3, 64, 64)))
    net.save_parameters(str(tmp_path / "w.params"))
    publish(tmp_path / "w.params", monkeypatch)
    entry = best_published("mobilenet_v2", TINY["width"])
    assert entry is not None
    return cached_path(entry)


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ({}, None),
        ({"dataset": "shapes"}, None),
        ({"dataset": "voc"}, "imagenet"),
        ({"data_root": "photos"}, "imagenet"),
        ({"dataset": "voc", "weights": "none"}, None),
        ({"dataset": "voc", "weights": None}, None),
        ({"dataset": "shapes", "weights": "imagenet"}, "imagenet"),
        ({"weights": "timm/mobilenetv2_100"}, "timm/mobilenetv2_100"),
    ],
)
def test_default(given: Dict[str, Any], weights: str) -> None:
    assert DetectionTraining.resolve(given).data.weights == weights


@pytest.mark.parametrize(
    ("dataset", "weights"), [("shapes", None), ("folder", "imagenet"), ("cifar10", None)]
)
def test_default_of_classifiers(dataset: str, weights: str) -> None:
    assert ClassificationTraining.resolve({"dataset": dataset}).data.weights == weights


@pytest.mark.parametrize(
    "arguments",
    [
        ["train-ssd", "--dataset", "voc"],
        ["train-ssd", "--data-root", "photos"],
        ["train-ssd", "--dataset", "shapes", "--weights", "timm/mobilenetv2_050"],
        ["train-cls", "--dataset", "folder", "--data-root", "photos"],
    ],
)
def test_without_network_and_cache(
    arguments: List[str], unreachable: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    monkeypatch.setenv("MNSSD_HOME", str(tmp_path / "home"))
    assert main([*arguments, "--output", "run"]) == 1
    told = capsys.readouterr().err
    for fact in ("https://localhost:1/", "mnssd weights add", str(tmp_path / "home"), "none"):
        assert fact in told
    assert not (tmp_path / "run").exists()


def test_random_weights_need_no_network(unreachable: None, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="opened"):
        train_detector({"dataset": "voc", "weights": "none", "output": str(tmp_path / "run")})


def test_run_from_the_cache(in_cache: Path, shapes: str, tmp_path: Path, capsys: Any) -> None:
    run = train(shapes, tmp_path / "run", network="mobilenet_v2", weights="imagenet", epochs=1)
    shown = capsys.readouterr().out
    assert "gluoncv/mobilenetv2_0.25" in shown
    assert str(in_cache) in shown
    assert (
        yaml.safe_load((run / "config.yaml").read_text())["options"]["weights"] == "gluoncv/mobilenetv2_0.25"
    )

    in_cache.unlink()  # a resumed run needs no weights
    again = {
        **TINY, "network": "mobilenet_v2", "epochs": 1, "data_root": shapes, "output": str(run),
        "resume": "auto",
    }  # fmt: skip
    assert train_detector({**again, "weights": "imagenet"}) == run
    with pytest.raises(OptionError, match="none"):
        train_detector({**again, "weights": "none"})


def test_network_by_name(in_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = zoo.get_model("mobilenet_v2_0.25", weights="imagenet")
    other = zoo.get_model("mobilenet_v2_0.25", weights="gluoncv/mobilenetv2_0.25")
    file = zoo.get_model("mobilenet_v2_0.25", weights=str(in_cache))
    name = "features.0.weight"
    for each in (other, file):
        values = (each._collect_params_with_prefix()[name], net._collect_params_with_prefix()[name])
        assert (values[0].data() == values[1].data()).asnumpy().all()
    caplog.clear()
    zoo.get_model("ssd_96_mobilenet_v2_0.35", ["a"], weights="imagenet").heads.collect_params()
    assert "0.35" in caplog.text
    with pytest.raises(WeightsError, match="0.25"):
        zoo.get_model("mobilenet_v2_0.5", weights="gluoncv/mobilenetv2_0.25")
    with pytest.raises(OptionError, match="pretrained_backbone"):
        zoo.get_model("mobilenet_v2_0.25", weights="none", pretrained_backbone=str(in_cache))
