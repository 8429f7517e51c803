"""Balanced sampling: which images are used how often, and in which order."""

from __future__ import annotations

from typing import Any, List, NamedTuple

import numpy as np
import pytest

from mnssd.data.balance import balance_note, repeat_factors
from mnssd.data.loader import Loader

RARE = 10
"""Of 40 images with class 0, one shows class 1, too; at the threshold of 1/2 its factor is 4.47."""

LABELS = [[0, 1, 1] if index == RARE else [0, 0] for index in range(40)]


class Image(NamedTuple):
    image_path: str


def loader(workers: int = 0, batch_size: int = 4, balanced: bool = True) -> Loader:
    """Batches of random numbers."""

    def load(sample: Image, rng: np.random.Generator) -> Any:
        return (np.array(rng.random()),)

    images = [Image(str(index)) for index in range(len(LABELS))]
    repeats = repeat_factors(LABELS, 2) if balanced else None
    return Loader(images, load, batch_size, seed=5, workers=workers, repeats=repeats)


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        ([[0], [1], [2]], 3, [1, 1, 1]),  # as frequent as the threshold
        (LABELS, 2, [20**0.5 if index == RARE else 1 for index in range(40)]),
        ([[0], [], [], []], 1, [2, 1, 1, 1]),  # the others show nothing
        ([[0, 1], [0], [0], [0], [0], [0], [0], [0], [2]], 3, [3**0.5, *[1] * 7, 3**0.5]),
        ([[0], [0]], 4, [1, 1]),  # classes without images
    ],
)
def test_factor_is_the_largest_of_the_classes(
    labels: List[List[int]], classes: int, expected: List[float]
) -> None:
    np.testing.assert_allclose(repeat_factors(labels, classes), expected)


def test_threshold_is_about_the_published_one_for_as_many_classes_as_lvis_has() -> None:
    """A class in 1 of 10,000 images: sqrt(.001 / .0001) is 3.2."""
    labels: List[List[int]] = [[] for _ in range(10_000)]
    labels[7] = [3]
    assert repeat_factors(labels, 1203)[7] == pytest.approx(3.2, abs=0.4)


def test_classes_are_named_with_their_factors() -> None:
    note = balance_note(LABELS, ("cat", "lynx"))
    assert "lynx 4.5" in note
    assert "cat" not in note
    assert "cat" not in balance_note([[0], [1]], ("cat", "lynx"))


def test_images_are_used_in_proportion_to_their_factors() -> None:
    orders = [loader().order(epoch) for epoch in range(400)]
    assert {len(order) for order in orders} == {40}
    counts = np.bincount(np.concatenate(orders), minlength=40) / 400
    others = np.delete(counts, RARE)
    assert counts[RARE] / others.mean() == pytest.approx(20**0.5, rel=0.03)
    assert others.min() > 0.8


def test_order_depends_on_seed_and_epoch_only_and_resumes_within_an_epoch() -> None:
    whole, threads = (list(loader(workers).epoch(3)) for workers in (0, 3))
    later = list(loader().epoch(3, start=6))
    for batches, expected in ((threads, whole), (later, whole[6:])):
        assert [batch.indices for batch in batches] == [batch.indices for batch in expected]
        for batch, other in zip(batches, expected):
            np.testing.assert_array_equal(batch.arrays[0], other.arrays[0])
    assert not np.array_equal(loader().order(3), loader().order(4))


def test_repeated_image_is_augmented_anew() -> None:
    batches = [batch for epoch in range(5) for batch in loader().epoch(epoch)]
    values = [value for b in batches for i, value in zip(b.indices, b.arrays[0]) if i == RARE]
    assert len(values) > 10
    assert len(set(values)) == len(values)


def test_without_balance_nothing_changes() -> None:
    """The order and randomness that earlier versions have."""
    plain = loader(balanced=False)
    rng = np.random.default_rng([5, 2])
    np.testing.assert_array_equal(plain.order(2), rng.permutation(40))
    batch = next(plain.epoch(2))
    expected = [np.random.default_rng([5, 2, index]).random() for index in batch.indices]
    np.testing.assert_array_equal(batch.arrays[0], expected)


def test_dataset_smaller_than_a_batch_is_repeated() -> None:
    (batch,) = loader(batch_size=100).epoch(0)
    assert len(batch.indices) == 100
    assert batch.indices.count(RARE) > 4


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_tasks_balance_on_request(task: str, shapes: str) -> None:
    """Images with stars are rare among those of one class; crops of the rarest class among all crops."""
    from mnssd.tasks.run import make_task
    from mnssd.train.options import TRAININGS

    options = {
        "data_root": shapes, "dataset": "shapes", "width": 0.25, "size": 96, "batch_size": 8,
        "balanced": True, "fast_graph": False, **({"classes": ["star"]} if task == "detection" else {}),
    }  # fmt: skip
    built = make_task(TRAININGS[task].resolve(options))
    labels = [getattr(sample, "labels", [getattr(sample, "label", 0)]) for sample in built.train_set]
    rarest = int(np.bincount(np.concatenate(labels)).argmin())
    shown = np.array([rarest in row for row in labels])
    assert 0 < shown.mean() < 1 / len(built.train_set.classes)
    used = np.concatenate([built.batches.order(epoch) for epoch in range(40)])
    assert shown[used].mean() > 1.05 * shown.mean()
    assert any(built.train_set.classes[rarest] in note for note in built.notes)
