"""Operators of TensorFlow on constants: the arithmetic of anchors and of unfused BatchNorms."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from ..errors import ImportedFileError
from .frozen_file import DTYPES, Node

MOST_RESULTS = 10_000_000
"""Values of a result; larger ones come from a damaged file."""

ELEMENTWISE: Dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add, "AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply, "RealDiv": np.true_divide,
    "FloorDiv": np.floor_divide, "Maximum": np.maximum, "Minimum": np.minimum, "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1 / np.sqrt(x), "Square": np.square, "Neg": np.negative, "Identity": np.asarray,
}  # fmt: skip


def evaluate(node: Node, args: Sequence[np.ndarray]) -> List[np.ndarray]:
    """The outputs of one of the operators `EVALUATED`; ImportedFileError if they are too large."""
    if node.op not in ELEMENTWISE:
        results = EVALUATED[node.op](node, *args)
    else:
        _limit(node, int(np.prod(np.broadcast_shapes(*(arg.shape for arg in args)), dtype=np.float64)))
        with np.errstate(all="ignore"):
            results = [np.asarray(ELEMENTWISE[node.op](*args))]
    _limit(node, sum(result.size for result in results))
    return results


def _limit(node: Node, count: float) -> None:
    if not count <= MOST_RESULTS:
        raise ImportedFileError(f"{node}: {count} values")


def _cast(node: Node, x: np.ndarray) -> List[np.ndarray]:
    return [x.astype(DTYPES[int(node.attrs["DstT"].type)][0])]


def _range(node: Node, start: np.ndarray, limit: np.ndarray, step: np.ndarray) -> List[np.ndarray]:
    _limit(node, (float(limit) - float(start)) / float(step))
    return [np.arange(start.item(), limit.item(), step.item()).astype(start.dtype)]


def _fill(node: Node, shape: np.ndarray, value: np.ndarray) -> List[np.ndarray]:
    _limit(node, float(np.prod(shape, dtype=np.float64)))
    return [np.full(shape.tolist(), value)]


def _tile(node: Node, x: np.ndarray, counts: np.ndarray) -> List[np.ndarray]:
    _limit(node, x.size * float(np.prod(counts, dtype=np.float64)))
    return [np.tile(x, counts.tolist())]


def _slice(node: Node, x: np.ndarray, begin: np.ndarray, size: np.ndarray) -> List[np.ndarray]:
    parts = zip(begin.tolist(), size.tolist())
    return [x[tuple(slice(b, None if s == -1 else b + s) for b, s in parts)]]


def _strided_slice(
    node: Node, x: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray
) -> List[np.ndarray]:
    if node.number("ellipsis_mask") or node.number("new_axis_mask"):
        raise ImportedFileError(f"{node}: a slice with new axes")
    masks = [node.number(f"{name}_mask") for name in ("begin", "end", "shrink_axis")]
    index: List[Any] = []
    for axis, (first, last, step) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist())):
        open_begin, open_end, shrinks = (mask >> axis & 1 for mask in masks)
        part = slice(None if open_begin else first, None if open_end else last, step)
        index.append(first if shrinks else part)
    return [np.asarray(x[tuple(index)])]


def _squeeze(node: Node, x: np.ndarray) -> List[np.ndarray]:
    return [np.squeeze(x, tuple(node.numbers("squeeze_dims")) or None)]


def _split(node: Node, axis: np.ndarray, x: np.ndarray) -> List[np.ndarray]:
    return list(np.split(x, node.number("num_split"), int(axis)))


def _unpack(node: Node, x: np.ndarray) -> List[np.ndarray]:
    return list(np.moveaxis(x, node.number("axis"), 0))


EVALUATED: Dict[str, Callable[..., List[np.ndarray]]] = {
    **dict.fromkeys(ELEMENTWISE),  # type: ignore[dict-item]
    "Cast": _cast, "Range": _range, "Fill": _fill, "Tile": _tile, "Slice": _slice,
    "StridedSlice": _strided_slice, "Squeeze": _squeeze, "Split": _split, "Unpack": _unpack,
    "Reshape": lambda node, x, shape: [x.reshape(shape.tolist())],
    "ExpandDims": lambda node, x, axis: [np.expand_dims(x, int(axis))],
    "ConcatV2": lambda node, *args: [np.concatenate(args[:-1], int(args[-1]))],
    "Pack": lambda node, *args: [np.stack(args, node.number("axis"))],
    "Transpose": lambda node, x, order: [x.transpose(order.tolist())],
    "Rank": lambda node, x: [np.array(x.ndim, np.int32)],
    "Size": lambda node, x: [np.array(x.size, np.int32)],
    "Shape": lambda node, x: [np.array(x.shape, np.int32)],
    "ZerosLike": lambda node, x: [np.zeros_like(x)],
}  # fmt: skip
"""Operators by name; those of `ELEMENTWISE` have an entry without a function."""
