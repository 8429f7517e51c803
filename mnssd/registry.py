"""Registries: objects by name, one module each in a folder of the package, more of them from plugins.

Built-in entries have the names of their modules, so that listing them (for ``--help``) imports nothing.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Dict, Generic, Iterator, Tuple, TypeVar

from .errors import OptionError
from .options import unknown_name
from .runtime.plugins import load_plugins

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects of one kind by name.

    Parameters
    ----------
    kind : str
        What an entry is, for messages: ``'network'``.
    package : str
        Such as ``'mnssd.nn.backbones'``. Every module in it registers one entry under its own name, with
        ``-`` for ``_`` if `dashes`.
    dashes : bool
        Whether names are written with dashes, as in ``onnx-int8``.

    Examples
    --------
    >>> from mnssd.nn.backbones import backbones
    >>> backbones.names()
    ('mobilenet_v1', 'mobilenet_v2')
    >>> backbones["mobilenet_v2"].name
    'mobilenet_v2'
    """

    def __init__(self, kind: str, package: str, dashes: bool = False) -> None:
        self.kind, self._package = kind, package
        folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
        modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))
        self._modules: Dict[str, str] = {m.replace("_", "-") if dashes else m: m for m in modules}
        self._entries: Dict[str, T] = {}

    def register(self, name: str, entry: T) -> T:
        """Add an entry, from the module or plugin that provides it; raises OptionError if `name` is taken."""
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if name in self._modules and caller != f"{self._package}.{self._modules[name]}":
            raise OptionError(f"{self.kind} {name!r} is built in; choose another name")
        if name in self._entries:
            raise OptionError(f"{self.kind} {name!r} is registered already; choose another name")
        self._entries[name] = entry
        return entry

    def names(self) -> Tuple[str, ...]:
        """All names, the built-in ones first."""
        load_plugins()
        return (*self._modules, *(name for name in self._entries if name not in self._modules))

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[T]:
        """All entries, in the order of `names`; imports their modules."""
        return (self[name] for name in self.names())

    def __getitem__(self, name: str) -> T:
        """The entry `name`; raises OptionError, which lists near names, if there is none."""
        if name not in self.names():
            raise OptionError(
                f"{unknown_name(self.kind, name, self.names())}; load one of your own with --plugin FILE"
            )
        if name not in self._entries:
            importlib.import_module(f"{self._package}.{self._modules[name]}")
        return self._entries[name]
