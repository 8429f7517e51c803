"""MobileNet and SSD networks on Apache MXNet: training, evaluation and export.

Importing the package checks the environment and chooses settings that MXNet reads while it is loaded, so
import `mnssd` before `mxnet`. MXNet and NumPy are imported when one of the public names is first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, List

from .runtime import environment, settings

if TYPE_CHECKING:
    from .api import (
        Run,
        compare_runs,
        evaluate,
        export,
        get_model,
        import_model,
        list_models,
        save_run,
        train_classifier,
        train_detector,
    )
    from .api_labels import check_labels, suggest
    from .inference.classifier import Classifier
    from .inference.counting import LineCounter, ZoneCounter
    from .inference.detector import Detector
    from .inference.tracking import Tracker

__version__ = "0.1.0"

__all__ = [
    "Classifier", "Detector", "LineCounter", "Run", "Tracker", "ZoneCounter", "check_labels", "compare_runs",
    "evaluate", "export", "get_model", "import_model", "list_models", "save_run", "suggest",
    "train_classifier", "train_detector",
]  # fmt: skip

environment.check_environment()
settings.configure()


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = {
        "Classifier": ".inference.classifier", "Detector": ".inference.detector",
        "LineCounter": ".inference.counting", "Tracker": ".inference.tracking",
        "ZoneCounter": ".inference.counting", "check_labels": ".api_labels", "suggest": ".api_labels",
    }  # fmt: skip
    value = getattr(import_module(modules.get(name, ".api"), __name__), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """This package: importing its subpackage `export` does not replace its function `export`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
