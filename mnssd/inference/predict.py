"""Running a detector over a dataset.

Images are read in threads while the network computes: MXNet returns at once from launching a batch, so
the next one is launched before the results of the last are fetched.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

import mxnet as mx
import numpy as np

from ..data.dataset import Dataset
from ..data.image import to_network_input
from ..data.prefetch import prefetch
from ..data.preprocess import read_for_network, to_detections
from ..data.sample import Detections, Sample
from ..errors import DataError, ImageError, OptionError
from ..graph.inference import free_dropped_blocks, inference_block
from ..metrics.voc import VOCMetric, VOCResult

Size = Tuple[int, int]

# Images read ahead of the network, in batches: one that computes, one that is ready.
_BATCHES_AHEAD = 2


class Skipped(NamedTuple):
    """A sample whose image could not be read, and why."""

    sample: Sample
    reason: str


class _Prepared(NamedTuple):
    """An image at the network's size, ``(h, w, 3)`` uint8 RGB, and the ``(width, height)`` of its file."""

    sample: Sample
    pixels: np.ndarray
    size: Size


class _Failed(NamedTuple):
    sample: Sample
    error: ImageError


class _Launched(NamedTuple):
    """A batch and the network's answer to come: ``(B, K, 1)``, ``(B, K, 1)`` and ``(B, K, 4)``."""

    batch: List[_Prepared]
    ids: mx.nd.NDArray
    scores: mx.nd.NDArray
    boxes: mx.nd.NDArray


def predict(
    net: Any,
    samples: Iterable[Sample],
    batch_size: int = 16,
    workers: int = 2,
    ctx: Optional[mx.Context] = None,
    on_bad_image: str = "raise",
    skipped: Optional[List[Skipped]] = None,
) -> Iterator[Tuple[Sample, Detections]]:
    """Detect in each sample's image.

    Parameters
    ----------
    net : mnssd.nn.SSD
        It is fused for inference first, with the weights it then has. Anything else with its ``size`` and
        its answer to a batch is run as it is.
    samples : iterable of Sample
        Only their image files are used.
    batch_size : int
        Images computed together; it does not change the result. The last batch may be smaller.
    workers : int
        Threads that read images; 0 reads in this one.
    ctx : mxnet.Context, optional
        Where `net` lives; by default where its parameters are.
    on_bad_image : str
        ``'raise'``, or ``'skip'`` images that cannot be read: they are then missing from what comes out.
    skipped : list, optional
        `Skipped` ones are appended here.

    Yields
    ------
    (Sample, Detections)
        In the order of `samples`. Boxes are float32 in pixels of the image as it was read, whatever size
        its annotation states, counted from 0 and clipped to the image; best score first.

    Raises
    ------
    ImageError
        Naming the image that cannot be read, unless `on_bad_image` is ``'skip'``.
    """
    if batch_size < 1 or workers < 0:
        raise OptionError(f"batch size is at least 1 and workers at least 0, not {batch_size} and {workers}")
    if on_bad_image not in ("raise", "skip"):
        raise OptionError(f"on_bad_image is 'raise' or 'skip', not {on_bad_image!r}")
    ctx = ctx or _context_of(net)
    prepare = partial(_prepare, size=net.size)
    images = prefetch(prepare, samples, workers, _BATCHES_AHEAD * batch_size)
    good = _without_bad(images, on_bad_image == "raise", [] if skipped is None else skipped)
    answer = inference_block(net, net.size, ctx) if isinstance(net, mx.gluon.HybridBlock) else net
    launched: Optional[_Launched] = None
    try:
        while True:
            batch = list(islice(good, batch_size))
            launching = _launch(answer, batch, ctx) if batch else None
            if launched:
                yield from _fetch(launched, net.size)
            if launching is None:
                return
            launched = launching
    finally:
        del answer
        free_dropped_blocks()


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
) -> VOCResult:
    """Measure a detector on a dataset.

    Parameters
    ----------
    net : mnssd.nn.SSD
        Its ``classes`` must be those of the dataset.
    dataset : Dataset
    metric, iou_threshold
        As for `VOCMetric`.
    batch_size, workers, ctx, on_bad_image, skipped
        As for `predict`. Skipped images are not measured, neither their objects.
    watch : callable, optional
        Called with each sample and its detections, as for a progress bar or to store them.

    Raises
    ------
    DataError
        When the classes differ; and as `predict` and `VOCMetric.add`.
    """
    if tuple(net.classes) != tuple(dataset.classes):
        raise DataError(
            f"{dataset.name} was opened with the classes {', '.join(dataset.classes)}, but the detector "
            f"knows {', '.join(net.classes)}; open the dataset with those of the detector"
        )
    measuring = VOCMetric(dataset.classes, metric, iou_threshold)
    for sample, detections in predict(net, dataset, batch_size, workers, ctx, on_bad_image, skipped):
        measuring.add(detections, sample)
        if watch:
            watch(sample, detections)
    return measuring.result()


def _context_of(net: Any) -> mx.Context:
    parameters = net.collect_params().values()
    return next((parameter.list_ctx()[0] for parameter in parameters), mx.cpu())


def _prepare(sample: Sample, size: Size) -> Union[_Prepared, _Failed]:
    try:
        return _Prepared(sample, *read_for_network(sample.image_path, size))
    except ImageError as error:
        return _Failed(sample, error)


def _without_bad(
    images: Iterable[Union[_Prepared, _Failed]], refuse: bool, skipped: List[Skipped]
) -> Iterator[_Prepared]:
    for image in images:
        if isinstance(image, _Prepared):
            yield image
        elif refuse:
            raise image.error
        else:
            skipped.append(Skipped(image.sample, str(image.error)))


def _launch(answer: Any, batch: List[_Prepared], ctx: mx.Context) -> _Launched:
    """Start the network on a batch, without waiting for it."""
    data = mx.nd.array(to_network_input([image.pixels for image in batch]), ctx=ctx)
    ids, scores, boxes = answer(data)
    return _Launched(batch, ids, scores, boxes)


def _fetch(launched: _Launched, net_size: Size) -> Iterator[Tuple[Sample, Detections]]:
    """Wait for a batch and bring its boxes to the pixels of their images."""
    ids, scores, boxes = (array.asnumpy() for array in (launched.ids, launched.scores, launched.boxes))
    for image, its_ids, its_scores, its_boxes in zip(launched.batch, ids, scores, boxes):
        yield image.sample, to_detections(its_ids, its_scores, its_boxes, net_size, image.size)
