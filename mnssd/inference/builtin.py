"""The detector that comes with the package.

It knows the six shapes of the built-in images, nothing else. None that was trained on images is
shipped: those at hand (Pascal VOC's, from Flickr) are lent for research under terms that say nothing of
weights, and the ImageNet weights that such training starts from have the same gap.
"""

from __future__ import annotations

from pathlib import Path

from ..export.sidecar import find_sidecars
from ..zoo import CONFIG_FILE

SHAPES = Path(__file__).resolve().parents[1] / "pretrained" / "shapes"
"""Of ``train_ssd.py --recipe shapes-demo --head ssdlite`` (seed 0, mAP .897 by VOC07), exported with
``--fp16-weights``."""


def is_detector(folder: Path) -> bool:
    """Whether a folder holds an export or a run."""
    return (folder / CONFIG_FILE).exists() or bool(find_sidecars(folder))
