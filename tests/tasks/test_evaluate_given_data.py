"""Evaluation of data that the user names: all of its images, with classes matched by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict, List, Tuple

import mxnet as mx
import pytest
from helpers.detectors import make_image, write_image

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.classification.datasets import open_classification_dataset
from mnssd.data.open import default_splits, open_dataset
from mnssd.tasks.evaluate import EvalOptions, options_of_run
from mnssd.train.options import ClassificationTraining
from mnssd.train.run_folder import RunConfig, RunFolder

CLASSES = ("dog", "cat", "bee")


def make_folder(root: Path, **counts: int) -> Path:
    """Class folders with so many images each."""
    for seed, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            write_image(root / name / f"{i}.png", make_image(100 * seed + i, 40, 40))
    return root


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A run on undivided class folders, with an untrained network."""
    spec = zoo.ClassifierSpec(CLASSES, "mobilenet_v2", 0.25, (32, 32))
    net = zoo.build_classifier(spec)
    zoo.initialize(net)
    net(mx.nd.zeros((1, 3, 32, 32)))
    own = make_folder(tmp_path / "own", bee=10, cat=20, dog=10)
    run = RunFolder.create(str(tmp_path / "run"), "")
    options = {"dataset": "folder", "data_root": str(own), "weights": None}
    run.write_config(RunConfig(spec, ClassificationTraining.resolve(options)))
    net.save_parameters(str(run.best))
    return run.path


def evaluate(command: str, run: Path, *arguments: str) -> Dict[str, Any]:
    result = run.parent / "result.json"
    assert main([command, str(run), "--json", str(result), *arguments]) == 0
    return dict(json.loads(result.read_text()))


def test_classes_are_matched_by_name_and_all_images_are_measured(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = make_folder(tmp_path / "other", ant=2, bee=3, cat=4, dog=5)
    result = evaluate("eval-cls", classifier, "--data-root", str(folder))
    assert result["classes"] == list(CLASSES)
    assert [sum(row) for row in result["confusion"]] == [5, 4, 3]
    printed = capsys.readouterr()
    assert "12 images" in printed.out
    assert "ant 2" in printed.err
    shutil.rmtree(folder / "dog")
    result = evaluate("eval-cls", classifier, "--data-root", str(folder))
    assert [sum(row) for row in result["confusion"]] == [0, 4, 3]
    assert "dog" in capsys.readouterr().err


def test_own_data_is_measured_on_its_validation_images(classifier: Path) -> None:
    own = classifier.parent / "own"
    held_out = len(open_classification_dataset("folder", str(own), "val"))
    assert 0 < held_out < 20
    assert evaluate("eval-cls", classifier)["images"] == held_out
    assert evaluate("eval-cls", classifier, "--data-root", str(own))["images"] == 40
    assert evaluate("eval-cls", classifier, "--data-root", str(own), "--hold-out")["images"] == held_out


def test_data_without_a_class_of_the_run_is_refused(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = make_folder(tmp_path / "other", ant=2, fly=3)
    assert main(["eval-cls", str(classifier), "--data-root", str(folder)]) == 1
    assert all(name in capsys.readouterr().err for name in ("ant",))


@pytest.mark.parametrize(
    ("parts", "images"),
    [
        ({".": (3, 4)}, 7), ({"train": (3, 4)}, 7), ({"train": (3, 4), "val": (1, 2)}, 3),
        ({"test": (1, 1)}, 2), ({"valid": (2, 2), "test": (1, 1)}, 4), ({"train": (2, 2), "test": (5, 0)}, 5),
    ],
)  # fmt: skip
def test_layouts_of_class_folders(parts: Dict[str, Tuple[int, int]], images: int, tmp_path: Path) -> None:
    for name, (cats, dogs) in parts.items():
        make_folder(tmp_path / "set" / name, cat=cats, dog=dogs)
    assert len(open_classification_dataset("folder", str(tmp_path / "set"), "eval")) == images


# ---- detectors


@pytest.fixture
def undivided(shapes: str, tmp_path: Path) -> Path:
    """The images of `shapes` in one list."""
    folder = Path(shutil.copytree(shapes, tmp_path / "undivided"))
    lists = folder / "ImageSets" / "Main"
    names: List[str] = []
    for path in sorted(lists.iterdir()):
        names += path.read_text().split()
        path.unlink()
    (lists / "all.txt").write_text("\n".join(names))
    return folder


def test_all_images_of_one_list_are_measured(
    tiny_run: Path, undivided: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    result = evaluate("eval", run, "--dataset", "voc", "--data-root", str(undivided))
    assert (result["images"], result["splits"]) == (32, "all")
    assert "24" in capsys.readouterr().err  # it was trained on them
    assert EvalOptions("voc", str(undivided)).split_names == "all"
    assert len(open_dataset("auto", undivided, role="eval")) == 32
    assert default_splits("auto", "val", undivided) == "all:val"


def test_chosen_classes_are_measured_alone(tiny_run: Path) -> None:
    whole = evaluate("eval", tiny_run)
    name, other = list(whole["ap_per_class"])[:2]
    result = evaluate("eval", tiny_run, "--classes", name)
    assert result["ap_per_class"][name] == whole["ap_per_class"][name] == result["mAP"]
    assert result["ap_per_class"][other] is None
    assert (result["images"], result["positives"][other]) == (whole["images"], 0)
    assert main(["eval", str(tiny_run), "--classes", f"{name},nothing"]) == 2


def test_a_run_with_held_out_images_measures_all_of_another_folder(
    tiny_run: Path, shapes: str, undivided: Path, tmp_path: Path
) -> None:
    run = RunFolder(Path(shutil.copytree(tiny_run, tmp_path / "run")))
    config = run.read_config()

    def choice(stored: Dict[str, Any], **given: Any) -> Tuple[str, float]:
        run.write_config(RunConfig(config.spec, config.options.replace(**stored)))
        values = options_of_run(str(run.path), given)
        return values["splits"], values.get("hold_out", 0.0)

    own = {"dataset": "auto", "data_root": str(undivided)}
    assert choice(own) == ("all:val", 0.0)
    assert choice(own, data_root=str(undivided)) == ("all", 0.0)
    assert choice(own, data_root=shapes) == ("val", 0.0)
    assert choice(own, data_root=shapes, splits="train") == ("train", 0.0)
    held_out = {"dataset": "auto", "data_root": shapes, "hold_out": 0.25}
    assert choice(held_out) == ("train", 0.25)
    assert choice(held_out, data_root=shapes) == ("val", 0.0)
    assert choice(held_out, data_root=str(undivided), hold_out=0.5) == ("all:train", 0.5)
