"""Objects of the user's Python modules, imported by name.

A module is code, and runs with the user's rights. So it is imported only if the user has named it in this
process: run folders, recipes and exports cannot have one imported.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Set

from ..errors import OptionError
from ..options import unknown_name

_allowed: Set[str] = set()


def allow_import(name: str) -> None:
    """Record that the user has named the object ``MODULE:NAME``."""
    _allowed.add(name)


def import_object(name: str) -> Any:
    """The object ``MODULE:NAME``, which may have dots on both sides of the colon.

    Modules are also found in the working directory, after the installed ones.

    Raises OptionError if the user has not named the object, or it cannot be imported.
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise OptionError(f"{name!r}: expected MODULE:NAME, such as my_package.my_module:make_dataset")
    if name not in _allowed:
        raise OptionError(
            f"{name}: a module is imported only if you name it; repeat it with --dataset gluoncv:{name}"
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the module is the user's and may raise anything
        raise OptionError(_import_problem(name, module_name, error)) from error
    place = getattr(found, "__file__", None) or "built in"
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [entry for entry in dir(found) if not entry.startswith("_")]
            raise OptionError(f"{name}: {unknown_name('name', part, known)} (in {module_name}, {place})")
        found = getattr(found, part)
    return found


def _import_problem(name: str, module: str, error: BaseException) -> str:
    """Why a module could not be imported, and what to do."""
    if isinstance(error, ModuleNotFoundError) and error.name and (module + ".").startswith(error.name + "."):
        hint = "; leave out the ending .py" if module.endswith(".py") else ""
        return f"{name}: no module {error.name!r}, neither installed nor in {os.getcwd()}{hint}"
    return f"{name}: importing {module} raised {type(error).__name__}: {error}"
