"""What an imported network does to its input before its first convolution."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import numpy as np
from mxnet.gluon.block import HybridBlock

from ..imagenet import IMAGENET_MEAN, IMAGENET_STD


class InputLayer(HybridBlock):
    """Images as this package prepares them, changed to those that an imported network was trained on.

    It is part of the network, so that training, evaluation, every export and every engine do the same.

    Parameters
    ----------
    rotated : bool
        Turn the image by 180 degrees. TensorFlow's SAME padding of a 3x3 convolution with stride 2 puts the
        padding of an even side after its end, and that of an odd side on both sides. Seen from the other end,
        both are padding of 1 at the start, as of every convolution here. A network with SAME padding
        therefore equals one with symmetric padding, for every input size, whose image and kernels are turned.
        Kernels of 4x4 or explicit padding would need to know whether each map's side is odd.
    pixel_mean, pixel_std : sequence of float
        By which pixels in 0 to 1 were normalized in training, RGB.

    Inputs and outputs are ``(N, 3, H, W)`` float32; inputs are normalized by ImageNet's mean and standard
    deviation.
    """

    def __init__(
        self, rotated: bool, pixel_mean: Sequence[float], pixel_std: Sequence[float], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if len(pixel_mean) != 3 or len(pixel_std) != 3 or not min(pixel_std) > 0:
            raise ValueError(
                f"pixel_mean, pixel_std: expected three numbers each, above 0 in the second, got"
                f" {pixel_mean!r} and {pixel_std!r}"
            )
        self.rotated = rotated
        self._scaled = not is_imagenet(pixel_mean, pixel_std)
        if self._scaled:
            scale = np.array(IMAGENET_STD) / np.array(pixel_std)
            shift = (np.array(IMAGENET_MEAN) - np.array(pixel_mean)) / np.array(pixel_std)
            with self.name_scope():
                self.scale = self.params.get_constant("scale", scale.reshape(1, 3, 1, 1).astype(np.float32))
                self.shift = self.params.get_constant("shift", shift.reshape(1, 3, 1, 1).astype(np.float32))

    def hybrid_forward(self, F: Any, x: Any, scale: Any = None, shift: Any = None) -> Any:
        if self._scaled:
            x = F.broadcast_add(F.broadcast_mul(x, scale), shift)
        return F.reverse(x, axis=(2, 3)) if self.rotated else x


def is_imagenet(pixel_mean: Sequence[float], pixel_std: Sequence[float]) -> bool:
    """Whether pixels are normalized as this package does."""
    return tuple(pixel_mean) == IMAGENET_MEAN and tuple(pixel_std) == IMAGENET_STD


def input_layer(
    rotated: bool, pixel_mean: Sequence[float], pixel_std: Sequence[float]
) -> Optional[InputLayer]:
    """The layer, or None for a network that takes images as they are."""
    if not rotated and is_imagenet(pixel_mean, pixel_std):
        return None
    return InputLayer(rotated, pixel_mean, pixel_std)
