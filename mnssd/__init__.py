"""MobileNet and SSD networks on Apache MXNet: training, evaluation and export.

Importing the package checks the environment and chooses settings that MXNet reads while it is loaded, so import
`mnssd` before `mxnet`. Neither MXNet nor NumPy is imported until one of the names below is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

from .runtime import environment, settings

if TYPE_CHECKING:
    from .api import (
        Run, evaluate, export, get_model, list_models, train_classifier, train_detector,
    )  # fmt: skip
    from .inference.classifier import Classifier
    from .inference.detector import Detector

__version__ = "0.1.0"

__all__ = [
    "Classifier", "Detector", "Run", "evaluate", "export", "get_model", "list_models", "train_classifier",
    "train_detector",
]  # fmt: skip

environment.check_environment()
settings.configure()


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = {"Detector": ".inference.detector", "Classifier": ".inference.classifier"}
    value = getattr(import_module(modules.get(name, ".api"), __name__), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted([*globals(), *__all__])
