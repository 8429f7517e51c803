"""Deferred signals."""

from __future__ import annotations

import os
import signal
from typing import Iterator

import pytest

from mnssd.runtime.signals import SignalHandler


@pytest.fixture
def default_sigint() -> Iterator[None]:
    """Python's own handler of SIGINT, whatever this process has."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def test_ignored_signal_stays_ignored(default_sigint: None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with SignalHandler() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received is None


def test_second_sigint_raises_keyboard_interrupt(default_sigint: None) -> None:
    with SignalHandler() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
