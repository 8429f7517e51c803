"""Running a detector over the tiles of the images of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

from ..data.image import image_size, read_image
from ..data.preprocess import read_for_network
from ..data.sample import Detections, Sample
from ..data.tiles import Window, choose_grid, make_windows
from ..errors import DataError
from ..options import Size
from .predict import PreparedImage, Skipped, predict
from .tile_merge import merge, shifted
from .tiled import crop, smallest_anchor

_IMAGES_KEPT = 4
"""Decoded images kept while their windows are read: threads may be at different images."""


@dataclass(frozen=True)
class _TileSample(Sample):
    """A window of a sample's image; `size` is that of the image."""

    whole: Optional[Sample] = None
    windows: Sequence[Window] = ()
    number: int = 0  # of the window, in `windows`


def predict_tiled(
    net: Any,
    samples: Iterable[Sample],
    tiles: str,
    batch_size: int = 16,
    workers: int = 2,
    ctx: Any = None,
    on_bad_image: str = "raise",
    skipped: Optional[List[Skipped]] = None,
) -> Iterator[Tuple[Sample, Detections]]:
    """As `predict.predict`, but in the tiles of each image, a value of `tiles.parse_tiles`.

    An image that is not divided has the detections of `predict`.
    """
    failed: List[Skipped] = []
    read = _TileReader(net.size)
    found = predict(
        net, _tile_samples(net, samples, tiles), batch_size, workers, ctx, on_bad_image, failed, read
    )  # fmt: skip
    for _, group in groupby(found, lambda pair: id(_whole(pair[0]))):
        pairs = list(group)
        first = pairs[0][0]
        if not isinstance(first, _TileSample):
            yield pairs[0]
        elif len(pairs) == len(first.windows):  # else the file could not be read for some of them
            parts = [shifted(detections, window) for (_, detections), window in zip(pairs, first.windows)]
            yield _whole(first), merge(parts, first.windows, first.size)
    if skipped is not None:
        skipped += {id(whole): Skipped(whole, reason) for whole, reason in _wholes(failed)}.values()


def _anchor_side(net: Any) -> Optional[float]:
    anchors = getattr(net, "anchors", None)
    return None if anchors is None else smallest_anchor(anchors)


def _tile_samples(net: Any, samples: Iterable[Sample], tiles: str) -> Iterator[Sample]:
    """The samples whose images are not divided, and the windows of the others."""
    side = _anchor_side(net)
    for sample in samples:
        try:
            size = image_size(sample.image_path)  # not that of the annotation, which may be wrong
        except DataError:
            yield sample  # reading it reports the reason
            continue
        windows = make_windows(size, choose_grid(tiles, size, net.size, side))
        if len(windows) == 1:
            yield sample
            continue
        fields = {**vars(sample), "size": size}
        for number in range(len(windows)):
            yield _TileSample(**fields, whole=sample, windows=windows, number=number)


class _TileReader:
    """Reads images and windows of images for a network; an image is decoded once for all of its windows."""

    def __init__(self, net_size: Size) -> None:
        self._net_size = net_size
        self._decoded = lru_cache(maxsize=_IMAGES_KEPT)(read_image)

    def __call__(self, sample: Sample) -> PreparedImage:
        if not isinstance(sample, _TileSample):
            return PreparedImage(sample, *read_for_network(sample.image_path, self._net_size))
        pixels = crop(self._decoded(sample.image_path), sample.windows[sample.number])
        return PreparedImage(sample, *read_for_network(pixels, self._net_size))


def _whole(sample: Sample) -> Sample:
    return (sample.whole or sample) if isinstance(sample, _TileSample) else sample


def _wholes(failed: Sequence[Skipped]) -> Iterator[Tuple[Sample, str]]:
    return ((_whole(sample), reason) for sample, reason in failed)
