"""GluonCV: SSD with MobileNetV1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from ...errors import ImportedFileError, WeightsError
from . import EngineOutputs, Family, families

if TYPE_CHECKING:
    import numpy as np

    from ..graph import ReadNetwork

MAGIC = (0x112).to_bytes(8, "little")
"""First bytes of MXNet's parameter files, ``kMXAPINDArrayListMagic`` in ``src/ndarray/ndarray.cc``."""


class GluonCVFamily(Family):
    """Parameter files of the networks in its model zoo, from ``save_parameters`` or ``export``."""

    name = "gluoncv"
    description = "GluonCV (.params): ssd_512_mobilenet1.0, ssd_300_mobilenet0.25, ssd_300_mobilenet1.0_lite"
    engine = "gluoncv"

    def recognizes(self, path: str, start: bytes) -> bool:
        return start.startswith(MAGIC)

    def read(self, path: str) -> ReadNetwork:
        from ...weights.params import read_params
        from ..gluoncv_graph import read_network

        try:
            arrays = read_params(path)
        except WeightsError as error:
            raise ImportedFileError(str(error)) from error
        return read_network(path, arrays)

    def run_engine(self, path: str, read: ReadNetwork, images: np.ndarray) -> Optional[EngineOutputs]:
        import mxnet as mx
        import numpy as np
        from gluoncv import model_zoo

        from ..gluoncv_graph import COCO

        name = read.source.split()[-1] + COCO
        net: Any = model_zoo.get_model(name, pretrained=False, pretrained_base=False)
        net.initialize()
        net.reset_class([f"class {i}" for i in range(read.column_count - 1)])
        net.load_parameters(path)
        rows = []
        for image in images:
            maps = net.features(mx.nd.array(read.pixels.normalize(image[None])))
            predictors = (net.class_predictors, net.box_predictors)
            parts = [predict(x).asnumpy() for group in predictors for predict, x in zip(group, maps)]
            rows.append([part.transpose(0, 2, 3, 1).reshape(-1) for part in parts])
        return EngineOutputs("GluonCV", *read.heads([np.stack(values) for values in zip(*rows)]), False)


families.register("gluoncv", GluonCVFamily())
