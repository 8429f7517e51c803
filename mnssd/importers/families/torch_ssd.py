"""PyTorch: SSD MobileNets of qfgaohao/pytorch-ssd and lufficc/SSD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from ...errors import ImportedFileError, WeightsError
from . import EngineOutputs, Family, families

if TYPE_CHECKING:
    import numpy as np

    from ..graph import ReadNetwork


class TorchFamily(Family):
    """State dicts and checkpoints (``.pth``), which are read without executing anything in them."""

    name = "torch_ssd"
    description = "PyTorch (.pth): qfgaohao's mb1-ssd, mb1-ssd-lite and mb2-ssd-lite, lufficc's mobilenet_v2"
    engine = ""

    def recognizes(self, path: str, start: bytes) -> bool:
        from ...weights.state_dict import is_pickle

        return start[:2] == b"PK" or is_pickle(start)

    def read(self, path: str) -> ReadNetwork:
        from ...weights.state_dict import read_state_dict
        from ..torch_graph import read_network

        try:
            arrays = read_state_dict(path)
        except WeightsError as error:
            raise ImportedFileError(str(error)) from error
        return read_network(path, arrays)

    def run_engine(self, path: str, read: ReadNetwork, images: np.ndarray) -> Optional[EngineOutputs]:
        return None  # a state dict has no layers that an engine could run


families.register("torch_ssd", TorchFamily())
