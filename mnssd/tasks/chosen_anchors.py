"""Anchors for a dataset: `--anchors`."""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple

import numpy as np

from .. import zoo
from ..data.dataset import Dataset
from ..errors import OptionError
from ..nn.anchor_shapes import cluster_shapes, explicit_layout, mean_overlap, read_shapes, shapes_of
from ..nn.head_layouts import LAYOUTS
from ..options import Size
from ..train.options import AUTO_ANCHORS, DEFAULT_ANCHORS


def with_anchors(spec: zoo.DetectorSpec, anchors: str, dataset: Dataset) -> Tuple[zoo.DetectorSpec, str]:
    """The structure of a detector with other anchors, and a note for the user.

    Parameters
    ----------
    spec : DetectorSpec
    anchors : str
        ``'default'``, those of the head; ``'auto'``, clustered from the boxes of the dataset; or a file, see
        `nn.anchor_shapes.read_shapes`.
    dataset : Dataset
        The training images.

    Raises
    ------
    OptionError
        If the network has anchors of its own, if there are no boxes, or if the file cannot be used.
    """
    if anchors == DEFAULT_ANCHORS:
        return spec, ""
    if spec.layout:
        raise OptionError(f"--anchors {anchors}: the network has anchors of its own; omit the option")
    net, layout = zoo.build_detector(spec), LAYOUTS[spec.head]
    before, sizes = shapes_of(net.anchors, net.map_sizes(), layout.anchors), box_sizes(dataset, spec.size)
    if not len(sizes):
        raise OptionError(f"--anchors {anchors}: the training images have no boxes")
    auto = anchors == AUTO_ANCHORS
    shapes = cluster_shapes(before, sizes) if auto else read_shapes(anchors, layout.anchors.maps)
    try:
        changed = replace(layout, anchors=explicit_layout(layout.anchors, shapes, spec.size))
    except ValueError as error:
        raise OptionError(f"--anchors {anchors}: {error}") from error
    source = f"clustered from {len(sizes):,} boxes" if auto else f"from {anchors}"
    overlap = " instead of ".join(f"{mean_overlap(sizes, part):.2f}" for part in (shapes, before))
    note = f"anchors {source}: mean IoU of a box with the nearest shape {overlap}"
    return replace(spec, layout=changed), note


def box_sizes(dataset: Dataset, input_size: Size) -> np.ndarray:
    """``(N, 2)`` widths and heights of all boxes, in pixels of a network's input."""
    parts = [np.empty((0, 2))]
    for sample in dataset:
        sides = sample.boxes[:, 2:] - sample.boxes[:, :2] + 1
        parts.append(sides * (input_size[0] / max(1, sample.size[0]), input_size[1] / max(1, sample.size[1])))
    sizes = np.concatenate(parts)
    return sizes[(sizes > 0).all(axis=1)]
