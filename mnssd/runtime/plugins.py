"""Plugins: Python files of the user that register backbones, dataset formats or export formats.

A plugin is named by ``--plugin FILE`` (any command, any number of times) or by the environment variable
``MNSSD_PLUGINS``, paths separated as in ``PATH``. It is a program and runs with the user's rights: nothing in a
run folder, an export or a dataset can name one. Standard library only.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Dict, List

from ..errors import OptionError

VARIABLE = "MNSSD_PLUGINS"

_loaded: Dict[str, str] = {}
"""Absolute path of each plugin that has been run, and the name of its module."""


def add_plugin(path: str) -> None:
    """Load a plugin, here and in the processes that this one starts.

    Parameters
    ----------
    path : str
        A Python file.

    Raises
    ------
    OptionError
        If the file does not exist, is not a Python file, or fails while it is imported.
    """
    place = os.path.abspath(path)
    _load(place)
    named = [entry for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry]
    if place not in named:
        os.environ[VARIABLE] = os.pathsep.join([*named, place])


def load_plugins() -> List[str]:
    """Load the plugins that ``MNSSD_PLUGINS`` names, each once; returns the paths of all loaded plugins."""
    for entry in os.environ.get(VARIABLE, "").split(os.pathsep):
        if entry:
            _load(os.path.abspath(entry))
    return list(_loaded)


def _load(path: str) -> None:
    if path in _loaded:
        return
    if not path.endswith(".py") or not os.path.isfile(path):
        raise OptionError(f"plugin {path}: not a Python file; check --plugin and {VARIABLE}")
    name = f"mnssd_plugin_{len(_loaded)}_{Path(path).stem}"
    _loaded[path] = name  # before it runs: what it registers may look at a registry, which loads plugins
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name], _loaded[path]
        raise OptionError(f"plugin {path}: {type(error).__name__}: {error}") from error
