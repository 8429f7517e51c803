"""Resuming when the dataset, the weights file or the working directory are not those of the start."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.runs import assert_same_run

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.classification.datasets import open_classification_dataset
from mnssd.data.classification.labeled_image import ClassificationDataset
from mnssd.data.dataset import Dataset
from mnssd.data.open import open_dataset
from mnssd.data.record import DataRecord
from mnssd.data.sample import Sample
from mnssd.errors import DataError, MnssdError
from mnssd.tasks.run import train_classifier, train_detector
from mnssd.train import loop
from mnssd.train.options import ClassificationTraining
from mnssd.train.run_folder import RunConfig, RunFolder
from mnssd.train.run_start import RunStart


@pytest.fixture
def data(shapes: str, tmp_path: Path) -> Path:
    """A copy of the dataset of `tiny_run`, to be changed."""
    return Path(shutil.copytree(shapes, tmp_path / "moved"))


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def relabel(data: Path, names: Dict[str, str], files: str = "*.xml") -> None:
    """Rename classes in the annotations, all at once."""
    for path in (data / "Annotations").glob(files):
        parts = path.read_text().split("<name>")
        for i, part in enumerate(parts[1:], 1):
            name, rest = part.split("</name>", 1)
            parts[i] = f"{names.get(name, name)}</name>{rest}"
        path.write_text("<name>".join(parts))


def lines(path: Path) -> List[str]:
    return path.read_text().split()


def lists(data: Path) -> Path:
    return data / "ImageSets" / "Main"


def restore(run: Path, data: Path) -> Tuple[Dataset, Dataset, List[str]]:
    """The datasets with which a run is resumed, and notes."""
    train_set = open_dataset("shapes", data)
    val_set = open_dataset("shapes", data, None, train_set.classes, "val")
    restored, val, notes = RunStart.read(RunFolder(run)).restore(train_set, val_set)
    assert val is not None
    return restored, val, notes


def test_moved_dataset_is_resumed_and_its_new_place_is_stored(run: Path, data: Path) -> None:
    before = (run / "best.params").read_bytes()
    train_detector({"resume": str(run), "data_root": str(data)})
    assert RunFolder(run).read_config().options.data.data_root == str(data)
    assert (run / "best.params").read_bytes() == before


def test_classes_in_another_order_are_mapped_to_those_of_the_run(run: Path, data: Path) -> None:
    original, path = restore(run, data), data / "classes.txt"
    path.write_text("\n".join(reversed(lines(path))))
    assert open_dataset("shapes", data).classes == original[0].classes[::-1]
    for part, expected in zip(restore(run, data)[:2], original):
        assert part.classes == expected.classes == RunFolder(run).read_config().spec.classes
        assert [s.labels.tolist() for s in part] == [s.labels.tolist() for s in expected]


def test_lists_in_another_order_or_divided_anew_keep_the_images_of_the_run(run: Path, data: Path) -> None:
    original = restore(run, data)
    train_list, val_list = lines(lists(data) / "train.txt"), lines(lists(data) / "val.txt")
    (lists(data) / "train.txt").write_text("\n".join([val_list[0], *train_list[:0:-1]]))
    (lists(data) / "val.txt").write_text("\n".join([*val_list[1:], train_list[0]]))
    for part, expected in zip(restore(run, data)[:2], original):
        assert [sample.image_id for sample in part] == [sample.image_id for sample in expected]


def rename_a_class(data: Path) -> None:
    relabel(data, {"cross": "kreuz"})
    text = (data / "classes.txt").read_text()
    (data / "classes.txt").write_text(text.replace("cross", "kreuz"))


def swap_two_classes(data: Path) -> None:
    relabel(data, {"ring": "star", "star": "ring"})


def merge_two_classes(data: Path) -> None:
    relabel(data, {"ring": "star"})


def add_a_class(data: Path) -> None:
    relabel(data, {"star": "nova"}, f"{lines(lists(data) / 'train.txt')[0]}.xml")
    relabel(data, {"circle": "nova"}, f"{lines(lists(data) / 'train.txt')[1]}.xml")
    relabel(data, {"square": "nova"}, f"{lines(lists(data) / 'train.txt')[2]}.xml")


def remove_images(data: Path) -> None:
    (lists(data) / "train.txt").write_text("\n".join(lines(lists(data) / "train.txt")[2:]))


def remove_validation_images(data: Path) -> None:
    (lists(data) / "val.txt").write_text("\n".join(lines(lists(data) / "val.txt")[1:]))


def replace_the_dataset(data: Path) -> None:
    from mnssd.data.shapes.dataset import make_shapes

    shutil.rmtree(data)
    make_shapes(data, train=24, val=8, size=(96, 96), seed=9)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (rename_a_class, ["kreuz", "cross"]),
        (swap_two_classes, ["ring", "star"]),
        (merge_two_classes, ["ring"]),
        (add_a_class, ["nova"]),
        (remove_images, ["train"]),
        (remove_validation_images, ["val"]),
        (replace_the_dataset, ["000000"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_changed_dataset_is_refused_by_name(
    run: Path, data: Path, change: Callable[[Path], None], named: List[str], capsys: pytest.CaptureFixture
) -> None:
    change(data)
    files = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert main(["train-ssd", "--resume", str(run), "--data-root", str(data), "--no-report"]) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in [str(run), *named]), message
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == files


def test_added_images_are_not_used_and_changed_boxes_are_told(run: Path, data: Path) -> None:
    first = lines(lists(data) / "train.txt")[0]
    for folder in ("Annotations", "JPEGImages"):
        old = next((data / folder).glob(f"{first}.*"))
        shutil.copy(old, old.with_name(f"zz_new{old.suffix}"))
    with open(lists(data) / "train.txt", "a") as file:
        file.write("\nzz_new\n")
    path = data / "Annotations" / f"{first}.xml"
    text = path.read_text()
    value = text.split("<xmax>")[1].split("</xmax>")[0]
    path.write_text(text.replace(f"<xmax>{value}<", f"<xmax>{int(value) - 1}<", 1))
    train_set, _, notes = restore(run, data)
    assert len(train_set) == 24
    assert [("zz_new" in note, first in note) for note in notes] == [(True, False), (False, True)]


def test_classes_of_a_run_of_an_older_version_are_compared(run: Path, data: Path) -> None:
    (run / "start.json").unlink()
    path = data / "classes.txt"
    path.write_text("\n".join(reversed(lines(path))))
    assert restore(run, data)[0].classes == RunFolder(run).read_config().spec.classes
    rename_a_class(data)
    with pytest.raises(DataError, match="kreuz"):
        restore(run, data)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"data": {"lists": 3, "objects": {}}, "pretrained": []}']
)
def test_damaged_record_is_named(run: Path, data: Path, content: str) -> None:
    (run / "start.json").write_text(content)
    with pytest.raises(MnssdError, match=r"start\.json"):
        restore(run, data)


def test_run_with_weights_is_resumed_elsewhere_without_them(
    shapes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learning rates of the loaded parameters and the others remain different."""
    options: Dict[str, Any] = {
        "dataset": "shapes", "data_root": shapes, "width": 0.25, "size": (32, 32), "epochs": 2, "workers": 0,
        "batch_size": 32, "lr": 0.05, "val_interval": 0, "weights": "weights.params", "linear_probe": False,
        "pretrained_lr": 0.3, "structure": "structure",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    spec = zoo.ClassifierSpec(("a", "b"), "mobilenet_v2", 0.25, (32, 32))
    net = zoo.build_classifier(spec)
    zoo.initialize(net)
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.save_parameters("weights.params")
    RunFolder.create("structure", "").write_config(RunConfig(spec, ClassificationTraining.resolve({})))
    train_classifier({**options, "output": "whole"})
    save = loop.save_checkpoint

    def stop_after_the_first_epoch(path: Path, *, progress: Any, **state: Any) -> None:
        save(path, progress=progress, **state)
        if progress.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", stop_after_the_first_epoch)
        with pytest.raises(KeyboardInterrupt):
            train_classifier({**options, "output": "stopped"})
    Path("weights.params").unlink()
    shutil.rmtree("structure")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    train_classifier({"resume": "../stopped"})
    assert_same_run(Path("../stopped"), Path("../whole"))
    pretrained = json.loads(Path("../whole/start.json").read_text())["pretrained"]
    assert pretrained
    assert not any(name.startswith("output") for name in pretrained)


def test_renamed_folder_of_a_classifier_is_named(tmp_path: Path) -> None:
    def folder(*names: str) -> ClassificationDataset:
        for number, name in enumerate(names):
            for i in range(4):
                path = tmp_path / "-".join(names) / "train" / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(10 * number + i))
        return open_classification_dataset("folder", str(tmp_path / "-".join(names)), "eval")

    first = folder("cat", "zebra")
    start = RunStart(
        RunFolder(tmp_path), zoo.ClassifierSpec(first.classes), DataRecord.of({"train": first}), ()
    )
    assert start.restore(first, None)[0].samples == first.samples
    with pytest.raises(DataError, match="zebra.*ant"):
        start.restore(folder("cat", "ant").with_classes(("ant", "cat")), None)
    with pytest.raises(DataError, match="cat.*zebra"):
        start.restore(folder("zebra", "cat"), None)


@pytest.mark.parametrize("part", ["", "train"])
def test_swapped_folders_with_files_of_the_same_names_and_sizes_are_named(part: str, tmp_path: Path) -> None:
    place = tmp_path / part
    for number, name in enumerate("abcde"):
        (place / name).mkdir(parents=True)
        for i in range(8):
            (place / name / f"{i}.bmp").write_bytes(bytes([number, i]) * 50)

    def parts() -> Dict[str, ClassificationDataset]:
        return {role: open_classification_dataset("folder", str(tmp_path), role) for role in ("train", "val")}

    first = parts()
    spec = zoo.ClassifierSpec(first["train"].classes)
    start = RunStart(RunFolder(tmp_path), spec, DataRecord.of(first), ())
    assert start.restore(*parts().values())[2] == []
    for old, new in (("b", "x"), ("c", "b"), ("x", "c")):
        (place / old).rename(place / new)
    with pytest.raises(DataError, match="'b'.*'c'"):
        start.restore(*parts().values())


def test_equal_boxes_of_two_classes_are_told_apart() -> None:
    """The box that is left of a class is that of another class in another image."""

    def dataset(*labels: int) -> Dataset:
        box, easy = np.array([[1, 1, 9, 9]], np.float32), np.zeros(1, bool)
        samples = []
        for i, label in enumerate(labels):
            objects = slice(int(label >= 0))
            label_array = np.array([label], np.int32)[objects]
            samples.append(Sample(f"{i}", f"{i}.jpg", box[objects], label_array, easy[objects], (20, 20)))
        return Dataset("boxes", ("a", "b"), samples)

    record = DataRecord.of({"train": dataset(0, 0, 0, 1, 1)})
    restored, notes = record.restore({"train": dataset(-1, 0, 0, 1, 1)}, ("a", "b"))
    assert [len(sample.labels) for sample in restored["train"]] == [0, 1, 1, 1, 1]
    assert len(notes) == 1
    with pytest.raises(DataError, match="'a'.*'b'"):
        record.restore({"train": dataset(1, 1, 1, 0, 0)}, ("a", "b"))


def test_network_of_a_plugin_that_is_not_loaded_is_named(run: Path, capsys: pytest.CaptureFixture) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("network: mobilenet_v1", "network: mynet"))
    assert main(["train-ssd", "--resume", str(run)]) == 1
    message = capsys.readouterr().err
    assert all(word in message for word in (str(run / "config.yaml"), "mynet", "--plugin"))


def test_pruning_refuses_classes_in_another_order(
    run: Path, data: Path, capsys: pytest.CaptureFixture
) -> None:
    path = data / "classes.txt"
    path.write_text("\n".join(reversed(lines(path))))
    assert main(["prune", str(run), "--data-root", str(data)]) == 1
    assert "triangle, star" in capsys.readouterr().err
    assert not run.with_name("run-pruned-start").exists()
