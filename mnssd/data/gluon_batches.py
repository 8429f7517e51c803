"""Batches loaded ahead by the threads of Gluon's `DataLoader`, which end when the generator is closed."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Generator, Iterable, Iterator, List, Sequence

from ..errors import MnssdError

BATCHES_AHEAD = 3
"""Batches prepared ahead of training: enough to smooth over slow images at little memory."""

Get = Callable[[Any], Any]
Batchify = Callable[[List[Any]], Any]


class _Items:
    """Dataset of the `DataLoader`: an index is what the batch sampler gives, an item what `get` returns."""

    def __init__(self, get: Get) -> None:
        self._get, self._is_closed = get, False

    def __len__(self) -> int:
        raise TypeError("the batch sampler has the length")

    def __getitem__(self, index: Any) -> Any:
        if self._is_closed:  # so that the end waits for one item of each thread, not for the whole batch
            raise RuntimeError("the loader was closed")
        return self._get(index)

    def close(self) -> None:
        """Refuse further items."""
        self._is_closed = True


@contextlib.contextmanager
def _data_loader(
    get: Get, batches: Iterable[Sequence[Any]], batchify: Batchify, workers: int, ahead: int
) -> Iterator[Any]:
    """Context manager of a Gluon `DataLoader` that waits for slow items and ends its threads.

    MXNet 1.9.1 gives up after 120 seconds by default, in which a network disk may not have answered, and ends
    its threads only when Python deletes the loader.

    Raises MnssdError if threads are wanted where Python cannot create semaphores: in a container without a
    writable /dev/shm.
    """
    from mxnet.gluon.data import DataLoader

    items = _Items(get)
    try:
        loader = DataLoader(
            items, batch_sampler=batches, batchify_fn=batchify, num_workers=workers, thread_pool=True,
            prefetch=ahead, timeout=threading.TIMEOUT_MAX,
        )  # fmt: skip
    except OSError as error:
        raise MnssdError(
            f"--workers: threads that load images need semaphores in /dev/shm ({error.strerror}); make it "
            "writable, or set --workers 0, which loads images without threads"
        ) from error
    try:
        yield loader
    finally:
        items.close()
        if loader._worker_pool is not None:
            loader._worker_pool.terminate()
            loader._worker_pool.join()


def gluon_batches(
    get: Get,
    batches: Iterable[Sequence[Any]],
    batchify: Batchify,
    workers: int,
    ahead: int = BATCHES_AHEAD,
) -> Generator[Any, None, None]:
    """Yield ``batchify([get(item) for item in batch])`` of each batch, in order, by Gluon's `DataLoader`.

    Parameters
    ----------
    get, batchify : callable
        Must be thread-safe. An exception is raised when the batch is due.
    batches : iterable
        Read lazily, in the calling thread.
    workers : int
        Threads, each of which loads one batch at a time; 0 loads in the calling thread when a batch is due.
    ahead : int
        Batches loaded ahead; at least one per thread.

    Raises
    ------
    MnssdError
        If the threads cannot be started.
    """
    with _data_loader(get, batches, batchify, workers, max(ahead, workers)) as loader:
        yield from loader
