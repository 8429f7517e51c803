"""Training batches: shuffled, and loaded ahead in worker threads by Gluon's `DataLoader`.

A sample's randomness depends only on (seed, epoch, index), so that the number of threads changes no batch. In
balanced sampling it depends on the position in the epoch, too.
"""

from __future__ import annotations

import contextlib
import threading
import time
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import cv2
import numpy as np

from ..errors import DataError, TransformError
from .gluon_batches import gluon_batches

Arrays = Tuple[np.ndarray, ...]
Load = Callable[[Any, np.random.Generator], Arrays]

SLOW_SECONDS = 10.0
"""A read that takes longer is reported: training waits for a disk or network that does not respond."""

MAX_SKIPPED_IN_A_ROW = 20
"""After this many unusable images in a row the dataset as a whole is refused."""


class Batch(NamedTuple):
    """Arrays stacked over the batch, and the indices of its samples."""

    arrays: Arrays
    indices: Tuple[int, ...]


def stack(samples: List[Arrays]) -> Arrays:
    """The arrays of samples stacked over the batch."""
    return tuple(map(np.stack, zip(*samples)))


class _SlowReadMonitor:
    """Context manager that warns once per file whose read takes longer than `SLOW_SECONDS`."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._reading: Dict[int, Tuple[str, float]] = {}
        self._reported: Set[str] = set()
        self._ended = threading.Event()

    def __enter__(self) -> _SlowReadMonitor:
        self._thread = threading.Thread(target=self._check, name="mnssd-slow-reads", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Mark the calling thread as reading `path`."""
        self._reading[threading.get_ident()] = (path, time.monotonic())
        try:
            yield
        finally:
            self._reading.pop(threading.get_ident(), None)

    def _check(self) -> None:
        while not self._ended.wait(SLOW_SECONDS / 4):
            for path, since in list(self._reading.values()):
                if time.monotonic() - since > SLOW_SECONDS and path not in self._reported:
                    self._reported.add(path)
                    waited = f"still reading after {SLOW_SECONDS:.0f} seconds"
                    self._warn(f"warning: {path}: {waited}; check its disk or network")


class Loader:
    """Batches of a dataset for training.

    Parameters
    ----------
    samples : sequence
        Samples, or other objects with an ``image_path``.
    load : callable
        ``(sample, rng) -> arrays`` of the same shapes for all samples; raises DataError for an unusable one.
    batch_size : int
        Samples left over at the end of an epoch are not used; a dataset smaller than a batch is repeated.
    seed : int
    workers : int
        Worker threads; 0 loads each batch when it is requested.
    warn : callable
        Called with a warning about a read that hangs.
    repeats : numpy.ndarray, optional
        ``(N,)`` relative frequency of each sample, at least 1, for balanced sampling; see `data.balance`. An
        epoch is as long as without, so other samples are missing from some epochs.
    batchify : callable
        Makes the arrays of a batch from those of its samples.

    Attributes
    ----------
    shard : (int, int)
        Rank and world size: the part of each batch that this process loads, and the number of parts.
    skipped : dict of str to str
        Image path to the reason it could not be used. The next sample in the order of the epoch replaces it.
    """

    def __init__(
        self,
        samples: Sequence[Any],
        load: Load,
        batch_size: int,
        seed: int,
        workers: int,
        warn: Callable[[str], None] = print,
        repeats: Optional[np.ndarray] = None,
        batchify: Callable[[List[Arrays]], Arrays] = stack,
    ) -> None:
        if not len(samples):
            raise DataError("the training set has no images; check its splits")
        self.skipped: Dict[str, str] = {}
        self._unusable: Set[str] = set()
        self.shard = (0, 1)
        self.samples, self._load = samples, load
        self.batch_size, self._seed, self._workers = batch_size, seed, workers
        self._repeats, self._batchify = repeats, batchify
        self._lock = threading.Lock()
        self._warn, self._monitor = warn, _SlowReadMonitor(warn)
        cv2.setNumThreads(1)  # OpenCV's own threads would compete with the workers and with MXNet's

    def __len__(self) -> int:
        """Batches per epoch."""
        return max(1, len(self.samples) // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Sample indices of an epoch, in the order of use."""
        rng = np.random.default_rng([self._seed, epoch])
        rounds = -(-len(self) * self.batch_size // len(self.samples))
        return np.concatenate([self._round(rng) for _ in range(rounds)])

    def _round(self, rng: np.random.Generator) -> np.ndarray:
        """As many sample indices as there are samples, in random order."""
        count = len(self.samples)
        if self._repeats is None:
            return rng.permutation(count)
        times = np.floor(self._repeats + rng.random(count)).astype(int)  # rounded up or down at random
        return rng.permutation(np.repeat(np.arange(count), times))[:count]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of `epoch`, from batch number `start` on."""
        order = self.order(epoch)
        rank, world_size = self.shard
        size = self.batch_size // world_size
        starts = range(start * self.batch_size, len(self) * self.batch_size, self.batch_size)
        batches = [range(first + rank * size, first + (rank + 1) * size) for first in starts]
        loaded = gluon_batches(partial(self._get, order, epoch), batches, self._batchify, self._workers)
        self._monitor = _SlowReadMonitor(self._warn)
        with self._monitor, contextlib.closing(loaded):
            for positions, arrays in zip(batches, loaded):
                yield Batch(arrays, tuple(int(order[position]) for position in positions))

    def _get(self, order: np.ndarray, epoch: int, position: int) -> Arrays:
        """The arrays of the sample at `position`, or of the next one that can be used."""
        for later in range(MAX_SKIPPED_IN_A_ROW):
            index = int(order[(position + later) % len(order)])
            sample = self.samples[index]
            if sample.image_path in self._unusable:
                continue
            key = [self._seed, epoch, index, *([] if self._repeats is None else [position])]
            try:
                with self._monitor.reading(sample.image_path):
                    return self._load(sample, np.random.default_rng(key))
            except DataError as error:
                with self._lock:
                    self.skipped[sample.image_path] = str(error)
                    if not isinstance(error, TransformError):  # which other random numbers may avoid
                        self._unusable.add(sample.image_path)
        first = next(iter(self.skipped.values()))
        raise DataError(
            f"{MAX_SKIPPED_IN_A_ROW} images in a row cannot be used, {len(self.skipped)} in total; "
            f"the first: {first}"
        )
