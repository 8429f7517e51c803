"""Running a detector over a dataset.

Worker threads read images while the network computes. MXNet launches a batch asynchronously, so the next
batch is launched before the results of the last are fetched.
"""

from __future__ import annotations

import contextlib
from functools import partial
from itertools import islice
from typing import Any, Callable, Generator, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

import mxnet as mx
import numpy as np

from ..data.dataset import Dataset
from ..data.gluon_batches import gluon_batches
from ..data.image import to_network_input
from ..data.preprocess import read_for_network, to_detections
from ..data.sample import Detections, Sample
from ..data.tiles import NONE, check_tiles
from ..errors import DataError, OptionError
from ..graph.inference import free_dropped_blocks, inference_block
from ..metrics.voc import VOCMetric, VOCResult
from ..options import Size, listed

_BATCHES_AHEAD = 2
"""Batches of images read ahead of the network: one that it computes, one that is ready."""


class Skipped(NamedTuple):
    """A sample whose image could not be read, and the reason."""

    sample: Sample
    reason: str


class PreparedImage(NamedTuple):
    """Pixels at the network's size, and the ``(width, height)`` of the file.

    The pixels are ``(h, w, 3)`` uint8 RGB, or the network input, ``(3, h, w)`` float32.
    """

    sample: Sample
    pixels: np.ndarray
    size: Size


Read = Callable[[Sample], PreparedImage]

_Batch = Tuple[List[PreparedImage], List[mx.nd.NDArray]]
"""A launched batch and its outputs, still computing: ids and scores ``(B, K, 1)``, boxes ``(B, K, 4)``."""


def predict(
    net: Any,
    samples: Iterable[Sample],
    batch_size: int = 16,
    workers: int = 2,
    ctx: Optional[mx.Context] = None,
    on_bad_image: str = "raise",
    skipped: Optional[List[Skipped]] = None,
    read: Optional[Read] = None,
) -> Iterator[Tuple[Sample, Detections]]:
    """Detect objects in the image of each sample.

    Parameters
    ----------
    net : mnssd.nn.SSD
        Optimized for inference with its current weights. Any other callable with a ``size`` and the same
        outputs is called unchanged.
    workers : int
        Threads that read images; 0 reads in the calling thread.
    ctx : mxnet.Context, optional
        Device of `net`. Defaults to that of its parameters.
    on_bad_image : str
        ``'raise'``, or ``'skip'`` to omit images that cannot be read.
    skipped : list, optional
        Receives a `Skipped` for each omitted sample.
    read : callable, optional
        Gives the `PreparedImage` of a sample, or raises DataError. Defaults to `read_for_network`.

    Yields
    ------
    (Sample, Detections)
        In the order of `samples`, best score first. Boxes are float32 in pixels of the image file, from 0.

    Raises
    ------
    ImageError
        If an image cannot be read, unless `on_bad_image` is ``'skip'``.
    OptionError
        If an argument is out of range.
    """
    _check_arguments(batch_size, workers, on_bad_image)
    if ctx is None:
        ctx = next((parameter.list_ctx()[0] for parameter in net.collect_params().values()), mx.cpu())
    loaded = _load(samples, batch_size, workers, read or partial(_read_file, net_size=net.size))
    images = _readable(loaded, on_bad_image == "raise", [] if skipped is None else skipped)
    block = inference_block(net, net.size, ctx) if isinstance(net, mx.gluon.HybridBlock) else net
    previous: Optional[_Batch] = None
    try:
        while True:
            batch = list(islice(images, batch_size))
            launched = _launch(block, batch, ctx) if batch else None
            if previous:
                yield from _fetch(previous, net.size)
            if launched is None:
                return
            previous = launched
    finally:
        loaded.close()
        del block
        free_dropped_blocks()


def _check_arguments(batch_size: int, workers: int, on_bad_image: str) -> None:
    """Raise OptionError for an argument of `predict` that is out of range."""
    if batch_size < 1 or workers < 0:
        raise OptionError(f"batch_size {batch_size}, workers {workers}: expected at least 1 and 0")
    if on_bad_image not in ("raise", "skip"):
        raise OptionError(f"on_bad_image: expected 'raise' or 'skip', got {on_bad_image!r}")


def evaluate(
    net: Any,
    dataset: Dataset,
    metric: str = "voc07",
    iou_threshold: float = 0.5,
    batch_size: int = 16,
    workers: int = 2,
    ctx: Optional[mx.Context] = None,
    on_bad_image: str = "raise",
    skipped: Optional[List[Skipped]] = None,
    watch: Optional[Callable[[Sample, Detections], object]] = None,
    read: Optional[Read] = None,
    tiles: str = NONE,
) -> VOCResult:
    """Evaluate a detector on a dataset.

    Parameters
    ----------
    net : mnssd.nn.SSD
        Its ``classes`` must be those of the dataset.
    metric, iou_threshold
        See `VOCMetric`.
    batch_size, workers, ctx, on_bad_image, skipped, read
        See `predict`. Objects of skipped images do not count; those of others are those of the
        `PreparedImage`.
    tiles : str
        ``'none'``, ``'auto'`` or a grid, as for `Detector`; not with `read`. Boxes are compared in the whole
        image.
    watch : callable, optional
        Called with each sample and its detections, for example to update a progress bar.

    Raises
    ------
    DataError
        If the classes differ; further errors as `predict` and `VOCMetric.add`.
    """
    if tuple(net.classes) != tuple(dataset.classes):
        raise DataError(
            f"{dataset.name}: opened with the classes {listed(dataset.classes)}, but those of the detector"
            f" are {listed(net.classes)}; open the dataset with the detector's classes"
        )
    voc = VOCMetric(dataset.classes, metric, iou_threshold)
    if check_tiles(tiles) == NONE:
        found = predict(net, dataset, batch_size, workers, ctx, on_bad_image, skipped, read)
    else:
        from .predict_tiled import predict_tiled  # which imports this module

        found = predict_tiled(
            net, dataset, check_tiles(tiles), batch_size, workers, ctx, on_bad_image, skipped
        )
    for sample, detections in found:
        voc.add(detections, sample)
        if watch:
            watch(sample, detections)
    return voc.result()


def _load(
    samples: Iterable[Sample], batch_size: int, workers: int, read: Read
) -> Generator[Union[PreparedImage, Tuple[Sample, DataError]], None, None]:
    """Images in the order of `samples`, which are read lazily, in batches that are loaded ahead."""
    remaining = iter(samples)
    batches = iter(lambda: list(islice(remaining, batch_size)), [])
    loaded = gluon_batches(partial(_read, read=read), batches, list, workers, _BATCHES_AHEAD)
    with contextlib.closing(loaded):
        for batch in loaded:
            yield from batch


def _read_file(sample: Sample, net_size: Size) -> PreparedImage:
    return PreparedImage(sample, *read_for_network(sample.image_path, net_size))


def _read(sample: Sample, read: Read) -> Union[PreparedImage, Tuple[Sample, DataError]]:
    try:
        return read(sample)
    except DataError as error:
        return sample, error


def _readable(
    images: Iterable[Union[PreparedImage, Tuple[Sample, DataError]]], refuse: bool, skipped: List[Skipped]
) -> Iterator[PreparedImage]:
    for image in images:
        if isinstance(image, PreparedImage):
            yield image
        elif refuse:
            raise image[1]
        else:
            skipped.append(Skipped(image[0], str(image[1])))


def _launch(block: Any, images: List[PreparedImage], ctx: mx.Context) -> _Batch:
    """Start the network on a batch, without waiting for it."""
    pixels = [image.pixels for image in images]
    x = to_network_input(pixels) if pixels[0].dtype == np.uint8 else np.stack(pixels)
    return images, block(mx.nd.array(x, ctx=ctx))


def _fetch(batch: _Batch, net_size: Size) -> Iterator[Tuple[Sample, Detections]]:
    """Wait for a batch and scale its boxes to the pixels of their images."""
    images, outputs = batch
    for image, ids, scores, boxes in zip(images, *(array.asnumpy() for array in outputs)):
        yield image.sample, to_detections(ids, scores, boxes, net_size, image.size)
