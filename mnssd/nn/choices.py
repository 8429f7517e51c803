"""Values of the network options that are the same for every backbone. Standard library only."""

HEADS = ("ssd", "ssdlite")
"""Detection heads and extra layers: plain convolutions (Liu et al. 2016) or depthwise separable ones
(MobileNetV2 paper, section 6.2)."""

SHORTCUTS = ("identity", "projection")
"""Shortcuts of `layers.LinearBottleneck`; the first is the paper's."""

ACTIVATIONS = ("relu", "relu6")
"""Activations that `layers.activation` makes."""
