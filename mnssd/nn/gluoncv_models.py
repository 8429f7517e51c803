"""Names of GluonCV's SSD networks with MobileNet, as its ``model_zoo.get_model`` takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple


@dataclass(frozen=True)
class GluonCVModel:
    """What a name means: a head of `head_layouts`, input side, width of MobileNetV1 and dataset."""

    head: str
    size: int
    width: float
    dataset: str

    def classes(self) -> Tuple[str, ...]:
        """Names of the dataset's classes, in the order of GluonCV's networks; empty for ``custom``."""
        if self.dataset == "custom":
            return ()
        from . import gluoncv_parts

        dataset = gluoncv_parts.VOCDetection if self.dataset == "voc" else gluoncv_parts.COCODetection
        return tuple(dataset.CLASSES)


_NETWORKS = {
    "ssd_512_mobilenet1.0": ("gluoncv_512", 512, 1.0, ("voc", "coco", "custom")),
    "ssd_300_mobilenet0.25": ("gluoncv_300", 300, 0.25, ("voc", "coco", "custom")),
    "ssd_300_mobilenet1.0_lite": ("gluoncv_lite_300", 300, 1.0, ("coco",)),
}

GLUONCV_MODELS: Dict[str, GluonCVModel] = {
    f"{name}_{dataset}": GluonCVModel(head, size, width, dataset)
    for name, (head, size, width, datasets) in _NETWORKS.items()
    for dataset in datasets
}
"""Networks by name: ``gluoncv/model_zoo/model_zoo.py`` of GluonCV 0.10.5, without the int8 one."""
