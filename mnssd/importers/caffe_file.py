"""The two files of a Caffe network: its layers (``.prototxt``) and their weights (``.caffemodel``).

Both are protobuf messages. Only the fields that MobileNets need are in the schema here; others are skipped.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from ..errors import ImportedFileError
from .graph import MOST_VALUES
from .protobuf import make_messages, parse, read_bytes
from .refusal import refusing

STRUCTURE, WEIGHTS = ".prototxt", ".caffemodel"

LARGEST_STRUCTURE, LARGEST_WEIGHTS = 4 << 20, 1 << 30
"""Bytes; the files of MobileNets have 50 KB and 30 MB."""

MOST_LAYERS = 2_000
"""More come from a damaged file: MobileNetV2 has 180."""

_NAME = re.compile(r"(.+)(\.prototxt|\.caffemodel)(\.txt)?$", re.IGNORECASE)
_DEPLOY = re.compile(r"[-_. ]?deploy$", re.IGNORECASE)

# Names, numbers and defaults of caffe.proto at github.com/weiliu89/caffe, branch ssd; `*`: repeated. Data of
# blobs are packed floats, read here as the bytes that they are.
MESSAGES = {
    "Net": "input*:string=3 input_shape*:Shape=8 input_dim*:int64=4 layer*:Layer=100 layers*:Empty=2",
    "Empty": "",
    "Shape": "dim*:int64=1",
    "Rule": "phase:Rule.Phase=1",
    "Layer": "name:string=1 type:string=2 bottom*:string=3 top*:string=4 include*:Rule=8 exclude*:Rule=9"
    " concat_param:Concat=104 convolution_param:Convolution=106 eltwise_param:Eltwise=110"
    " inner_product_param:InnerProduct=117 pooling_param:Pooling=121 relu_param:ReLU=123"
    " softmax_param:Softmax=125 reshape_param:Reshape=133 batch_norm_param:BatchNorm=139"
    " scale_param:Scale=142 input_param:Input=143 permute_param:Permute=202 prior_box_param:PriorBox=203"
    " detection_output_param:DetectionOutput=204",
    "Concat": "axis:int64=2~1",
    "Convolution": "num_output:int64=1 bias_term:bool=2~true pad*:int64=3 kernel_size*:int64=4"
    " group:int64=5~1 stride*:int64=6 pad_h:int64=9 pad_w:int64=10 kernel_h:int64=11 kernel_w:int64=12"
    " stride_h:int64=13 stride_w:int64=14 dilation*:int64=18",
    "Eltwise": "operation:Eltwise.Operation=1~SUM coeff*:double=2",
    "InnerProduct": "num_output:int64=1 bias_term:bool=2~true transpose:bool=6~false",
    "Pooling": "pool:Pooling.Pool=1~MAX pad:int64=4 kernel_size:int64=2 global_pooling:bool=12~false",
    "ReLU": "negative_slope:double=1",
    "Softmax": "axis:int64=2~1",
    "Reshape": "shape:Shape=1",
    "BatchNorm": "eps:double=3~1e-5",
    "Scale": "axis:int64=1~1 bias_term:bool=4~false",
    "Input": "shape*:Shape=1",
    "Permute": "order*:int64=1",
    "PriorBox": "min_size*:double=1 max_size*:double=2 aspect_ratio*:double=3 flip:bool=4~true"
    " clip:bool=5~false variance*:double=6 img_size:int64=7 img_h:int64=8 img_w:int64=9 step:double=10"
    " step_h:double=11 step_w:double=12 offset:double=13~0.5",
    "DetectionOutput": "num_classes:int64=1 share_location:bool=2~true background_label_id:int64=3~0"
    " nms_param:NMS=4 code_type:DetectionOutput.Code=6~CORNER variance_encoded_in_target:bool=8~false",
    "NMS": "nms_threshold:double=1~0.3",
    "Weights": "layer*:LayerWeights=100 layers*:Empty=2",
    "LayerWeights": "name:string=1 blobs*:Blob=7",
    "Blob": "num:int64=1 channels:int64=2 height:int64=3 width:int64=4 data*:bytes=5 shape:Shape=7"
    " double_data*:bytes=8",
}
ENUMS = {
    "Rule.Phase": ("TRAIN", "TEST"),
    "Pooling.Pool": ("MAX", "AVE", "STOCHASTIC"),
    "Eltwise.Operation": ("PROD", "SUM", "MAX"),
    "DetectionOutput.Code": ("NONE", "CORNER", "CENTER_SIZE", "CORNER_SIZE"),
}
"""Names by number."""


@lru_cache(maxsize=None)
def _messages() -> Dict[str, Any]:
    """The classes of `MESSAGES`."""
    return make_messages("mnssd_caffe", "Caffe's files", MESSAGES, ENUMS)


class CaffeNetwork:
    """Layers and weights.

    Attributes
    ----------
    structure, weights : str
        Paths of the two files.
    layers : list
        Messages of the layers at test time, in order.
    size : (int, int)
        ``(width, height)`` of the input in pixels.
    image : str
        Blob of the input.

    Raises
    ------
    ImportedFileError
        If a file is missing, damaged, or no network to run.
    OptionError
        If protobuf is not installed.
    """

    def __init__(self, path: str) -> None:
        self.structure, self.weights = find_files(path)
        with refusing(self.structure, "the layers"):
            net = _parse_text(self.structure)
            if len(net.layers):
                raise ImportedFileError("layers of an old kind; convert it by Caffe's upgrade_net_proto_text")
            self.layers = [layer for layer in net.layer if _is_at_test_time(layer)]
            if not 0 < len(self.layers) <= MOST_LAYERS:
                raise ImportedFileError(f"{len(self.layers)} layers; damaged or another kind of file")
            self.image, self.size = self._input(net)
        with refusing(self.weights, "the weights"):
            data = read_bytes(self.weights, LARGEST_WEIGHTS)
            stored = parse(_messages()["Weights"](), data, "the weights of a Caffe network")
            if len(stored.layers) and not len(stored.layer):
                raise ImportedFileError("layers of an old kind; convert it by upgrade_net_proto_binary")
            self._blobs = {layer.name: layer.blobs for layer in stored.layer}

    def _input(self, net: Any) -> Tuple[str, Tuple[int, int]]:
        name, sides = "", list(net.input_dim)
        if len(net.input):
            name = net.input[0]
            sides = list(net.input_shape[0].dim) if len(net.input_shape) else sides
        for layer in self.layers:
            if layer.type == "Input" and len(layer.top) and len(layer.input_param.shape):
                name, sides = layer.top[0], list(layer.input_param.shape[0].dim)
        if not name or len(sides) != 4 or sides[1] != 3:
            raise ImportedFileError(
                f"an input of shape {sides}, expected (1, 3, height, width); give the deploy.prototxt, not"
                " that of the training"
            )
        return name, (sides[3], sides[2])

    def values(self, layer: str, index: int, count: int = 0) -> np.ndarray:
        """A blob ``(V,)`` float32; ImportedFileError unless it has `count` values (0: any number)."""
        blobs = self._blobs.get(layer, ())
        if index >= len(blobs):
            raise ImportedFileError(f"{self.weights}: layer {layer!r}: {len(blobs)} arrays, expected more")
        blob = blobs[index]
        with refusing(self.weights, f"layer {layer!r}"):
            data, dtype = (blob.double_data, "<f8") if len(blob.double_data) else (blob.data, "<f4")
            found = np.frombuffer(b"".join(data), dtype).astype(np.float32)
            sides = list(blob.shape.dim) if blob.HasField("shape") else [0]
            declared = np.prod(sides, dtype=np.float64) if any(sides) else len(found)
            if not 0 < len(found) <= MOST_VALUES or declared != len(found) or (count and count != len(found)):
                raise ImportedFileError(f"{len(found)} values of shape {sides}, expected {count or 'others'}")
            if not np.isfinite(found).all():
                raise ImportedFileError("weights that are not finite")
        return found


def kind_of(name: str) -> str:
    """`STRUCTURE` or `WEIGHTS` by the end of a file's name, else nothing."""
    match = _NAME.match(name)
    return match[2].lower() if match else ""


def find_files(path: str) -> Tuple[str, str]:
    """The structure and the weights, of which `path` is one and the other lies beside it.

    Either of the same name, or but for ``_deploy``, or the only one.
    """
    given = Path(path)
    is_weights = kind_of(path) == WEIGHTS
    other = STRUCTURE if is_weights else WEIGHTS
    try:
        beside = sorted(file for file in given.parent.iterdir() if kind_of(file.name) == other)
    except OSError as error:
        raise ImportedFileError(f"{path}: its folder cannot be read ({error.strerror})") from error
    stems = [_NAME.sub(r"\1", file.name) for file in beside]
    stem = _NAME.sub(r"\1", given.name) if kind_of(path) else given.stem
    for choice in (
        [file for file, its in zip(beside, stems) if its == stem],
        [file for file, its in zip(beside, stems) if _DEPLOY.sub("", its) == _DEPLOY.sub("", stem)],
        [file for file, its in zip(beside, stems) if _DEPLOY.search(its)],
        beside,
    ):
        if len(choice) == 1:
            return (str(choice[0]), path) if is_weights else (path, str(choice[0]))
    if not beside:
        raise ImportedFileError(f"{path}: no {other} file beside it; a Caffe network is both files")
    names = ", ".join(file.name for file in beside[:4])
    raise ImportedFileError(f"{path}: which file belongs to it? Give it the same name: {names}")


def _is_at_test_time(layer: Any) -> bool:
    phases = [(rule, rule.HasField("phase")) for rule in layer.include]
    included = not phases or any(not has or rule.phase == 1 for rule, has in phases)
    return included and not any(rule.HasField("phase") and rule.phase == 1 for rule in layer.exclude)


def _parse_text(path: str) -> Any:
    net = _messages()["Net"]()
    from google.protobuf import text_format

    text = read_bytes(path, LARGEST_STRUCTURE).decode("utf-8-sig")
    try:
        text_format.Parse(text, net, allow_unknown_field=True)
    except text_format.ParseError as error:
        raise ImportedFileError(f"not a network of Caffe, or a damaged one ({error})") from error
    return net
