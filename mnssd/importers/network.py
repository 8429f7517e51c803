"""From what a reader found to a network of this package."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple, Union

import mxnet as mx
import numpy as np

from .. import zoo
from ..boxes import STDS
from ..errors import ImportedFileError, MnssdError
from ..nn.head_layouts import HeadLayout
from ..weights import assign, infer_shapes
from ..weights.structure import recognize
from .anchors import anchor_layout
from .graph import Conv, ReadNetwork
from .refusal import PARSING_ERRORS
from .trunk import Trunk, read_trunk, without

Spec = Union[zoo.DetectorSpec, zoo.ClassifierSpec]


class Predictor(NamedTuple):
    """Convolutions of a predictor: a plain one, or a depthwise one and a 1x1."""

    convolutions: Tuple[Conv, ...]

    @property
    def source(self) -> str:
        return self.convolutions[0].source

    @property
    def last(self) -> Conv:
        return self.convolutions[-1]

    @property
    def kind(self) -> str:
        return "separable" if len(self.convolutions) == 2 else "plain"


def build(read: ReadNetwork, classes: Sequence[str], columns: Sequence[int], path: str) -> Tuple[Any, Spec]:
    """The network with its weights, and its structure.

    Parameters
    ----------
    classes : sequence of str
        Names.
    columns : sequence of int
        Their columns in the file's scores.

    Raises
    ------
    ImportedFileError
        If the network has no equal here; the message names what.
    """
    try:
        make = _detector if read.is_detector else _classifier
        return make(read, tuple(classes), list(columns), path)
    except ImportedFileError:
        raise
    except (MnssdError, mx.MXNetError, *PARSING_ERRORS) as error:
        raise ImportedFileError(f"{path}: a network that has no equal here ({error})") from error


def _detector(
    read: ReadNetwork, classes: Tuple[str, ...], columns: List[int], path: str
) -> Tuple[Any, zoo.DetectorSpec]:
    pairs = [
        tuple(_predictor(read, tensor, path) for tensor in tensors)
        for tensors in zip(read.class_tensors, read.box_tensors)
    ]
    heads = [conv for pair in pairs for predictor in pair for conv in predictor.convolutions]
    trunk = read_trunk(read.graph, without(read.graph, heads), path)
    sources = [pair[0].source for pair in pairs]
    taps = [trunk.paths[source] for source in sources if source in trunk.paths]
    maps = [*(_tensor_of(trunk, tap) for tap in taps), *(layer[-1].output for layer in trunk.extras)]
    if [p.source for pair in pairs for p in pair] != [tensor for tensor in maps for _ in range(2)]:
        raise ImportedFileError(f"{path}: {pairs[0][0].last.name}: predictors of other maps than expected")
    counts = [pair[1].last.channels // 4 for pair in pairs]
    for count, (by_class, by_box) in zip(counts, pairs):
        if (by_class.last.channels, by_box.last.channels) != (count * read.column_count, 4 * count):
            problem = f"{by_class.last.channels} outputs for {count} anchors of {read.column_count} columns"
            raise ImportedFileError(f"{path}: {by_class.last.name}: {problem}")
    map_sizes = _map_sizes(read.size, [tap[1] for tap in taps], len(trunk.extras))
    kernel = max(p.last.kernel for pair in pairs for p in pair)
    linear = {not layer[-1].activation for layer in trunk.extras}
    if len(linear) > 1:
        raise ImportedFileError(
            f"{path}: {trunk.extras[-1][-1].name}: an activation unlike the layers before"
        )
    layout = HeadLayout(
        extras=tuple((layer[0].channels, layer[-1].channels) for layer in trunk.extras),
        anchors=anchor_layout(read, map_sizes, counts, path),
        convolution="separable" if any(len(layer) == 3 for layer in trunk.extras) else "plain",
        activation=_common_activation([layer[:-1] for layer in trunk.extras], path),
        linear_extras=linear == {True},
        kernel=kernel,
        predictors=tuple(pair[0].kind for pair in pairs),
        predictor_activation=_common_activation(
            [p.convolutions[:-1] for pair in pairs for p in pair if p.kind == "separable"], path
        ),
        scores=read.scores,
        nms_iou=read.nms_iou,
        taps=tuple(taps),
    )
    spec = zoo.DetectorSpec(
        classes, **_backbone_of(read, trunk, None, path), size=read.size,
        head="ssdlite" if layout.predictor(0) == "separable" else "ssd", layout=layout,
    )  # fmt: skip
    arrays = {f"backbone.{name}": value for name, value in _backbone_arrays(trunk, taps[-1][0]).items()}
    arrays.update(_extra_arrays(trunk))
    for index, (by_class, by_box) in enumerate(pairs):
        arrays.update(_predictor_arrays(by_class, f"class_predictors.{index}", trunk, kernel))
        arrays.update(_predictor_arrays(by_box, f"box_predictors.{index}", trunk, kernel))
    _select_columns(arrays, read, [read.background, *columns])
    net = zoo.build_detector(spec)
    net.initialize()
    _assign(net.heads, arrays, path)
    return net, spec


def _predictor(read: ReadNetwork, tensor: str, path: str) -> Predictor:
    last = read.graph.convolution(tensor, path)
    source = read.graph.producers().get(last.source)
    if last.activation and not last.clamped:
        raise ImportedFileError(f"{path}: {last.name}: an activation after a predictor")
    if isinstance(source, Conv) and source.is_depthwise and last.kernel == 1:
        return Predictor((source, last))
    if last.kernel not in (1, 3) or last.stride != 1 or last.is_depthwise:
        raise ImportedFileError(f"{path}: {last.name}: expected a 1x1 or 3x3 predictor")
    return Predictor((last,))


def _tensor_of(trunk: Trunk, tap: Tuple[str, int]) -> str:
    return next(tensor for tensor, found in trunk.paths.items() if found == tap)


def _map_sizes(size: Tuple[int, int], strides: Sequence[int], extras: int) -> List[Tuple[int, int]]:
    """``(width, height)`` of each map: halved and rounded up by every stride of 2."""
    sides = [tuple(-(-side // stride) for side in size) for stride in strides]
    for _ in range(extras):
        sides.append(tuple(-(-side // 2) for side in sides[-1]))
    return [(width, height) for width, height in sides]


def _common_activation(layers: Sequence[Sequence[Conv]], path: str) -> str:
    """The activation of all these convolutions; that of the layouts here if there are none."""
    found = {conv.activation: conv.name for layer in layers for conv in layer}
    if len(found) > 1:
        raise ImportedFileError(f"{path}: {list(found.values())[1]}: other activations than in other layers")
    return next(iter(found), "relu6")


def _backbone_of(read: ReadNetwork, trunk: Trunk, classes: Any, path: str) -> Dict[str, Any]:
    """Fields of the structure that describe the backbone and its input."""
    found = recognize(trunk.arrays, trunk.network, None, classes)
    if found is None or found.network != trunk.network:
        channels = trunk.arrays["features.0.weight"].shape[0]
        raise ImportedFileError(
            f"{path}: {trunk.network} with {channels} channels first: no width multiplier has these layers"
        )
    order = slice(None, None, -1) if read.pixels.is_bgr else slice(None)
    variant: Dict[str, Any] = {
        **found.structure.variant,
        **({"rotated": True} if trunk.rotated else {}),
        "pixel_mean": [float(value) for value in read.pixels.mean[order]],
        "pixel_std": [float(value) for value in read.pixels.std[order]],
    }
    options = {**found.structure.options}
    if trunk.network == "mobilenet_v1":
        options["activation"] = trunk.activation
    elif trunk.activation == "relu":
        variant["plain_relu"] = True
    if read.pixels.is_bgr:
        trunk.arrays["features.0.weight"] = np.ascontiguousarray(trunk.arrays["features.0.weight"][:, ::-1])
    return {"network": trunk.network, "width": found.structure.width, "variant": variant, **options}


def _backbone_arrays(trunk: Trunk, last_path: str) -> Mapping[str, np.ndarray]:
    """Arrays of the layers up to a tap."""
    last = int(last_path.split(".")[1])
    return {name: value for name, value in trunk.arrays.items() if int(name.split(".")[1]) <= last}


def _extra_arrays(trunk: Trunk) -> Dict[str, np.ndarray]:
    extra = Trunk(trunk.network, trunk.activation, trunk.rotated)
    for index, layer in enumerate(trunk.extras):
        step = 3 if layer[0].activation else 2  # convolution, BatchNorm and activation
        for position, conv in enumerate(layer):
            base = step * position
            extra.put(f"extras.{index}.{base}", f"extras.{index}.{base + 1}", conv)
    return extra.arrays


def _predictor_arrays(predictor: Predictor, name: str, trunk: Trunk, kernel: int) -> Mapping[str, np.ndarray]:
    part = Trunk(trunk.network, trunk.activation, trunk.rotated)
    if predictor.kind == "separable":
        part.put(f"{name}.depthwise.0", f"{name}.depthwise.1", predictor.convolutions[0])
        part.put_plain(f"{name}.project", predictor.last)
        return part.arrays
    part.put_plain(name, predictor.last)
    weight = part.arrays[f"{name}.weight"]
    if weight.shape[-1] < kernel:  # a 1x1 convolution is the center of a 3x3 one
        part.arrays[f"{name}.weight"] = np.pad(weight, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return part.arrays


def _select_columns(arrays: Dict[str, np.ndarray], read: ReadNetwork, columns: Sequence[Any]) -> None:
    """Put the outputs of the predictors into the order here, and scale the boxes to `boxes.STDS`."""
    scale = np.array(read.box_stds) / np.array(STDS)
    for name, value in arrays.items():
        if not name.startswith(("class_predictors.", "box_predictors.")) or ".depthwise." in name:
            continue
        is_class = name.startswith("class")
        rows = value.reshape(-1, read.column_count if is_class else 4, *value.shape[1:])
        if is_class:
            parts = [np.zeros_like(rows[:, 0]) if c is None else rows[:, c] for c in columns]
        else:
            parts = [rows[:, c] * np.float32(factor) for c, factor in zip(read.box_order, scale)]
        arrays[name] = np.ascontiguousarray(np.stack(parts, axis=1).reshape(-1, *value.shape[1:]))


def _classifier(
    read: ReadNetwork, classes: Tuple[str, ...], columns: List[int], path: str
) -> Tuple[Any, zoo.ClassifierSpec]:
    last = read.graph.convolution(read.logits, path)
    trunk = read_trunk(read.graph, without(read.graph, [last]), path)
    if trunk.extras or trunk.paths.get(last.source, ("", 0))[0] != _last_layer(trunk):
        raise ImportedFileError(f"{path}: {last.name}: reads another layer than the last")
    weight, bias = last.weight[columns].astype(np.float32), last.bias[columns].astype(np.float32)
    if trunk.network == "mobilenet_v1":
        arrays = {"output.weight": weight.reshape(len(columns), -1), "output.bias": bias}
    else:
        arrays = {"output.0.weight": weight, "output.0.bias": bias}
    trunk.arrays.update(arrays)
    spec = zoo.ClassifierSpec(classes, **_backbone_of(read, trunk, len(columns), path), size=read.size)
    net = zoo.build_classifier(spec)
    net.initialize()
    _assign(net, trunk.arrays, path)
    return net, spec


def _last_layer(trunk: Trunk) -> str:
    return list(trunk.paths.values())[-1][0]


def _assign(block: Any, arrays: Mapping[str, np.ndarray], path: str) -> None:
    """Set all parameters but the constants of the input; ImportedFileError if any is left or does not fit."""
    infer_shapes(block)
    report = assign(block, arrays, path)
    missing = [name for name in report.missing if ".input." not in f".{name}"]
    if missing or report.mismatched or report.unused:
        lines = "\n".join(report.lines()[1:])
        raise ImportedFileError(f"{path}: layers of another shape than any MobileNet's\n{lines}")
