"""Options of a training that exclude each other."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ..data.transform_options import AugmentOptions
from ..errors import OptionError
from ..options import format_value
from ..train.options import DetectionOptions, DetectionTraining

_AUGMENTATION = tuple(AugmentOptions.__dataclass_fields__)

_NOT_WITH_TRANSFORM = (*_AUGMENTATION, "early_size", "early_epochs", "overfit", "unlabelled")
"""Options that a transform of the user replaces, or that need another size or no augmentation."""

_NOT_WITH_GLUONCV = (
    *_NOT_WITH_TRANSFORM, "match_iou", "cls_loss", "box_loss", "label_smoothing", "cache_images",
)  # fmt: skip
"""Options without a meaning in GluonCV's pipeline."""

_CHOSEN = ("match_iou", "expand_ratio")
"""Of these, options that would be chosen from the data."""


def refuse_conflicts(values: Mapping[str, Any]) -> None:
    """Raise OptionError for options that make no sense together; each of them alone does."""
    if values.get("minutes") and "epochs" in values:
        raise OptionError(
            f"--epochs {values['epochs']} and --minutes {values['minutes']:g} both set the length of the "
            "run; omit one of them"
        )
    if values.get("patience") and values.get("val_interval") == 0:
        raise OptionError(
            f"--patience {values['patience']} needs validations, but --val-interval is 0; omit one of them"
        )


def unused_options(
    options: DetectionTraining, given: Mapping[str, Any], has_transform: bool
) -> Dict[str, Any]:
    """Values of options that the pipeline does not use, which are therefore not chosen from the data.

    A given transform also fixes the size of the network input.

    Raises OptionError if one of them is among those `given`, unless it is the default.
    """
    has_pipeline = options.data.pipeline == "gluoncv"
    if has_pipeline and has_transform:
        raise OptionError("transform: --pipeline gluoncv has a transform of its own; omit one of them")
    if not has_pipeline and not has_transform:
        return {}
    unused = _NOT_WITH_GLUONCV if has_pipeline else _NOT_WITH_TRANSFORM
    defaults: Dict[str, Any] = {}
    for name in unused:
        group: Any = options.augment if name in _AUGMENTATION else options.data
        kind: Any = AugmentOptions if name in _AUGMENTATION else DetectionOptions
        default = defaults[name] = kind.__dataclass_fields__[name].default
        if given.get(name, default) != default:
            other = "--pipeline gluoncv" if has_pipeline else "the given transform"
            source = f" (of --recipe {options.loop.recipe}, perhaps)" if options.loop.recipe else ""
            raise OptionError(
                f"--{name.replace('_', '-')} {format_value(group, name)}{source}: not used with {other}; "
                "omit one of them"
            )
    chosen = {name: defaults[name] for name in _CHOSEN if name in unused}
    return {**chosen, "size": options.data.size} if has_transform else chosen
