"""Names that YAML takes for other values: they are read as text wherever YAML holds names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, List

import pytest
from helpers.yolo_files import dataset

from mnssd import zoo
from mnssd.data.convert import convert
from mnssd.data.formats import formats
from mnssd.data.open import open_dataset
from mnssd.options import parse_yaml
from mnssd.train.options import ClassificationTraining, DetectionTraining
from mnssd.train.recipes import read_recipe
from mnssd.train.run_folder import RunConfig, RunFolder

NAMES = [
    "no", "yes", "010", "on", "1e3", "null", "~", "2020-01-01", "0x1F", "1:30", "1_000", ".inf", "True", "y",
]  # fmt: skip

LAYOUTS = {
    "list": "".join(f"\n- {name}" for name in NAMES),
    "indented list": "".join(f"\n  - {name}  # a comment" for name in NAMES),
    "flow list": f"[{', '.join(NAMES)}]",
    "mapping": "".join(f"\n  {number}: {name}" for number, name in enumerate(NAMES)),
    "flow mapping": f"{{{', '.join(f'{number}: {name}' for number, name in enumerate(NAMES))}}}",
    "quoted": f"[{', '.join(repr(name) for name in NAMES)}]",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_of_a_yolo_dataset(layout: str, tmp_path: Path) -> None:
    root = dataset(tmp_path, {"a": "2 0.5 0.5 0.4 0.2"}, names=LAYOUTS[layout])
    read = open_dataset("yolo", root, "train")
    assert list(read.classes) == NAMES
    convert({"train": read}, tmp_path / "copy", formats["yolo"], False)
    assert open_dataset("yolo", tmp_path / "copy", "train").classes == read.classes


@pytest.mark.parametrize("layout", ["list", "flow list", "quoted"])
def test_names_in_a_recipe(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = f"task: detection\noptions:\n  classes: {LAYOUTS[layout]}\n".replace("\n-", "\n  -")
    path.write_text(
        text + "  train_splits: 010\n  val_splits: ~\n  freeze: no\n  lr: 1.0e-2\n  download: no\n"
    )
    options = read_recipe(str(path), DetectionTraining).options
    assert options == {
        "classes": NAMES, "train_splits": "010", "val_splits": None, "freeze": "no", "lr": 0.01,
        "download": False,
    }  # fmt: skip
    path.write_text("task: detection\noptions: {classes: no}\n")
    assert read_recipe(str(path), DetectionTraining).options == {"classes": ["no"]}


def test_names_in_the_configuration_of_a_run(tmp_path: Path) -> None:
    """Also where a person has written them, without quotes."""
    run = RunFolder(tmp_path)
    for options, spec in (
        (DetectionTraining.resolve({"classes": NAMES, "weights": None}), zoo.DetectorSpec(tuple(NAMES))),
        (ClassificationTraining.resolve({"weights": None}), zoo.ClassifierSpec(tuple(NAMES))),
    ):
        config: Any = RunConfig(spec, options)
        run.write_config(config)
        assert run.read_config() == config
        run.config.write_text(re.sub(r"(?m)^( *- )'(.*)'$", r"\1\2", run.config.read_text()))
        assert run.read_config() == config
        assert zoo.read_spec(str(run.config), type(spec)) == spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("3", 3),
        ("other: no\nclasses:\n", {"other": False, "classes": None}),
        ("classes: {no: [on, ~]}", {"classes": {False: ["on", "~"]}}),
        ("a: &x {classes: [no]}\nb: *x\n", {"a": {"classes": ["no"]}, "b": {"classes": ["no"]}}),
        ("classes: [!!str no, 'a', \"b\"]", {"classes": ["no", "a", "b"]}),
    ],
)
def test_only_named_keys_are_text(text: str, expected: object) -> None:
    assert parse_yaml(text, ["classes"]) == expected


def test_aliases_are_followed_once() -> None:
    names: List[str] = [
        "a: &a0 [no]",
        *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)),
    ]
    assert parse_yaml("\n".join(["x: {classes: no}", *names]), ["a", "classes"])["a"] == ["no"]
