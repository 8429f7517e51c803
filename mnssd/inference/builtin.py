"""The detector that comes with the package.

It detects the six shapes of the built-in dataset, nothing else. No detector trained on photographs is
included: the terms of the datasets at hand (Pascal VOC's images come from Flickr) allow research and do not
mention weights, nor do those of ImageNet, on which such a detector would be pretrained.
"""

from __future__ import annotations

from pathlib import Path

from ..export.sidecar import find_sidecars
from ..zoo import CONFIG_FILE

SHAPES = Path(__file__).resolve().parents[1] / "pretrained" / "shapes"
"""Export of a run of ``train_ssd.py --recipe shapes-demo --head ssdlite`` (seed 0, VOC07 mAP .897), with
``--fp16-weights``."""


def is_detector(folder: Path) -> bool:
    """Whether a folder is an export or a run folder."""
    return (folder / CONFIG_FILE).exists() or bool(find_sidecars(folder))
