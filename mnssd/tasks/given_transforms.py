"""Transforms that are given to a training as Python objects; see `transformed_samples.TransformedSamples`.

Neither MXNet nor GluonCV is imported here, as their settings are chosen when a training starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional

from ..errors import OptionError

Transform = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Transforms:
    """The transforms of a training; None for those of the toolkit.

    Raises OptionError if one cannot be called.
    """

    train: Optional[Transform] = None
    val: Optional[Transform] = None

    def __post_init__(self) -> None:
        for argument, transform in self._given().items():
            if isinstance(transform, type):
                raise OptionError(f"{argument}: the class {transform.__name__}; give an instance of it")
            if not callable(transform):
                raise OptionError(
                    f"{argument}: a {type(transform).__name__}; expected a callable "
                    "(image, label) -> (image, label)"
                )

    def _given(self) -> Dict[str, Transform]:
        given = {"transform": self.train, "val_transform": self.val}
        return {argument: transform for argument, transform in given.items() if transform is not None}

    def names(self) -> Mapping[str, str]:
        """Names of the transforms by argument."""
        return {argument: title(transform) for argument, transform in self._given().items()}


NO_TRANSFORMS = Transforms()


def title(transform: Transform) -> str:
    """Name of a transform for the user: that of its function or class."""
    named = getattr(transform, "func", transform)  # functools.partial
    return str(getattr(named, "__qualname__", None) or type(named).__qualname__)
