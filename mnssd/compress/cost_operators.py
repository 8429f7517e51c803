"""Cost formulas and descriptions of operators, for `cost`."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from math import prod
from typing import Dict, List, Optional, Tuple

Shape = Tuple[int, ...]

FREE = frozenset({
    "Activation", "BatchNorm", "BlockGrad", "Cast", "Concat", "Crop", "Dropout", "Embedding", "Flatten",
    "GroupNorm", "InstanceNorm", "L2Normalization", "LRN", "LayerNorm", "LeakyReLU", "MakeLoss", "Pad",
    "Pooling", "Reshape", "SequenceMask", "SliceChannel", "SoftmaxActivation", "SoftmaxOutput",
    "SwapAxis", "UpSampling", "_arange", "_contrib_AdaptiveAvgPooling2D", "_contrib_BatchNormWithReLU",
    "_contrib_BilinearResize2D", "_contrib_MultiBoxDetection", "_contrib_MultiBoxPrior",
    "_contrib_MultiBoxTarget", "_contrib_ROIAlign", "_contrib_arange_like", "_contrib_box_decode",
    "_contrib_box_nms", "_contrib_div_sqrt_dim", "_contrib_index_copy", "_copy", "_div_scalar",
    "_equal_scalar", "_greater_scalar", "_lesser_scalar", "_maximum", "_maximum_scalar", "_minimum",
    "_minimum_scalar", "_minus_scalar", "_mod_scalar", "_mul_scalar", "_ones", "_plus_scalar",
    "_power_scalar", "_rdiv_scalar", "_rminus_scalar", "_zeros", "abs", "add_n", "amp_cast",
    "amp_multicast", "argmax", "argsort", "broadcast_add", "broadcast_axis", "broadcast_div",
    "broadcast_like", "broadcast_maximum", "broadcast_minimum", "broadcast_mul", "broadcast_power",
    "broadcast_sub", "broadcast_to", "clip", "depth_to_space", "elemwise_add", "elemwise_div",
    "elemwise_mul", "elemwise_sub", "erf", "exp", "expand_dims", "gather_nd", "hard_sigmoid",
    "identity", "log", "log_softmax", "max", "mean", "min", "negative", "norm", "ones_like", "pick",
    "relu", "repeat", "reshape_like", "reverse", "rsqrt", "shape_array", "sigmoid", "slice",
    "slice_axis", "slice_like", "softmax", "softsign", "space_to_depth", "sqrt", "square", "squeeze",
    "stack", "sum", "take", "tanh", "tile", "topk", "transpose", "where", "zeros_like",
})  # fmt: skip
"""Operators without multiply-adds, as papers count. Those neither here nor in `FORMULAS` are reported."""


@dataclass(eq=False)
class Item:
    """A node of the graph's JSON.

    Shapes of outputs include the batch and are None if unknown. An output of the graph has None among its
    readers.
    """

    op: str
    name: str
    attrs: Dict[str, str]
    inputs: List[Tuple[Item, int]]
    shapes: List[Optional[Shape]] = field(default_factory=list)
    readers: List[Optional[Item]] = field(default_factory=list)

    @property
    def output_shape(self) -> Optional[Shape]:
        return self.shapes[0] if self.shapes else None

    def input_shape(self, position: int) -> Optional[Shape]:
        if position >= len(self.inputs):
            return None
        source, index = self.inputs[position]
        return source.shapes[index] if index < len(source.shapes) else None

    def ints(self, name: str, default: Shape) -> Shape:
        """A tuple attribute, such as ``(3, 3)``."""
        value = ast.literal_eval(self.attrs.get(name, "()"))
        return (value,) if isinstance(value, int) else tuple(value) or default

    def flag(self, name: str) -> bool:
        return self.attrs.get(name) in ("True", "true", "1")


def is_depthwise(item: Item) -> bool:
    """Whether a convolution has one filter per input channel."""
    weight, groups = item.input_shape(1), int(item.attrs.get("num_group", 1))
    channels_last = item.attrs.get("layout") in ("NWC", "NHWC", "NDHWC")
    return groups > 1 and weight is not None and weight[1] == 1 and not channels_last


def _convolution(item: Item) -> Optional[int]:
    weight, output = item.input_shape(1), item.output_shape
    return prod(weight[1:]) * prod(output[1:]) if weight and output else None


def _deconvolution(item: Item) -> Optional[int]:
    data, weight = item.input_shape(0), item.input_shape(1)
    return prod(data[1:]) * prod(weight[1:]) if data and weight else None


def _dense(item: Item) -> Optional[int]:
    weight, output = item.input_shape(1), item.output_shape
    return weight[1] * prod(output[1:]) if weight and output else None


def _matrix_product(item: Item) -> Optional[int]:
    """Each output element is a sum over the shared side."""
    left, output = item.input_shape(0), item.output_shape
    if not left or not output:
        return None
    return prod(output) * (left[-2] if item.flag("transpose_a") and len(left) > 1 else left[-1])


FORMULAS = {
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "FullyConnected": _dense,
    "dot": _matrix_product,
    "batch_dot": _matrix_product,
    "_linalg_gemm2": _matrix_product,
}


def kind_of(item: Item) -> str:
    """Description of an operator, such as ``depthwise 3x3 s2``."""
    if item.op in ("Convolution", "Deconvolution"):
        return _convolution_kind(item)
    if item.op == "FullyConnected":
        return "dense"
    if item.op == "clip":
        low, high = float(item.attrs.get("a_min", "nan")), float(item.attrs.get("a_max", "nan"))
        return "ReLU6" if (low, high) == (0, 6) else f"clip {low:g}..{high:g}"
    if item.op in ("Activation", "LeakyReLU"):
        kind = item.attrs.get("act_type", "leaky")
        return "ReLU" if kind == "relu" else kind
    if item.op == "Pooling":
        kind = {"max": "max", "avg": "average"}.get(item.attrs.get("pool_type", "max"), "other")
        if item.flag("global_pool"):
            return f"global {kind} pooling"
        return f"{kind} pooling {_by(item.ints('kernel', ()))}{_stride(item)}"
    return {"elemwise_add": "add", "broadcast_add": "add"}.get(item.op, item.op)


def _convolution_kind(item: Item) -> str:
    kernel, groups = item.ints("kernel", ()), int(item.attrs.get("num_group", 1))
    if item.op == "Deconvolution":
        name = "deconvolution"
    elif is_depthwise(item):
        name = "depthwise"
    else:
        name = "pointwise" if prod(kernel) == 1 else "convolution"
    grouped = f" in {groups} groups" if groups > 1 and name != "depthwise" else ""
    return f"{name} {_by(kernel)}{_stride(item)}{grouped}"


def _by(sides: Shape) -> str:
    return "x".join(map(str, sides))


def _stride(item: Item) -> str:
    stride = item.ints("stride", (1,))
    if set(stride) == {1}:
        return ""
    return f" s{stride[0]}" if len(set(stride)) == 1 else f" s{_by(stride)}"
