"""Ordered, bounded prefetching with worker threads."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Generator, Iterable, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(
    function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int
) -> Generator[R, None, None]:
    """Yield ``function(item)`` for each item, in order, computed in worker threads.

    Not in processes: decoding and NumPy release the interpreter lock, and a fork after MXNet has been loaded
    may hang.

    Parameters
    ----------
    function : callable
        Must be thread-safe. Its exception is raised when its result is due; no further item is started.
    items : iterable
        Read lazily, in the calling thread.
    workers : int
        Worker threads; 0 computes in the calling thread, without prefetching.
    ahead : int
        Maximum number of results that are computed or held before they are consumed.
    """
    if not workers:
        yield from map(function, items)
        return
    pending: Deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="mnssd-worker") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
