"""Plugins: Python files of the user that register backbones, dataset formats or export formats.

A plugin is loaded by ``--plugin FILE``, which can be repeated, or by the environment variable
``MNSSD_PLUGINS``, a list of paths like ``PATH``. Plugins are code and run with the user's rights; run
folders, exports and datasets cannot load one. Standard library only.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import List

from ..errors import OptionError

VARIABLE = "MNSSD_PLUGINS"

_loaded: List[str] = []
"""Absolute paths of the loaded plugins."""


def add_plugin(path: str) -> None:
    """Load a plugin in this process and in its child processes.

    Raises OptionError if the file is missing, is not a Python file, or raises an exception.
    """
    path = os.path.abspath(path)
    _load(path)
    listed = _listed()
    if path not in listed:
        os.environ[VARIABLE] = os.pathsep.join([*listed, path])


def load_plugins() -> List[str]:
    """Load the plugins listed in ``MNSSD_PLUGINS``, each once; returns the paths of all loaded plugins."""
    for path in _listed():
        _load(path)
    return list(_loaded)


def _listed() -> List[str]:
    return [os.path.abspath(path) for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


def _load(path: str) -> None:
    if path in _loaded:
        return
    if not path.endswith(".py") or not os.path.isfile(path):
        raise OptionError(f"{path}: not a Python file; check --plugin and {VARIABLE}")
    name = f"mnssd_plugin_{len(_loaded)}_{Path(path).stem}"
    _loaded.append(path)  # first, because the plugin may use a registry, which loads plugins
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        _loaded.remove(path)
        raise OptionError(f"{path}: the plugin raised {type(error).__name__}: {error}") from error
