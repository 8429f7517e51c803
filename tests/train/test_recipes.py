"""Recipes: the files that come with the package, files of the user's, and what is wrong in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
import yaml

from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import OptionError
from mnssd.tasks.run import train_detector
from mnssd.train.options import CLASSIFICATION_KINDS, DETECTION_KINDS, resolve_classification, resolve_detection
from mnssd.train.recipes import FOLDER, read_recipe, recipe_names
from mnssd.train.run_folder import RunFolder


def write(path: Path, options: Dict[str, Any], task: str = "detection") -> str:
    path.write_text(yaml.safe_dump({"task": task, "options": options}))
    return str(path)


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_of_the_package_are_whole_and_say_how_to_use_them(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    task = yaml.safe_load(text)["task"]
    if task == "detection":
        resolve_detection(read_recipe(name, task, DETECTION_KINDS), name)
    else:
        resolve_classification(read_recipe(name, task, CLASSIFICATION_KINDS), name)
    about = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert f"--recipe {name}" in about
    assert "Reached" in about


def test_values_are_converted_as_on_the_command_line(tmp_path: Path) -> None:
    options = {
        "size": [320, 256], "classes": ["a", "b"], "crop_overlaps": [0.1, 0.5], "epochs": 3, "lr": "1e-3",
        "fast_graph": False, "train_splits": "train", "data_root": None, "warmup": 2,
    }  # fmt: skip
    values = read_recipe(write(tmp_path / "r.yaml", options), "detection", DETECTION_KINDS)
    assert values == {
        "size": (320, 256), "classes": ["a", "b"], "crop_overlaps": (0.1, 0.5), "epochs": 3, "lr": 1e-3,
        "fast_graph": False, "train_splits": "train", "data_root": None, "warmup": 2.0,
    }  # fmt: skip
    assert read_recipe(write(tmp_path / "r.yaml", {"size": 320}), "detection", DETECTION_KINDS) == {
        "size": (320, 320)
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 3}, "unknown option 'epoch'.*epochs"),
        ({"epochs": "many"}, "many"),
        ({"epochs": None}, "epochs cannot be None"),
        ({"epochs": True}, "epochs cannot be True"),
        ({"fast_graph": 1}, "fast_graph is true or false"),
        ({"head": "yolo"}, "head is one of ssd, ssdlite"),
        ({"output": "x"}, "output belongs on the command line"),
        ({"recipe": "x"}, "recipe belongs on the command line"),
        ({3: 4}, "unknown option '3'"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, options: Dict[Any, Any], said: str) -> None:
    with pytest.raises(OptionError, match=f"r.yaml: .*{said}"):
        read_recipe(write(tmp_path / "r.yaml", options), "detection", DETECTION_KINDS)


def test_what_is_no_recipe_is_refused(tmp_path: Path) -> None:
    def said(name: str) -> str:
        with pytest.raises(OptionError) as refusal:
            read_recipe(name, "detection", DETECTION_KINDS)
        return str(refusal.value)

    assert "did you mean shapes-demo" in said("shape-demo")
    assert "No such file" in said(str(tmp_path / "absent.yaml"))
    for number, text in enumerate(("- 1", "task: detection", "a: [", "task: detection\noptions: 3")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        assert str(path) in said(str(path))
    (tmp_path / "latin.yaml").write_bytes(b"task: \xe9\xff")
    assert "not YAML" in said(str(tmp_path / "latin.yaml"))
    assert "a recipe of classification" in said(write(tmp_path / "c.yaml", {}, "classification"))


def test_a_run_takes_the_recipe_and_what_is_given_goes_before_it(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", train=8, val=4, size=(96, 96))
    recipe = write(
        tmp_path / "r.yaml",
        {"dataset": "shapes", "size": 96, "width": 0.25, "epochs": 5, "batch_size": 4, "mosaic": 0.5,
         "box_loss": "giou", "cls_loss": "focal", "hold_out": 0.5},
    )  # fmt: skip
    given = {"recipe": recipe, "data_root": str(tmp_path / "shapes"), "epochs": 1, "workers": 0}
    run = RunFolder(train_detector({**given, "output": str(tmp_path / "run")}))
    options = run.read_config()["options"]
    assert (options["epochs"], options["batch_size"], options["box_loss"]) == (1, 4, "giou")
    assert options["recipe"] == recipe
    Path(recipe).unlink()  # the run has all of it
    train_detector({**given, "resume": str(run.path)})
