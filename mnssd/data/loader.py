"""From samples to batches: ordered, prefetching, in threads.

Threads, not processes: decoding, OpenCV and NumPy release Python's lock, and threads neither fork
MXNet's engine (hangs), nor need shared memory (containers have little), nor copy batches. The number of
threads changes nothing in what comes out: the randomness of a sample is that of (seed, epoch, index).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Deque, Dict, Iterator, List, NamedTuple, Sequence, Set, Tuple

import cv2
import numpy as np

from ..errors import DataError

Arrays = Tuple[np.ndarray, ...]
Load = Callable[[Any, np.random.Generator], Arrays]

IN_FLIGHT = 3
"""Batches being prepared while one is computed: enough to smooth slow images, little memory."""

SLOW_SECONDS = 10.0
"""After so long a sample that is still being read is told of: a disk that does not answer stops it all."""

TRIES = 20
"""Unusable images in a row after which the dataset as a whole is refused."""


class Batch(NamedTuple):
    """Arrays stacked over the batch, and the indices of the samples in them."""

    arrays: Arrays
    indices: Tuple[int, ...]


class _Watch:
    """Within ``with``, tells of samples that take longer than `SLOW_SECONDS`, each once, while they do."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._reading: Dict[int, Tuple[str, float]] = {}
        self._told: Set[str] = set()
        self._ended = threading.Event()

    def __enter__(self) -> _Watch:
        self._thread = threading.Thread(target=self._look, name="mnssd-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """What this thread does meanwhile is watched."""
        self._reading[threading.get_ident()] = (path, time.monotonic())
        try:
            yield
        finally:
            self._reading.pop(threading.get_ident(), None)

    def _look(self) -> None:
        while not self._ended.wait(SLOW_SECONDS / 4):
            for path, since in list(self._reading.values()):
                if time.monotonic() - since > SLOW_SECONDS and path not in self._told:
                    self._told.add(path)
                    self._say(
                        f"warning: reading {path} has taken {SLOW_SECONDS:.0f} seconds and goes on; is its "
                        "disk, or its network, there?"
                    )


class Loader:
    """Batches of a dataset for training.

    Parameters
    ----------
    samples : sequence of Sample, or of anything else with an ``image_path``
    load : callable
        ``(sample, rng) -> arrays``, all shapes equal for all samples; raises DataError for an unusable one.
    batch_size : int
        Every batch has it: samples left over at an epoch's end are not used in that epoch, and a data
        set smaller than a batch is gone through several times.
    seed : int
    workers : int
        Threads; 0 prepares each batch when it is asked for.
    say : callable
        Told of a sample whose reading hangs.

    Attributes
    ----------
    samples : sequence
    batch_size : int
    share : (int, int)
        Which part of each batch is given, and of how many: of several processes each asks for its own.
    bad : dict of str to str
        Image path -> why it could not be used. In the batch the next sample of the epoch's order stands
        in for it.
    """

    def __init__(
        self,
        samples: Sequence[Any],
        load: Load,
        batch_size: int,
        seed: int,
        workers: int,
        say: Callable[[str], None] = print,
    ) -> None:
        if not len(samples):
            raise DataError("the training set has no images; check its splits")
        self.bad: Dict[str, str] = {}
        self.share = (0, 1)
        self.samples, self._load = samples, load
        self.batch_size, self._seed, self._workers = batch_size, seed, workers
        self._lock = threading.Lock()
        self._say, self._watch = say, _Watch(say)
        cv2.setNumThreads(1)  # OpenCV's own threads would compete with the workers and with MXNet's

    def __len__(self) -> int:
        """Batches in an epoch."""
        return max(1, len(self.samples) // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Indices of the samples of an epoch, in the order of their use."""
        rng = np.random.default_rng([self._seed, epoch])
        wanted = len(self) * self.batch_size
        rounds = -(-wanted // len(self.samples))
        return np.concatenate([rng.permutation(len(self.samples)) for _ in range(rounds)])

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch`, beginning with batch number `start`."""
        self._watch = _Watch(self._say)
        with self._watch:
            yield from self._batches(epoch, start)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        order = self.order(epoch)
        if not self._workers:
            for number in range(start, len(self)):
                yield self._stack(
                    [self._get(order, epoch, p) for p in self._positions(number)], order, number
                )
            return
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="mnssd-data")
        pending: Deque[Tuple[int, List[Future[Arrays]]]] = deque()
        try:
            for number in range(start, len(self)):
                futures = [pool.submit(self._get, order, epoch, p) for p in self._positions(number)]
                pending.append((number, futures))
                if len(pending) >= IN_FLIGHT:
                    ready, futures = pending.popleft()
                    yield self._stack([f.result() for f in futures], order, ready)
            for ready, futures in pending:
                yield self._stack([f.result() for f in futures], order, ready)
        finally:
            for _, futures in pending:
                for future in futures:
                    future.cancel()
            pool.shutdown(wait=True)

    def _positions(self, number: int) -> range:
        part, parts = self.share
        size = self.batch_size // parts
        begin = number * self.batch_size + part * size
        return range(begin, begin + size)

    def _stack(self, parts: List[Arrays], order: np.ndarray, number: int) -> Batch:
        indices = tuple(int(order[p]) for p in self._positions(number))
        return Batch(tuple(np.stack(arrays) for arrays in zip(*parts)), indices)

    def _get(self, order: np.ndarray, epoch: int, position: int) -> Arrays:
        for later in range(TRIES):
            index = int(order[(position + later) % len(order)])
            sample = self.samples[index]
            if sample.image_path in self.bad:
                continue
            try:
                with self._watch.reading(sample.image_path):
                    return self._load(sample, np.random.default_rng([self._seed, epoch, index]))
            except DataError as error:
                with self._lock:
                    self.bad[sample.image_path] = str(error)
        first = next(iter(self.bad.values()))
        raise DataError(
            f"{TRIES} images in a row cannot be used, among {len(self.bad)} bad ones; the first: {first}"
        )
