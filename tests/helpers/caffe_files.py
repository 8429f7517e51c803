"""Caffe networks with random weights: a prototxt and a caffemodel, written without protobuf."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

V1_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Channels and strides of MobileNetV1 at width 1."""

V2_STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""Channels, blocks and strides of MobileNetV2 at width 1."""

EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
SIZES = ((60, 0), (105, 150), (150, 195), (195, 240), (240, 285), (285, 300))


def varint(value: int) -> bytes:
    """A number as protobuf encodes it."""
    parts = []
    while value > 127:
        parts.append(value % 128 + 128)
        value //= 128
    return bytes([*parts, value])


def field(number: int, data: bytes) -> bytes:
    """A field of bytes: a string, a message or packed numbers."""
    return varint(8 * number + 2) + varint(len(data)) + data


class CaffeWriter:
    """Collects layers.

    `kind` is ``bn`` (BatchNorm and Scale in place), ``apart`` (in blobs of their own) or ``folded``. `double`
    stores float64, `legacy` the sides of arrays as Caffe did before ``BlobShape``.
    """

    def __init__(
        self, size: Tuple[int, int], kind: str = "bn", width: float = 1.0, double: bool = False,
        legacy: bool = False, inputs: str = "shape", depthwise: str = "Convolution",
    ) -> None:  # fmt: skip
        self.rng, self.kind, self.width = np.random.default_rng(0), kind, width
        self.double, self.legacy, self.depthwise = double, legacy, depthwise
        height_width = f"{size[1]} {size[0]}".split()
        dims = "".join(f" dim: {side}" for side in ("1", "3", *height_width))
        self.text = ['name: "net" # of a test']
        if inputs == "layer":
            self.text.append(
                f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{{dims} }} }} }}'
            )
        elif inputs == "dim":
            self.text.append('input: "data"' + dims.replace("dim", "input_dim"))
        else:
            self.text.append(f'input: "data" input_shape {{{dims} }}')
        self.weights = b""
        self.channels: Dict[str, int] = {"data": 3}

    def scaled(self, channels: int) -> int:
        return int(channels * self.width)

    def blob(self, values: np.ndarray) -> bytes:
        if self.legacy:
            sides = [1] * (4 - values.ndim) + list(values.shape)
            shape = b"".join(varint(8 * (i + 1)) + varint(side) for i, side in enumerate(sides))
        else:
            shape = field(7, field(1, b"".join(varint(side) for side in values.shape)))
        dtype, number = ("<f8", 8) if self.double else ("<f4", 5)
        return shape + field(number, values.astype(dtype).tobytes())

    def layer(self, name: str, kind: str, bottoms: Sequence[str], top: str, options: str = "",
              arrays: Sequence[np.ndarray] = ()) -> str:  # fmt: skip
        """Append a layer; returns the name of its output."""
        reads = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.text.append(
            f'layer {{\n  name: "{name}" type: "{kind}"\n  {reads} top: "{top}"\n  {options}\n}}'
        )
        if arrays:
            blobs = b"".join(field(7, self.blob(array)) for array in arrays)
            self.weights += field(100, field(1, name.encode()) + field(2, kind.encode()) + blobs)
        self.channels.setdefault(top, self.channels.get(bottoms[0], 0))
        return top

    def conv(self, name: str, source: str, channels: int, kernel: int = 1, stride: int = 1,
             depthwise: bool = False, act: str = "ReLU", head: bool = False) -> str:  # fmt: skip
        """Append a convolution with what follows it."""
        inputs = 1 if depthwise else self.channels[source]
        scale = 0.1 if head else sqrt(2 / (inputs * kernel * kernel))
        weight = self.rng.normal(0, scale, (channels, inputs, kernel, kernel))
        has_bias = head or self.kind == "folded"
        kind = self.depthwise if depthwise else "Convolution"
        group = f" group: {channels} engine: CAFFE" if depthwise and kind == "Convolution" else ""
        bias = "" if has_bias else " bias_term: false"
        options = (
            f"convolution_param {{ num_output: {channels}{bias} kernel_size: {kernel} pad: {kernel // 2}"
            f' stride: {stride}{group} weight_filler {{ type: "msra" }} }}'
        )
        arrays = [weight, self.rng.normal(0, 0.2, channels)] if has_bias else [weight]
        self.channels[name] = channels
        top = self.layer(name, kind, [source], name, options, arrays)
        if head:
            return top
        if self.kind != "folded":
            other = f"{name}/bn" if self.kind == "apart" else top
            mean, variance = self.rng.normal(0, 0.2, channels), self.rng.uniform(0.5, 1.5, channels)
            count = 999.98
            top = self.layer(f"{name}/bn", "BatchNorm", [top], other, "batch_norm_param { eps: 1e-5 }",
                             [mean * count, variance * count, np.array([count])])  # fmt: skip
            gamma, beta = self.rng.uniform(0.5, 1.5, channels), self.rng.normal(0, 0.2, channels)
            top = self.layer(
                f"{name}/scale", "Scale", [top], top, "scale_param { bias_term: true }", [gamma, beta]
            )
        return self.layer(f"{name}/relu", act, [top], top) if act else top

    def v1(self) -> List[str]:
        """MobileNetV1; returns the outputs of its blocks."""
        top, outputs = self.conv("conv0", "data", self.scaled(32), 3, 2), []
        for index, (channels, stride) in enumerate(V1_BLOCKS, start=1):
            top = self.conv(f"conv{index}/dw", top, self.channels[top], 3, stride, depthwise=True)
            top = self.conv(f"conv{index}", top, self.scaled(channels))
            outputs.append(top)
        return outputs

    def v2(self) -> str:
        """MobileNetV2, each block with an expansion; returns its last output."""
        top, number = self.conv("conv1", "data", self.scaled(32), 3, 2), 0
        for stage, (channels, count, stride) in enumerate(V2_STAGES):
            for index in range(count):
                number += 1
                start, name = top, f"block{number}"
                top = self.conv(f"{name}/expand", top, self.channels[top] * (6 if stage else 1))
                strides = stride if index == 0 else 1
                top = self.conv(f"{name}/dwise", top, self.channels[top], 3, strides, depthwise=True)
                top = self.conv(f"{name}/linear", top, self.scaled(channels), act="")
                if index:
                    top = self.layer(f"sum{number}", "Eltwise", [start, top], f"sum{number}")
        return self.conv("conv6_4", top, 1280)

    def write(
        self, folder: Path, structure: str = "deploy.prototxt", weights: str = "net.caffemodel"
    ) -> Path:
        (folder / structure).write_text("\n".join(self.text), encoding="utf-8")
        (folder / weights).write_bytes(field(1, b"net") + self.weights)
        return folder / structure


def write_classifier(
    folder: Path, network: str = "v1", size: int = 64, classes: int = 5, **options: Any
) -> Path:
    """Write a classifier as shicai's; returns the prototxt."""
    writer = CaffeWriter((size, size), **options)
    top = writer.v1()[-1] if network == "v1" else writer.v2()
    top = writer.layer("pool6", "Pooling", [top], "pool6", "pooling_param { pool: AVE global_pooling: true }")
    top = writer.conv("fc7", top, classes, head=True)
    writer.layer("prob", "Softmax", [top], "prob")
    return writer.write(folder)


def write_ssd(
    folder: Path, size: Tuple[int, int] = (160, 160), columns: int = 4, prior: str = "",
    steps: Sequence[int] = (), output: str = "", **options: Any,
) -> Path:  # fmt: skip
    """Write a detector as chuanqi305's; returns the prototxt.

    `prior` and `output` are more options of the PriorBox and DetectionOutput layers.
    """
    writer = CaffeWriter(size, **options)
    blocks = writer.v1()
    maps = [blocks[10], blocks[12]]
    for index, (squeeze, channels) in enumerate(EXTRAS, start=14):
        top = writer.conv(f"conv{index}_1", maps[-1], writer.scaled(squeeze))
        maps.append(writer.conv(f"conv{index}_2", top, writer.scaled(channels), 3, 2))
    rows: Dict[str, List[str]] = {"loc": [], "conf": [], "priorbox": []}
    for index, (source, (low, high)) in enumerate(zip(maps, SIZES)):
        for kind, values in (("loc", 4), ("conf", columns)):
            top = f"{source}_mbox_{kind}"
            writer.conv(top, source, values * (6 if high else 3), head=True)
            order = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
            top = writer.layer(f"{top}_perm", "Permute", [top], f"{top}_perm", order)
            rows[kind].append(
                writer.layer(f"{top}_flat", "Flatten", [top], f"{top}_flat", "flatten_param { axis: 1 }")
            )
        sizes = f"min_size: {low}" + (f" max_size: {high} aspect_ratio: 3.0" if high else "")
        step = f" step: {steps[index]}" if steps else ""
        top = f"{source}_mbox_priorbox"
        rows["priorbox"].append(writer.layer(top, "PriorBox", [source, "data"], top, (
            f"prior_box_param {{ {sizes} aspect_ratio: 2.0 flip: true variance: 0.1 variance: 0.1"
            f" variance: 0.2 variance: 0.2 clip: false offset: 0.5{step} {prior} }}"
        )))  # fmt: skip
    for kind, tops in rows.items():
        axis = 2 if kind == "priorbox" else 1
        writer.layer(f"mbox_{kind}", "Concat", tops, f"mbox_{kind}", f"concat_param {{ axis: {axis} }}")
    shape = f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {columns} }} }}"
    top = writer.layer("mbox_conf_reshape", "Reshape", ["mbox_conf"], "mbox_conf_reshape", shape)
    top = writer.layer("mbox_softmax", "Softmax", [top], "mbox_softmax", "softmax_param { axis: 2 }")
    top = writer.layer("mbox_flatten", "Flatten", [top], "mbox_flatten", "flatten_param { axis: 1 }")
    writer.layer("detection_out", "DetectionOutput", ["mbox_loc", top, "mbox_priorbox"], "detection_out", (
        f"include {{ phase: TEST }} detection_output_param {{ num_classes: {columns} share_location: true"
        " background_label_id: 0 nms_param { nms_threshold: 0.45 top_k: 100 }"
        f" {'' if 'code_type' in output else 'code_type: CENTER_SIZE'}"
        f" keep_top_k: 100 confidence_threshold: 0.25 {output} }}"
    ))  # fmt: skip
    return writer.write(folder)
