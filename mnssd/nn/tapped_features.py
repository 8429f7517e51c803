"""The layers of a backbone that a detector reads."""

from __future__ import annotations

import re
from typing import Any, List, Optional, Sequence, Tuple

from mxnet.gluon.block import HybridBlock

from .backbones import Tap

PATH = re.compile(r"features\.(\d+)(?:\.(\w+)\.(\d+))?")


class TappedFeatures(HybridBlock):
    """The layers of a backbone up to its last tap; returns the feature map at every tap.

    `features` keeps the indices of the classifier, so that a classifier's weights load by name. `taps` are in
    the order of the layers. Inputs are as for the classifier; outputs are one ``(N, C, H, W)`` for each tap.

    Raises
    ------
    ValueError
        If a tap is not a path in `backbone`, or lies in a block with a shortcut and without a method
        ``merge(F, input, output)``, see `layers.LinearBottleneck`.
    """

    def __init__(self, backbone: HybridBlock, taps: Sequence[Tap], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        positions = [_position(backbone, tap.path) for tap in taps]
        indices = [index for index, _, _ in positions]
        if not indices or indices != sorted(set(indices)):
            raise ValueError(f"taps {[tap.path for tap in taps]}: expected increasing layers of `features`")
        self._positions = {index: (chain, inner) for index, chain, inner in positions}
        with self.name_scope():
            self.features = backbone.features[: indices[-1] + 1]
            self.input = getattr(backbone, "input", None)

    @property
    def rotated(self) -> bool:
        """Whether the feature maps show the image turned by 180 degrees, see `input_layer.InputLayer`."""
        return bool(self.input and self.input.rotated)

    def hybrid_forward(self, F: Any, x: Any) -> List[Any]:
        maps = []
        if self.input:
            x = self.input(x)
        for index, block in enumerate(self.features):
            chain, inner = self._positions.get(index, (None, None))
            if chain is None:
                x = block(x)
                if index in self._positions:
                    maps.append(x)
                continue
            out = x
            for position, layer in enumerate(getattr(block, chain)):
                out = layer(out)
                if position == inner:
                    maps.append(out)
            x = block.merge(F, x, out) if hasattr(block, "merge") else out
        return maps


def _position(backbone: HybridBlock, path: str) -> Tuple[int, Optional[str], Optional[int]]:
    """Index in `features`, name of the sequential block inside that layer, and index in it."""
    match = PATH.fullmatch(path)
    if match is None:
        raise ValueError(f"tap {path!r}: expected features.I or features.I.CHAIN.J")
    index, chain, inner = int(match[1]), match[2], match[3]
    try:
        block = backbone.features[index]
        if chain is None:
            return index, None, None
        getattr(block, chain)[int(inner)]
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"tap {path!r}: no such layer") from error
    if getattr(block, "use_shortcut", False) and not hasattr(block, "merge"):
        raise ValueError(f"tap {path!r}: features.{index} has a shortcut; only its output can be read")
    return index, chain, int(inner)
