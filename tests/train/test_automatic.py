"""Options chosen from the data: the rules, what is never changed, and a run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pytest
import yaml
from helpers.runs import read_log
from hypothesis import given
from hypothesis import strategies as st

from mnssd.data.dataset import Dataset
from mnssd.data.sample import Sample
from mnssd.tasks.run import resolve, train_detector
from mnssd.train.automatic import CHOSEN, RULES, Facts, choose, facts_of, steps_per_epoch
from mnssd.train.options import ClassificationTraining, DetectionTraining, Training
from mnssd.train.run_folder import RunFolder

VOC = Facts("detection", 1697, 6, True, head="ssd", objects_per_image=2.5)
CELLS = Facts("detection", 205, 3, True, head="ssd", objects_per_image=13.4)
FEW_LITE = Facts("detection", 205, 3, True, head="ssdlite", objects_per_image=13.4)
LITE = Facts("detection", 1697, 6, True, head="ssdlite", objects_per_image=2.5)
RANDOM = Facts("detection", 1697, 6, False, head="ssd", objects_per_image=2.5)
PHOTOS = Facts("classification", 1000, 2, True)

ADAMW = {"optimizer": "adamw", "lr": 0.0005, "pretrained_lr": 0.2, "wd": 0.05}
SGD = {"optimizer": "sgd", "lr": 0.01, "pretrained_lr": 1.0, "wd": 0.0005}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (VOC, {**ADAMW, "batch_size": 16, "match_iou": 0.4, "expand_ratio": 2.0, "epochs": 12}),
        (
            CELLS,
            {
                **ADAMW,
                "pretrained_lr": 1.0,
                "batch_size": 8,
                "match_iou": 0.5,
                "expand_ratio": 2.0,
                "epochs": 52,
            },
        ),
        (LITE, {"optimizer": "adamw", "lr": 0.004, "pretrained_lr": 0.025, "wd": 0.05, "match_iou": 0.4}),
        (FEW_LITE, {"lr": 0.004, "pretrained_lr": 0.025, "batch_size": 8}),
        (RANDOM, {**SGD, "batch_size": 16, "match_iou": 0.5, "expand_ratio": 4.0, "epochs": 60}),
        (PHOTOS, {**SGD, "pretrained_lr": 0.1, "batch_size": 32, "epochs": 21, "val_interval": 2}),
    ],
)
def test_choice(facts: Facts, expected: Dict[str, Any]) -> None:
    values = choose(facts).values
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("facts", "given", "expected"),
    [
        (VOC, {"optimizer": "sgd"}, {"lr": 0.01, "pretrained_lr": 1.0, "wd": 0.0005}),
        (VOC, {"lr": 0.02}, {"optimizer": "sgd", "pretrained_lr": 1.0, "wd": 0.0005}),
        (VOC, {"lr": 0.001}, {"optimizer": "adamw", "pretrained_lr": 0.2, "wd": 0.05}),
        (VOC, {"lr": 0.02, "optimizer": "adamw"}, {"pretrained_lr": 0.2, "wd": 0.05}),
        (RANDOM, {"optimizer": "adamw"}, {"lr": 0.0005, "wd": 0.05}),
        (LITE, {"optimizer": "adamw"}, {"lr": 0.004}),
        (PHOTOS, {"optimizer": "adamw"}, {"lr": 0.0005}),
        (VOC, {"batch_size": 32}, {"epochs": 25, "val_interval": 2}),
        (VOC, {"epochs": 40}, {"val_interval": 4}),
        (VOC, {"epochs": 3}, {"val_interval": 1, "patience": 1}),
        (VOC, {}, {"val_interval": 1, "patience": 4}),
        (VOC, {"epochs": 40, "val_interval": 5}, {"patience": 15}),
        (VOC, {"val_interval": 0}, {"patience": 0}),
        (VOC, {"minutes": 20.0}, {"patience": 0}),
    ],
)
def test_other_options_fit_those_given(facts: Facts, given: Dict[str, Any], expected: Dict[str, Any]) -> None:
    values = choose(facts, given).values
    assert {name: values[name] for name in expected} == expected
    assert not set(given) & set(values)


FACTS = st.builds(
    Facts,
    task=st.sampled_from(["detection", "classification"]),
    images=st.integers(1, 100_000),
    classes=st.integers(1, 1000),
    pretrained=st.booleans(),
    head=st.sampled_from(["ssd", "ssdlite"]),
    objects_per_image=st.floats(0, 500),
    small_objects=st.floats(0, 1),
    smallest_class=st.floats(0, 2000),
    aspect_ratio=st.floats(0.01, 100),
)

GIVEN: Dict[str, st.SearchStrategy[Any]] = {
    "epochs": st.integers(1, 500), "batch_size": st.integers(1, 256), "lr": st.floats(1e-6, 1),
    "optimizer": st.sampled_from(["sgd", "adamw"]), "pretrained_lr": st.floats(0, 1), "wd": st.floats(0, 1),
    "val_interval": st.integers(0, 20), "match_iou": st.floats(0.1, 0.9), "expand_ratio": st.floats(1, 4),
    "minutes": st.floats(0, 60), "ema": st.just(0.9),
    "patience": st.integers(0, 50),
}  # fmt: skip


@given(FACTS, st.fixed_dictionaries({}, optional=GIVEN))
def test_given_options_are_never_changed_and_all_others_are_valid(
    facts: Facts, given: Dict[str, Any]
) -> None:
    choice = choose(facts, given)
    names = set(CHOSEN) - {"size"}
    if facts.task == "classification":
        names -= {"match_iou", "expand_ratio"}
    assert set(choice.values) - {"size"} == names - set(given)
    assert choice.text
    assert "\n" not in choice.text
    kind = DetectionTraining if facts.task == "detection" else ClassificationTraining
    kind.resolve({**choice.values, "dataset": "recordio"})


@given(FACTS, st.sampled_from([8, 16, 32]))
def test_steps_stay_within_the_budget(facts: Facts, batch_size: int) -> None:
    (budget,) = [rule.budget for rule in RULES if rule.budget and rule.applies(facts)]
    values = choose(facts, {"batch_size": batch_size}).values
    per_epoch = steps_per_epoch(facts.images, batch_size)
    assert 1 <= values["epochs"] <= budget.most_epochs
    assert values["epochs"] * per_epoch <= budget.most_steps + per_epoch
    if values["epochs"] not in (budget.fewest_epochs, budget.most_epochs) and per_epoch < 500:
        assert abs(values["epochs"] * per_epoch - budget.steps) <= per_epoch
    assert (
        values["epochs"] == 1
        or values["epochs"] // values["val_interval"] in range(6, 21)
        or (values["val_interval"] == 1)
    )


@pytest.mark.parametrize(("processes", "batch_size"), [(1, 8), (3, 9), (4, 8), (16, 16)])
def test_images_per_step_are_divided_among_all_processes(processes: int, batch_size: int) -> None:
    assert choose(replace(CELLS, processes=processes)).values["batch_size"] == batch_size
    assert "batch_size" not in choose(replace(CELLS, processes=processes), {"batch_size": 10}).values


@pytest.mark.parametrize("images", [200, 363, 400, 999, 2000])
def test_few_hundred_images_take_about_1300_steps(images: int) -> None:
    values = choose(Facts("detection", images, 1, True, head="ssd", objects_per_image=1.0)).values
    steps = values["epochs"] * steps_per_epoch(images, values["batch_size"])
    assert 1200 <= steps <= 1500


def test_budget_multiplies_the_steps() -> None:
    half, full, double = (choose(VOC, budget=factor).values["epochs"] for factor in (0.5, 1.0, 2.0))
    assert (half, full, double) == (6, 12, 24)
    assert choose(Facts("detection", 100_000, 1, True, head="ssd"), budget=0.001).values["epochs"] == 1


TINY = replace(CELLS, smallest_class=21.6, aspect_ratio=4 / 3)


@pytest.mark.parametrize(
    ("facts", "given", "size"),
    [
        (TINY, {}, (512, 384)),
        (replace(TINY, head="ssdlite"), {}, (512, 384)),
        (replace(TINY, aspect_ratio=1.0), {}, (448, 448)),
        (replace(TINY, aspect_ratio=9.0), {}, (640, 320)),
        (replace(TINY, aspect_ratio=0.1), {}, (320, 640)),
        (replace(TINY, smallest_class=24.0), {}, None),
        (replace(TINY, pretrained=False), {}, None),
        (replace(TINY, task="classification"), {}, None),
        (TINY, {"size": (300, 300)}, None),
        (TINY, {"early_size": (192, 192), "early_epochs": 3}, None),
        (TINY, {"structure": "runs/pruned"}, None),
    ],
)
def test_class_of_tiny_objects_gets_a_larger_input(
    facts: Facts, given: Dict[str, Any], size: Optional[Tuple[int, int]]
) -> None:
    assert choose(facts, given).values.get("size") == size


def dataset(boxes: List[List[List[float]]], size: Tuple[int, int]) -> Dataset:
    samples = []
    for index, rows in enumerate(boxes):
        array = np.array(rows, np.float32).reshape(-1, 4)
        labels = np.zeros(len(array), np.int32)
        samples.append(Sample(str(index), f"{index}.jpg", array, labels, labels.astype(bool), size))
    return Dataset("made", ("a", "b"), samples)


@pytest.mark.parametrize(
    ("boxes", "per_image", "sizes", "small"),
    [
        ([[[0, 0, 99, 99]], [[0, 0, 199, 199]]], 1.0, (0.275, 0.375, 0.475), 0.0),
        ([[[0, 0, 9, 9]] * 3 + [[0, 0, 99, 99]], []], 4.0, (0.025, 0.025, 0.1825), 0.75),
        ([[]], 0.0, (0.0, 0.0, 0.0), 0.0),
    ],
)  # fmt: skip
def test_facts_of_a_dataset(
    boxes: List[List[List[float]]], per_image: float, sizes: Tuple[float, ...], small: float
) -> None:
    options = DetectionTraining.resolve({"dataset": "voc", "weights": "none", "head": "ssdlite", "size": 300})
    facts = facts_of(options, dataset(boxes, (400, 400)))
    assert (facts.images, facts.classes, facts.pretrained, facts.head) == (len(boxes), 2, False, "ssdlite")
    assert (facts.objects_per_image, facts.small_objects) == (per_image, small)
    assert facts.object_sizes == pytest.approx(sizes, abs=1e-3)
    assert facts.smallest_class == float("inf")
    assert facts.aspect_ratio == 1.0


def test_smallest_class_is_the_one_with_the_smallest_median_and_enough_objects() -> None:
    images = dataset([[[0, 0, 59, 59], [0, 0, 29, 29]]] * 19 + [[[0, 0, 59, 59]]], (600, 300))
    for sample in images.samples:
        sample.labels[1:] = 1
    options = DetectionTraining.resolve({"dataset": "voc", "size": 300})
    facts = facts_of(options, images)
    assert facts.smallest_class == pytest.approx(300 * 60 / (600 * 300) ** 0.5)
    assert facts.aspect_ratio == 2.0
    images.samples[-1].labels[0] = 1
    assert facts_of(options, images).smallest_class == pytest.approx(300 * 30 / (600 * 300) ** 0.5)


# ---- precedence and runs -----------------------------------------------------------------------------------


def write_recipe(path: Path, **content: Any) -> str:
    path.write_text(yaml.safe_dump({"task": "detection", **content}))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "values", "is_automatic"),
    [
        (DetectionTraining, {}, False),
        (DetectionTraining, {"dataset": "shapes"}, False),
        (DetectionTraining, {"dataset": "voc"}, True),
        (DetectionTraining, {"data_root": "photos"}, True),
        (DetectionTraining, {"recipe": "fast"}, False),
        (DetectionTraining, {"recipe": "fast", "data_root": "photos"}, True),
        (ClassificationTraining, {"dataset": "folder"}, True),
        (ClassificationTraining, {"dataset": "shapes"}, False),
        (ClassificationTraining, {"dataset": "cifar10"}, False),
    ],
)
def test_datasets_with_defaults_of_their_own_keep_them(
    kind: Any, values: Dict[str, Any], is_automatic: bool
) -> None:
    assert (resolve(kind, values).automatic is not None) == is_automatic


def test_recipe_precedes_the_choice_and_switches_it_off_without_a_budget(tmp_path: Path) -> None:
    options: Dict[str, Any] = {"dataset": "voc", "lr": 0.3, "epochs": 9}
    plain = resolve(DetectionTraining, {"recipe": write_recipe(tmp_path / "a.yaml", options=options)})
    assert plain.automatic is None
    assert (plain.options.loop.optimizer, plain.options.loop.lr) == ("sgd", 0.3)
    recipe = write_recipe(tmp_path / "b.yaml", options=options, budget=0.5)
    automatic = resolve(DetectionTraining, {"recipe": recipe, "epochs": 7}).automatic
    assert automatic is not None
    assert automatic.budget == 0.5
    assert {**options, "recipe": recipe, "epochs": 7}.items() <= automatic.given.items()


def stored(run: Path) -> Tuple[str, Training]:
    config = RunFolder(run).read_config()
    return config.chosen, config.options


@pytest.fixture
def arguments(shapes: str, tmp_path: Path) -> Dict[str, Any]:
    """Options of a run of three epochs of one step, whose dataset is not known to be the built-in one."""
    shutil.copytree(shapes, tmp_path / "photos")
    options = {"dataset": "auto", "width": 0.25, "size": 96, "weights": "none", "workers": 0}
    recipe = write_recipe(tmp_path / "tiny.yaml", options=options, budget=0.01)
    return {"recipe": recipe, "data_root": str(tmp_path / "photos"), "momentum": 0.8}


def test_run_stores_and_prints_what_was_chosen(
    arguments: Dict[str, Any], tmp_path: Path, capsys: Any
) -> None:
    run = train_detector({**arguments, "wd": 0.001, "output": str(tmp_path / "run")})
    line, options = stored(run)
    assert line
    assert line in capsys.readouterr().out.splitlines()
    loop = options.loop
    assert (loop.optimizer, loop.lr, loop.batch_size, loop.epochs) == ("sgd", 0.01, 16, 3)
    assert (loop.wd, loop.momentum) == (0.001, 0.8)
    assert [row["epoch"] for row in read_log(run)] == ["1", "2", "3"]

    resumed = resolve(DetectionTraining, {"resume": str(run)})
    assert resumed.automatic is None
    assert resumed.options.loop == replace(loop, resume=str(run), recalibrate_batchnorm=False)


def test_run_that_ended_before_its_first_checkpoint_starts_again_with_what_was_chosen(
    arguments: Dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mnssd.train.loop.make_trainer", stop)
        with pytest.raises(KeyboardInterrupt):
            train_detector({**arguments, "epochs": 1, "output": str(run)})
    before = stored(run)
    assert before[0]
    monkeypatch.setattr("mnssd.tasks.base.choose", None)
    train_detector({"resume": str(run)})
    assert stored(run) == before
