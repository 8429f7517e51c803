"""Plugins in tests that run commands in this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

import pytest

from mnssd.registry import Registry
from mnssd.runtime import plugins


@contextmanager
def forgotten_plugins(registry: Registry[Any]) -> Iterator[None]:
    """Plugins that are loaded inside, and what they add to `registry`, are forgotten at the end."""
    list(registry)  # imports the built-in entries, which stay
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "_loaded", [])
        patch.setenv(plugins.VARIABLE, "")
        patch.setattr(registry, "_entries", dict(registry._entries))
        yield
