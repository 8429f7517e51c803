"""Structures of networks, as stored with runs and exports. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Dict, Optional, Tuple, Type, TypeVar

from .backbones import Structure
from .choices import HEADS, BackboneOptions, ClassifierOptions, backbone_options
from .head_layouts import HeadLayout

S = TypeVar("S", bound="NetworkSpec")

SCORE_FLOOR = 0.01
"""Detections of a network with a lower score are dropped before NMS (SSD paper, section 3.1)."""


@dataclass(frozen=True)
class _Basics:
    """First fields of a `NetworkSpec`."""

    classes: Tuple[str, ...]
    network: str = "mobilenet_v2"
    width: float = 1.0
    size: Tuple[int, int] = (300, 300)


@dataclass(frozen=True)
class NetworkSpec(BackboneOptions, _Basics):
    """Structure of a network, stored with every run and export.

    `section` is its key in ``config.yaml``, `network` a name in `nn.backbones`, `width` a multiplier, `size`
    the input's ``(width, height)`` in pixels, `channels` the channel counts of pruned layers (`nn.resize`),
    `variant` how an imported network differs from the usual one (`Backbone.variants`). The options of
    backbones are fields, too.
    """

    section: ClassVar[str]

    channels: Dict[str, int] = field(default_factory=dict)
    variant: Dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> Dict[str, Any]:
        """Plain lists, numbers and strings, for YAML and JSON; without `variant` if it is empty."""
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in vars(self).items()}
        if not self.variant:
            del values["variant"]
        return values

    def describe(self) -> str:
        """Backbone, width, variant and input size, such as ``mobilenet_v2 x0.5 (divisor 8) at 224x224``."""
        width, height = self.size
        structure = Structure(self.width, self.variant, backbone_options(self))
        return f"{self.network} {structure} at {width}x{height}"

    @classmethod
    def from_dict(cls: Type[S], values: Dict[str, Any]) -> S:
        """The inverse of `as_dict`."""
        if isinstance(values["classes"], str):
            raise ValueError(f"classes: expected a list of names, got {values['classes']!r}")
        return cls(**{**values, "classes": tuple(values["classes"]), "size": tuple(values["size"])})


@dataclass(frozen=True)
class DetectorSpec(NetworkSpec):
    """Structure of a detector.

    An imported detector has a `layout` of its own, which replaces that of `head`.
    """

    section = "detector"
    head: str = HEADS[0]
    layout: Optional[HeadLayout] = None

    def as_dict(self) -> Dict[str, Any]:
        """See `NetworkSpec.as_dict`; without `layout` if there is none."""
        values = super().as_dict()
        layout = values.pop("layout")
        return {**values, "layout": layout.as_dict()} if layout else values

    @classmethod
    def from_dict(cls: Type[S], values: Dict[str, Any]) -> S:
        """See `NetworkSpec.from_dict`."""
        if "layout" in values and values["layout"] is not None:
            values = {**values, "layout": HeadLayout.from_dict(values["layout"])}
        return super().from_dict(values)  # type: ignore[misc]


@dataclass(frozen=True)
class ClassifierSpec(ClassifierOptions, NetworkSpec):
    """Structure of a classifier; `val_crop` is the share of the image that validation crops."""

    section = "classifier"
    size: Tuple[int, int] = (224, 224)
    val_crop: float = 1.0
