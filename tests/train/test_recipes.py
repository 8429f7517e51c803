"""Recipes: the built-in files, files of the user, and errors in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
import yaml

from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import OptionError
from mnssd.tasks.run import train_detector
from mnssd.train.options import TRAININGS, ClassificationTraining, DetectionTraining
from mnssd.train.recipes import FOLDER, Recipe, read_recipe, recipe_names
from mnssd.train.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]

BENCHMARK_RECIPES = sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks" / "recipes").glob("*.yaml")
)


def write(path: Path, options: Dict[Any, Any], task: str = "detection", **keys: Any) -> str:
    path.write_text(yaml.safe_dump({"task": task, "options": options, **keys}))
    return str(path)


@pytest.mark.parametrize("name", [*recipe_names(), *BENCHMARK_RECIPES])
def test_recipe_is_valid_and_documents_its_command_and_result(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    path = ROOT / name if name in BENCHMARK_RECIPES else FOLDER / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    kind = TRAININGS[yaml.safe_load(text)["task"]]
    kind.resolve(read_recipe(name, kind).options, name)
    comment = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert f"--recipe {name} " in f"{comment.replace(chr(10), ' ')} "
    assert "Reached" in comment


def test_built_in_recipes_are_for_any_dataset() -> None:
    assert recipe_names() == ["accurate", "fast", "shapes-demo", "small-objects"]
    for name in ("accurate", "fast", "small-objects"):
        recipe = read_recipe(name, DetectionTraining)
        assert recipe.budget
        assert not {"dataset", "classes", "train_splits", "val_splits", "epochs"} & set(recipe.options)


@pytest.mark.parametrize(("budget", "read"), [(2, 2.0), (0.25, 0.25)])
def test_budget(budget: Any, read: float, tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", {"size": 96}, budget=budget)
    assert read_recipe(path, DetectionTraining) == Recipe({"size": (96, 96)}, read)


@pytest.mark.parametrize("budget", [0, -1, True, "half", None, float("inf"), float("nan"), [1]])
def test_invalid_budget_is_refused_by_file(budget: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"r\.yaml: .*budget"):
        read_recipe(write(tmp_path / "r.yaml", {}, budget=budget), DetectionTraining)


def test_values_are_converted_as_on_the_command_line(tmp_path: Path) -> None:
    options = {
        "size": [320, 256], "classes": ["a", "b"], "crop_overlaps": [0.1, 0.5], "epochs": 3, "lr": "1e-3",
        "fast_graph": False, "train_splits": "train", "data_root": None, "warmup": 2, "early_size": 96,
    }  # fmt: skip
    assert read_recipe(write(tmp_path / "r.yaml", options), DetectionTraining).options == {
        "size": (320, 256), "classes": ["a", "b"], "crop_overlaps": (0.1, 0.5), "epochs": 3, "lr": 1e-3,
        "fast_graph": False, "train_splits": "train", "data_root": None, "warmup": 2.0,
        "early_size": (96, 96),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"epoch": 3}, "'epoch'.*epochs"),
        ({"epochs": "many"}, "epochs.*many"),
        ({"epochs": None}, "epochs.*None"),
        ({"epochs": True}, "epochs.*True"),
        ({"fast_graph": 1}, "fast_graph.*1"),
        ({"head": "yolo"}, "head.*yolo.*ssd, .*ssdlite"),
        ({"output": "x"}, "output"),
        ({"recipe": "x"}, "recipe"),
        ({3: 4}, "'3'"),
    ],
)
def test_invalid_option_is_refused_by_file_and_name(
    tmp_path: Path, options: Dict[Any, Any], name: str
) -> None:
    with pytest.raises(OptionError, match=rf"r\.yaml: .*{name}"):
        read_recipe(write(tmp_path / "r.yaml", options), DetectionTraining)


def test_unknown_recipe_lists_near_names() -> None:
    with pytest.raises(OptionError, match="shape-demo.*shapes-demo"):
        read_recipe("shape-demo", DetectionTraining)


@pytest.mark.parametrize(
    "content", [None, b"- 1", b"task: detection", b"a: [", b"task: detection\noptions: 3", b"task: \xe9\xff"]
)
def test_missing_or_damaged_file_is_refused_by_name(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OptionError, match=str(path)):
        read_recipe(str(path), DetectionTraining)


def test_recipe_for_the_other_task_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", {}, "classification")
    assert read_recipe(path, ClassificationTraining) == Recipe({})
    with pytest.raises(OptionError, match=r"c\.yaml: .*detection.*classification"):
        read_recipe(path, DetectionTraining)


def test_given_options_override_the_recipe_and_the_run_stores_all_of_them(tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", train=8, val=4, size=(96, 96))
    recipe = write(
        tmp_path / "r.yaml",
        {"dataset": "shapes", "size": 96, "width": 0.25, "epochs": 5, "batch_size": 4, "mosaic": 0.5,
         "box_loss": "giou", "cls_loss": "focal", "hold_out": 0.5},
    )  # fmt: skip
    given = {"recipe": recipe, "data_root": str(tmp_path / "shapes"), "epochs": 1, "workers": 0}
    run = RunFolder(train_detector({**given, "output": str(tmp_path / "run")}))
    options = run.read_config().options
    assert isinstance(options, DetectionTraining)
    assert (options.loop.epochs, options.loop.batch_size, options.data.box_loss) == (1, 4, "giou")
    assert options.loop.recipe == recipe
    Path(recipe).unlink()
    train_detector({**given, "resume": str(run.path)})
