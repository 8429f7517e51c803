"""Detections as labels of images without labels: what is used, ignored and left out; other files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from helpers.detectors import make_image, write_image

from mnssd.cli.main import run_command
from mnssd.data.dataset import Dataset
from mnssd.data.image import read_image
from mnssd.data.open import open_dataset
from mnssd.data.pseudo_labels import SURE_SCORE, with_pseudo_labels
from mnssd.data.sample import Sample
from mnssd.data.transform_options import AugmentOptions
from mnssd.errors import DataError
from mnssd.tasks.detection_samples import TrainingSamples

CLASSES = ("cat", "dog")


def detection(name: str, score: float, *box: float) -> Dict[str, Any]:
    return {"class": name, "score": score, "box": list(box)}


def entry(image: Any, *detections: Dict[str, Any], size: Any = (64, 48)) -> Dict[str, Any]:
    return {"image": str(image), "width": size[0], "height": size[1], "detections": list(detections)}


def write(path: Path, *entries: Any) -> str:
    path.write_text(json.dumps({"classes": list(CLASSES), "images": list(entries)}))
    return str(path)


@pytest.fixture
def labeled(tmp_path: Path) -> Dataset:
    """One image with a label, ``a.png``; ``b.png`` to ``e.png`` have none."""
    for index, name in enumerate("abcde"):
        write_image(tmp_path / f"{name}.png", make_image(index)[:48, :64])
    boxes = np.array([[1, 2, 20, 30]], np.float32)
    sample = Sample("a", str(tmp_path / "a.png"), boxes, np.int32([1]), np.zeros(1, bool), (64, 48))
    return Dataset("labeled", CLASSES, [sample])


def test_sure_detections_become_objects_and_others_are_ignored(labeled: Dataset, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write_image(tmp_path / "more" / "a.png", make_image(9)[:48, :64])
    sample = Sample("e", str(tmp_path / "e.png"), *[np.empty(0)] * 3, (64, 48))
    held_out = Dataset("held out", CLASSES, [sample])
    unsure = detection("dog", 0.3, 5, 5, 9, 9)
    path = write(
        tmp_path / "found.json",
        entry(tmp_path / "a.png", detection("cat", 0.9, 0, 0, 9, 9)),  # has a label
        entry(tmp_path / "b.png", detection("cat", SURE_SCORE, -3, 4, 70, 20), unsure),
        entry(tmp_path / "c.png", detection("dog", 0.59, 0, 0, 9, 9)),  # not sure
        entry("more/a.png", detection("dog", 0.7, 1, 1, 5, 6)),  # relative to the file; its name is taken
        entry("nowhere.png", detection("dog", 0.7, 1, 1, 5, 6)),
        entry(tmp_path / "e.png", detection("dog", 0.7, 1, 1, 5, 6)),  # held out
        entry(tmp_path / "b.png", detection("dog", 0.7, 1, 1, 5, 6)),  # again
    )
    result = with_pseudo_labels(labeled, path, [held_out])
    assert result.samples[0] is labeled.samples[0]
    first, second = result.samples[1:]
    assert [first.image_id, second.image_id] == ["b", "a-2"]
    np.testing.assert_array_equal(first.boxes, [[0, 4, 63, 20]])
    assert (first.labels.tolist(), second.labels.tolist()) == ([0], [1])
    np.testing.assert_array_equal(first.ignored, [[5, 5, 9, 9]])
    assert len(second.ignored) == 0
    (note,) = result.notes
    for part in ("2 images", "1 that cannot be found", "3 with labels", "1 without a sure detection"):
        assert part in note


def test_training_samples_have_no_target_for_ignored_boxes(labeled: Dataset, tmp_path: Path) -> None:
    found = detection("cat", 0.9, 2, 2, 17, 17), detection("dog", 0.3, 34, 2, 49, 17)
    dataset = with_pseudo_labels(labeled, write(tmp_path / "f.json", entry(tmp_path / "b.png", *found)))
    anchors = np.array([[10, 10, 16, 16], [42, 10, 16, 16], [42, 40, 16, 16]], np.float32)
    for augment in (None, AugmentOptions()):
        load = TrainingSamples(dataset, (64, 48), anchors, augment, 0.5, read_image)
        targets = load(dataset.samples[1], np.random.default_rng(0))[1]
        if augment is None:
            assert targets.tolist() == [1, -1, 0]
        assert 2 not in targets


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", "{" * 9999, '{"images": []}', '{"images": 3, "classes": []}',
        '{"images": [3], "classes": []}', '{"images": [{"image": "b.png"}], "classes": []}',
    ],
)  # fmt: skip
def test_file_of_another_kind_is_refused(content: str, labeled: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"found\.json"):
        with_pseudo_labels(labeled, str(path))


@pytest.mark.parametrize(
    "wrong",
    [
        detection("horse", 0.9, 0, 0, 9, 9), detection("cat", float("nan"), 0, 0, 9, 9),
        detection("cat", 0.9, 0, 0, 9), detection("cat", 0.9, 0, 0, 9, float("inf")), {"class": "cat"}, 7,
        {"class": ["cat"], "score": 0.9, "box": [0, 0, 9, 9]},
    ],
)  # fmt: skip
def test_wrong_detections_are_refused(wrong: Any, labeled: Dataset, tmp_path: Path) -> None:
    path = write(tmp_path / "found.json", entry(tmp_path / "b.png", wrong))
    with pytest.raises(DataError, match=r"found\.json"):
        with_pseudo_labels(labeled, path)


def test_nothing_to_learn_from_is_an_error(labeled: Dataset, tmp_path: Path) -> None:
    for entries in ([], [entry(tmp_path / "b.png")], [entry("b.png", detection("cat", 0.5, 0, 0, 9, 9))]):
        with pytest.raises(DataError, match=r"found\.json"):
            with_pseudo_labels(labeled, write(tmp_path / "found.json", *entries))
    with pytest.raises(DataError, match="absent"):
        with_pseudo_labels(labeled, str(tmp_path / "absent.json"))


def test_run_is_trained_with_detections_and_resumed(
    shapes: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    samples = list(open_dataset("shapes", shapes, "val"))
    names = open_dataset("shapes", shapes, "val").classes
    entries: List[Any] = []
    for index, sample in enumerate(samples):
        image = tmp_path / f"new-{index}.jpg"
        image.write_bytes(Path(sample.image_path).read_bytes())
        found = [
            detection(names[label], 0.8 if row else 0.4, *box.tolist())
            for row, (label, box) in enumerate(zip(sample.labels, sample.boxes))
        ]
        entries.append(entry(image, *found, size=sample.size))
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"classes": list(names), "images": entries}))
    run = tmp_path / "run"
    options = ["--data-root", shapes, "--width", "0.25", "--size", "96", "--batch-size", "8", "--epochs", "2"]
    options += ["--val-interval", "0", "--workers", "0", "--weights", "none"]
    assert run_command("train-ssd", [*options, "--unlabelled", str(path), "--output", str(run)]) == 0
    trained = set(json.loads((run / "start.json").read_text())["data"]["lists"]["train"])
    added = {name for name in trained if name.startswith("new-")}
    assert added == {f"new-{i}" for i, s in enumerate(samples) if len(s.boxes) > 1}
    assert added
    capsys.readouterr()
    assert run_command("train-ssd", ["--resume", str(run)]) == 0
    path.write_text(path.read_text().replace("0.8", "0.2"))
    assert run_command("train-ssd", ["--resume", str(run)]) not in (0, 70)
    assert "found.json" in capsys.readouterr().err
    for conflict in (["--overfit", "2"], ["--pipeline", "gluoncv"]):
        assert run_command("train-ssd", [*options, "--unlabelled", str(path), *conflict]) not in (0, 70)
        assert "unlabelled" in capsys.readouterr().err
