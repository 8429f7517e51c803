"""Deferred SIGINT and SIGTERM, for work that must finish a step before it ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Dict, Optional

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalHandler:
    """Context manager that records SIGINT (Ctrl-C) and SIGTERM instead of ending the process.

    A second SIGINT raises KeyboardInterrupt. Signals that are ignored, as under `nohup`, stay ignored.
    Outside the main thread, which alone can install handlers, nothing changes.

    Attributes
    ----------
    received : int or None
        Number of the last signal received.
    """

    def __init__(self) -> None:
        self.received: Optional[int] = None
        self._previous: Dict[int, Any] = {}

    def __enter__(self) -> SignalHandler:
        if threading.current_thread() is threading.main_thread():
            active = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._receive) for number in active}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Optional[FrameType]) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
