"""Caffe: SSD MobileNets such as chuanqi305's, and MobileNet classifiers such as shicai's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Optional

from . import EngineOutputs, Family, families

if TYPE_CHECKING:
    import numpy as np

    from ..graph import ReadNetwork

_LAYER = re.compile(rb"^\s*layers?\s*\{", re.MULTILINE)


class CaffeFamily(Family):
    """A ``.prototxt`` and a ``.caffemodel`` beside each other, of which the user gives one."""

    name = "caffe"
    description = "Caffe (.prototxt and .caffemodel beside each other): SSD MobileNet, MobileNet"
    engine = "opencv-python-headless"

    def recognizes(self, path: str, start: bytes) -> bool:
        from ..caffe_file import kind_of

        return bool(kind_of(path) or _LAYER.search(start))

    def read(self, path: str) -> ReadNetwork:
        from ..caffe_file import CaffeNetwork
        from ..caffe_graph import read_network

        return read_network(CaffeNetwork(path))

    def run_engine(self, path: str, read: ReadNetwork, images: np.ndarray) -> Optional[EngineOutputs]:
        import cv2
        import numpy as np

        from ..caffe_file import find_files

        net = cv2.dnn.readNetFromCaffe(*find_files(path))
        wanted = [*read.class_tensors, *read.box_tensors] or [read.logits]
        rows = []
        for image in images:
            net.setInput(read.pixels.normalize(image[None]))
            rows.append(net.forward(wanted))
        parts = [np.concatenate(values) for values in zip(*rows)]
        if read.is_detector:
            parts = [part.transpose(0, 2, 3, 1) for part in parts]
        return EngineOutputs("OpenCV", *read.heads([part.reshape(len(images), -1) for part in parts]), False)


families.register("caffe", CaffeFamily())
