"""Loader and prefetcher: order, randomness, skipped images, threads."""

from __future__ import annotations

import threading
from typing import Any, List, Tuple

import numpy as np
import pytest

from mnssd.data import loader
from mnssd.data.loader import Loader
from mnssd.data.prefetch import prefetch
from mnssd.data.sample import Sample
from mnssd.errors import DataError


def samples(count: int) -> List[Sample]:
    boxes, empty = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    return [Sample(str(i), f"{i}.jpg", boxes, empty, empty.astype(bool), (10, 10)) for i in range(count)]


def load_number(sample: Sample, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
    return np.array([int(sample.image_id)]), rng.random(3)


def collect(loader: Loader, epoch: int, start: int = 0) -> List[Any]:
    return [(batch.indices, *map(np.ndarray.tolist, batch.arrays)) for batch in loader.epoch(epoch, start)]


def test_worker_count_does_not_change_batches() -> None:
    one, none, five = (Loader(samples(23), load_number, 4, seed=3, workers=w) for w in (1, 0, 5))
    for epoch in (0, 1):
        assert collect(one, epoch) == collect(none, epoch) == collect(five, epoch)
    assert collect(one, 0) != collect(one, 1)


def test_batches_from_the_middle_of_an_epoch_are_the_same() -> None:
    loader = Loader(samples(23), load_number, 4, seed=3, workers=2)
    assert collect(loader, 2, start=3) == collect(loader, 2)[3:]


def test_epoch_uses_each_sample_at_most_once_in_full_batches() -> None:
    batches = Loader(samples(23), load_number, 4, seed=3, workers=2).epoch(0)
    indices = [index for batch in batches for index in batch.indices]
    assert len(indices) == len(set(indices)) == 20


def test_dataset_smaller_than_a_batch_is_repeated() -> None:
    (batch,) = Loader(samples(3), load_number, 8, seed=0, workers=0).epoch(0)
    assert set(batch.indices) == {0, 1, 2}
    assert len(batch.indices) == 8


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_shards_make_up_the_batches_of_one_process(world_size: int, workers: int) -> None:
    def batches(rank: int, world_size: int) -> List[Any]:
        loader = Loader(samples(29), load_number, 6, seed=0, workers=workers)
        loader.shard = (rank, world_size)
        return list(loader.epoch(1))

    shards = [batches(rank, world_size) for rank in range(world_size)]
    for number, whole in enumerate(batches(0, 1)):
        assert whole.indices == sum((shard[number].indices for shard in shards), ())
        for part, array in enumerate(whole.arrays):
            np.testing.assert_array_equal(array, np.concatenate([s[number].arrays[part] for s in shards]))


@pytest.mark.parametrize("workers", [0, 3])
def test_unusable_sample_is_replaced_and_recorded(workers: int) -> None:
    def load(sample: Sample, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
        if sample.image_id == "5":
            raise DataError("5.jpg is damaged")
        return load_number(sample, rng)

    loader = Loader(samples(8), load, 4, seed=0, workers=workers)
    values = np.concatenate([batch.arrays[0] for batch in loader.epoch(0)])
    assert 5 not in values
    assert len(values) == 8
    assert loader.skipped == {"5.jpg": "5.jpg is damaged"}


def test_dataset_of_unusable_samples_raises_the_first_error() -> None:
    def load(sample: Sample, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
        raise DataError(f"{sample.image_path} is damaged")

    with pytest.raises(DataError, match=r"\d\.jpg is damaged"):
        next(Loader(samples(30), load, 4, seed=0, workers=2).epoch(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_hanging_read_is_reported_once_while_it_hangs(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "SLOW_SECONDS", 0.1)
    warnings, warned = [], threading.Event()

    def warn(text: str) -> None:
        warnings.append(text)
        warned.set()

    def load(sample: Sample, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
        if sample.image_id == "3":
            assert warned.wait(30)
        return (np.zeros(1),)

    assert len(list(Loader(samples(8), load, 4, 0, workers, warn).epoch(0))) == 2
    assert len(warnings) == 1
    assert "3.jpg" in warnings[0]


def test_closing_an_epoch_early_ends_its_threads() -> None:
    before = threading.active_count()
    batches = Loader(samples(100), load_number, 4, seed=0, workers=3).epoch(0)
    next(batches)
    batches.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_prefetch_keeps_the_order(workers: int) -> None:
    assert list(prefetch(lambda n: n * n, range(50), workers, 7)) == [n * n for n in range(50)]


def test_prefetch_reads_no_more_than_ahead_of_the_consumer() -> None:
    started: List[int] = []
    results = prefetch(lambda n: n, (started.append(n) or n for n in range(100)), 2, 5)  # type: ignore[func-returns-value]
    assert next(results) == 0
    assert started == [0, 1, 2, 3, 4]
    results.close()


def test_prefetch_raises_the_error_when_its_result_is_due() -> None:
    def inverse(n: int) -> float:
        return 1 / (3 - n)

    results = prefetch(inverse, range(100), 2, 8)
    assert [next(results) for _ in range(3)] == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not [t for t in threading.enumerate() if t.name.startswith("mnssd-worker")]
