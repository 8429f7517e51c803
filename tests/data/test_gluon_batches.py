"""Batches by Gluon's loader: their order, bounded reading ahead, errors, and threads that end."""

from __future__ import annotations

import errno
import multiprocessing.synchronize
import os
import threading
import time
from itertools import count
from typing import Any, Iterator, List

import pytest

from mnssd.data.gluon_batches import gluon_batches
from mnssd.errors import MnssdError


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_in_order(workers: int) -> None:
    def get(n: int) -> int:
        time.sleep(0.001 * (n % 3))
        return n * n

    batches = [range(first, first + 4) for first in range(0, 40, 4)]
    assert list(gluon_batches(get, batches, sum, workers)) == [sum(n * n for n in batch) for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_endless_batches_are_read_no_further_than_ahead(workers: int) -> None:
    started: List[int] = []

    def batches() -> Iterator[List[int]]:
        for n in count():
            started.append(n)
            yield [n]

    loaded = gluon_batches(lambda n: n, batches(), list, workers, ahead=3)
    assert [next(loaded) for _ in range(5)] == [[0], [1], [2], [3], [4]]
    assert len(started) <= 5 + 3
    loaded.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_raised_when_its_batch_is_due(workers: int) -> None:
    before = threading.active_count()
    loaded = gluon_batches(lambda n: 1 / (3 - n), [[n] for n in range(20)], list, workers)
    assert [next(loaded) for _ in range(3)] == [[1 / 3], [1 / 2], [1]]
    with pytest.raises(ZeroDivisionError):
        next(loaded)
    assert threading.active_count() == before


def test_closing_waits_for_one_item_of_each_thread_only() -> None:
    read: List[int] = []

    def get(n: int) -> int:
        time.sleep(0.01)
        read.append(n)
        return n

    before = threading.active_count()
    loaded = gluon_batches(get, [[0], range(1, 1000), range(1000, 2000)], list, 2)
    assert next(loaded) == [0]
    loaded.close()
    assert threading.active_count() == before
    assert len(read) < 500


def test_threads_without_semaphores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a read-only /dev/shm: ``unshare -m``, ``mount -t tmpfs -o ro none /dev/shm``."""

    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", refuse)
    with pytest.raises(MnssdError, match=r"/dev/shm.*--workers 0"):
        next(gluon_batches(str, [[1, 2]], list, workers=1))
    assert next(gluon_batches(str, [[1, 2]], list, workers=0)) == ["1", "2"]
