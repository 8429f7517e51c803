"""Transforms of GluonCV and of the user: called so that they are reproducible, and what they return checked.

A transform is a callable ``(image, label) -> (image, label)``, or ``-> (image, cls_targets, box_targets)``.
"""

from __future__ import annotations

import contextlib
import random
import threading
from copy import copy
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ...boxes import STDS
from ...errors import OptionError, TransformError
from ...imagenet import IMAGENET_MEAN, IMAGENET_STD
from ...options import Size
from ..annotations.annotation import AnnotationError
from ..annotations.label_rows import label_rows, parse_rows
from ..findings import Findings
from ..image import to_network_input
from ..sample import Sample

Transform = Callable[[Any, Any], Any]

_LARGEST_NORMALIZED = 50.0
"""Normalized levels are at most 2.7, and after GluonCV's distortion of colors about 20; levels up to 255 are
not normalized."""

_HARMLESS = ("box-without-area", "difficult-unknown")
"""Findings of rows that a crop may leave, or that training does not use."""

_lock = threading.Lock()


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Context manager in which the global generators of Python, NumPy and MXNet start from `seed`.

    GluonCV's transforms draw from them. One thread at a time may be in it; the states of Python and NumPy
    are restored, that of MXNet, which cannot be read, is not.
    """
    with _lock:
        states = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed)
        mx.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def call(transform: Transform, image: Any, label: np.ndarray, rng: np.random.Generator) -> List[Any]:
    """What a transform returns, arrays as `numpy.ndarray`; its randomness depends on `rng` only.

    Raises ValueError if it raises an exception, or does not return a tuple of at least two.
    """
    shown = f"image {tuple(image.shape)} {np.dtype(image.dtype).name}"
    try:
        with _seeded(int(rng.integers(1 << 31))):
            made = transform(image, label) if len(label) else _without_objects(transform, image, label)
            if isinstance(made, (tuple, list)) and len(made) >= 2:
                # MXNet draws and computes when it likes, and raises errors when the result is read.
                return [value.asnumpy() if hasattr(value, "asnumpy") else value for value in made]
    except Exception as error:  # the code is the user's and may raise anything
        raise ValueError(
            f"raised {type(error).__name__}: {str(error).strip()[:200]} (called with mx.nd.NDArray {shown} "
            f"and numpy.ndarray label {label.shape})"
        ) from error
    raise ValueError(
        f"returned {_shown(made)}; expected (image, label) or (image, class targets, box targets)"
    )


def _without_objects(transform: Transform, image: Any, label: np.ndarray) -> Any:
    """Call a transform with an image without objects.

    The targets that GluonCV 0.10.5 generates fail for it: MXNet has no arrays without elements, and the
    offsets of a padded row are -inf. So its own transform is called without anchors.
    """
    if getattr(transform, "_anchors", None) is None or not is_gluoncv(transform):
        return transform(image, label)
    plain = copy(transform)
    plain._anchors = None  # type: ignore[attr-defined]
    return plain(image, label)


def is_gluoncv(transform: Transform) -> bool:
    """Whether a transform is one of GluonCV's presets for SSD, or derived from one."""
    if not any(kind.__module__.startswith("gluoncv.") for kind in type(transform).__mro__):
        return False
    from gluoncv.data.transforms.presets import ssd

    return isinstance(transform, (ssd.SSDDefaultTrainTransform, ssd.SSDDefaultValTransform))


def check_preset(transform: Any, name: str, size: Size, anchors: np.ndarray) -> None:
    """Raise OptionError if the values that GluonCV's preset has been made with are not those of the network.

    Of other transforms only the results can be checked.
    """
    if not is_gluoncv(transform):
        return
    width, height = transform._width, transform._height
    if (width, height) != tuple(size):
        raise OptionError(f"{name}: made for {width}x{height}, but the network input is {size[0]}x{size[1]}")
    normalization = [*transform._mean, *transform._std]
    if not np.allclose(normalization, [*IMAGENET_MEAN, *IMAGENET_STD]):
        raise OptionError(
            f"{name}: normalizes with {normalization}; the networks need {IMAGENET_MEAN}, {IMAGENET_STD}"
        )
    if getattr(transform, "_anchors", None) is None:
        return
    given = transform._anchors.asnumpy().reshape(-1, 4)
    if given.shape != anchors.shape or not np.allclose(given, anchors, atol=1e-3):
        raise OptionError(
            f"{name}: made with {len(given)} anchors that are not the {len(anchors)} of the network; leave "
            "them out, or take those of its as_gluoncv()"
        )
    if not np.allclose(transform._box_norm, STDS):
        raise OptionError(f"{name}: box_norm is {transform._box_norm}; the networks need {STDS}")


def network_input(image: Any, size: Size) -> np.ndarray:
    """``(3, H, W)`` float32 of an image that a transform has returned; ``size`` is ``(W, H)``.

    Raises ValueError unless it is normalized floats ``(3, H, W)`` or uint8 ``(H, W, 3)``.
    """
    width, height = size
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.shape == (height, width, 3):
            return to_network_input([np.ascontiguousarray(image)])[0]
        if image.dtype.kind == "f" and image.shape == (3, height, width):
            if not np.isfinite(image).all():
                raise ValueError("returned an image with values that are not finite")
            if np.abs(image).max() > _LARGEST_NORMALIZED:
                raise ValueError(
                    f"returned an image with values of {image.min():g} to {image.max():g}; expected "
                    "normalized ones, as of mx.nd.image.to_tensor and mx.nd.image.normalize"
                )
            return np.ascontiguousarray(image, np.float32)
    raise ValueError(
        f"returned the image {_shown(image)}; expected float (3, {height}, {width}), normalized, or uint8 "
        f"({height}, {width}, 3), the input size of the network"
    )


def boxes_and_labels(label: Any, size: Size, classes: Sequence[str]) -> Tuple[np.ndarray, np.ndarray]:
    """``(N, 4)`` float32 boxes and ``(N,)`` int64 labels of the rows that a transform has returned.

    Raises ValueError if a row is no box in an image of `size`, or its class is none of `classes`.
    """
    try:
        rows = label_rows(label)
    except AnnotationError as error:
        raise ValueError(f"returned wrong labels: {error}") from error
    findings = Findings()
    parse_rows(rows, classes, findings, "", "")
    for finding in findings.items:
        if finding.code not in _HARMLESS:
            raise ValueError(f"returned a wrong label, {finding.text}")
    rows = rows[rows[:, 4] >= 0]  # others are padding
    limit = np.array(size, float) + 1  # inclusive and exclusive ends, and rounding
    outside = (rows[:, :2] < -1).any(axis=1) | (rows[:, 2:4] > limit).any(axis=1)
    if outside.any():
        box = ", ".join(f"{value:g}" for value in rows[outside.argmax(), :4])
        raise ValueError(f"returned the box {box}, which is not within {size[0]}x{size[1]} pixels; clip it")
    return rows[:, :4].astype(np.float32), rows[:, 4].astype(np.int64)


def difficult_flags(label: Any, sample: Sample) -> np.ndarray:
    """``(N,)`` bool of the rows that a transform has returned: their sixth column, else those of the sample.

    Raises ValueError if there is no sixth column and the number of rows is another.
    """
    rows = label_rows(label)
    rows = rows[rows[:, 4] >= 0]
    if len(rows) == 0 or rows.shape[1] > 5:
        return rows[:, 5:6].any(axis=1)
    if len(rows) != len(sample.difficult) and sample.difficult.any():
        raise ValueError("returned other rows, without the sixth column, which says which are difficult")
    return sample.difficult if len(rows) == len(sample.difficult) else np.zeros(len(rows), bool)


def targets(cls_targets: Any, box_targets: Any, anchors: int, classes: int) -> Tuple[np.ndarray, np.ndarray]:
    """``(A,)`` int32 class and ``(A, 4)`` float32 box targets that a transform has returned.

    Box targets of the background become 0. Raises ValueError for another shape, another number, or a class
    that is none of 0, the background, to `classes`.
    """
    for what, value, shape in (("class", cls_targets, (anchors,)), ("box", box_targets, (anchors, 4))):
        if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind not in "iuf":
            raise ValueError(f"returned the {what} targets {_shown(value)}; expected numbers {shape}")
    wrong = ~np.isin(cls_targets, np.arange(classes + 1))
    if wrong.any():
        raise ValueError(
            f"returned the class target {cls_targets[wrong.argmax()]:g}; expected 0, the background, to "
            f"{classes}"
        )
    positive = cls_targets > 0
    if not np.isfinite(box_targets[positive]).all():
        raise ValueError("returned box targets that are not finite")
    boxes = np.where(positive[:, None], box_targets, 0)
    return cls_targets.astype(np.int32), boxes.astype(np.float32)


def rows_of(sample: Sample, boxes: Optional[np.ndarray] = None) -> np.ndarray:
    """``(N, 6)`` float64 rows of the objects of a sample, as GluonCV's `VOCDetection` gives them."""
    own = sample.boxes if boxes is None else boxes
    return np.column_stack([own, sample.labels, sample.difficult]).astype(np.float64)


@contextlib.contextmanager
def named(name: str, sample: Sample) -> Iterator[None]:
    """Context manager in which a ValueError becomes a TransformError with the transform and the sample."""
    try:
        yield
    except ValueError as error:
        raise TransformError(f"{sample.image_path}: {name} {error}") from error


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"numpy.ndarray {value.dtype} {value.shape}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{type(value).__name__} {str(value)[:60]!r}"
