"""Training that starts from the run folder of an imported network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from helpers.networks import fill, images
from helpers.runs import TINY

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.shapes.outlines import SHAPE_CLASSES
from mnssd.errors import OptionError
from mnssd.nn.head_layouts import AnchorLayout, HeadLayout
from mnssd.tasks.imported_start import with_structure
from mnssd.tasks.run import resolve, train_detector
from mnssd.tasks.save_run import save_classifier_run, save_run
from mnssd.train.options import ClassificationTraining, DetectionTraining
from mnssd.weights import read_params
from mnssd.weights.structure import variant_for

VARIANT = {"rotated": True, "pixel_mean": [0.5] * 3, "pixel_std": [0.5, 0.4, 0.6]}
SHAPES = (((0.2, 0.2), (0.4, 0.3)), *(((0.5, 0.5), (0.3, 0.6)),) * 5)
LAYOUT = HeadLayout(
    ((16, 32),) * 4, AnchorLayout((), (), generator="explicit", shapes=SHAPES), scores="sigmoid", kernel=1
)
BACKBONE: Dict[str, Any] = {
    "network": "mobilenet_v1", "width": 0.25, "activation": "relu6", "size": (96, 96), "variant": VARIANT
}  # fmt: skip


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of another kind than any here."""
    net = zoo.build_detector(zoo.DetectorSpec((*SHAPE_CLASSES[1:], "cat"), layout=LAYOUT, **BACKBONE))
    net.initialize()
    net(images(1, 96, 96))
    fill(net.heads, 0)
    return save_run(net, str(tmp_path_factory.mktemp("imported") / "run"), {})


def test_training_keeps_the_structure(imported: Path, shapes: str, tmp_path: Path) -> None:
    options = {name: value for name, value in TINY.items() if name not in ("width", "size")}
    output = str(tmp_path / "run")
    run = train_detector(
        {**options, "data_root": shapes, "output": output, "weights": str(imported), "epochs": 1}
    )
    spec = zoo.read_spec(str(run / "config.yaml"), zoo.DetectorSpec)
    assert (spec.layout, spec.variant, spec.network, spec.size) == (LAYOUT, VARIANT, "mobilenet_v1", (96, 96))
    assert spec.classes == tuple(SHAPE_CLASSES)
    old, new = (read_params(str(folder / "best.params")) for folder in (imported, run))
    assert old.keys() == new.keys()
    np.testing.assert_array_equal(old["backbone.input.scale"], new["backbone.input.scale"])
    assert main(["eval", str(run), "--data-root", shapes]) == 0
    for weights in (
        imported,
        imported / "best.params",
    ):  # the same command again, with the folder or the file
        again = {"resume": "auto", "output": output, "weights": str(weights)}
        assert resolve(DetectionTraining, again).options.loop.resume == output


def test_weights_get_the_structure_of_the_run(imported: Path) -> None:
    for weights in (imported, imported / "best.params"):
        values = with_structure(DetectionTraining, {"weights": str(weights)})
        assert values["weights"] == str(imported / "best.params")
        assert values["structure"] == str(imported)
        assert (values["network"], values["activation"], values["size"]) == (
            "mobilenet_v1",
            "relu6",
            (96, 96),
        )
    assert with_structure(DetectionTraining, {"weights": str(imported), "size": (128, 128)})["size"] == (
        128,
        128,
    )


@pytest.mark.parametrize("change", [{"network": "mobilenet_v2"}, {"width": 1.0}, {"activation": "relu"}])
def test_other_structures_are_refused(change: Dict[str, Any], imported: Path) -> None:
    with pytest.raises(OptionError, match=next(iter(change))):
        with_structure(DetectionTraining, {"weights": str(imported), **change})


def test_names_are_no_files_in_a_run_folder(imported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(imported)
    for weights in ("imagenet", "none", "absent.params"):
        assert with_structure(DetectionTraining, {"weights": weights}) == {"weights": weights}


def test_usual_runs_are_only_named_by_their_folder(tiny_run: Path) -> None:
    assert with_structure(DetectionTraining, {"weights": str(tiny_run), "width": 0.5}) == {
        "weights": str(tiny_run / "best.params"), "width": 0.5
    }  # fmt: skip
    assert with_structure(DetectionTraining, {"weights": "imagenet"}) == {"weights": "imagenet"}


def test_detector_from_an_imported_classifier(tmp_path: Path) -> None:
    spec = zoo.ClassifierSpec(("a", "b"), **BACKBONE)
    net = zoo.build_classifier(spec)
    net.initialize()
    net(images(1, 96, 96))
    run = save_classifier_run(net, spec, str(tmp_path / "run"))
    assert variant_for(str(run / "best.params"), "mobilenet_v1", 0.25) == VARIANT
    values = with_structure(DetectionTraining, {"weights": str(run)})
    assert "structure" not in values
    assert (values["network"], values["activation"]) == ("mobilenet_v1", "relu6")
    same = with_structure(ClassificationTraining, {"weights": str(run)})
    assert same["structure"] == str(run)
