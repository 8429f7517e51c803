"""Which images to label next for a trained detector: `metrics.image_choice` on a folder of images."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .. import zoo
from ..data.image_files import image_files_below, is_drawing
from ..data.sample import Sample
from ..errors import DataError, MnssdError
from ..graph.inference import inference_block
from ..inference.predict import Skipped, predict
from ..metrics.image_choice import choose_images, uncertainty
from ..options import from_mapping
from ..runtime import settings
from .check_labels import open_labels
from .labelling_options import SuggestOptions

MOST_LABELED = 500
"""Labeled images, evenly taken from all, that the suggestions have to differ from: more take longer."""


@dataclass(frozen=True)
class Suggestions:
    """Images to label next, the best one first.

    Attributes
    ----------
    images : list of (str, float)
        Path, and the uncertainty of the detector: about the number of detections that may be right or wrong.
    candidates, labeled : int
        Images without labels that were compared, and those of the folder that have labels already.
    skipped : list of str
        Images that could not be read, and why.
    """

    images: List[Tuple[str, float]]
    candidates: int
    labeled: int
    skipped: List[str]

    def as_dict(self) -> Dict[str, Any]:
        """The result as plain values, for JSON."""
        return {
            "images": [{"image": path, "uncertainty": round(value, 4)} for path, value in self.images],
            "candidates": self.candidates, "labeled": self.labeled, "skipped": self.skipped,
        }  # fmt: skip


class _PooledFeatures(mx.gluon.HybridBlock):
    """The last feature map of a detector's backbone, averaged: ``(N, C)``."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.backbone = net.heads.backbone

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.mean(list(self.backbone(x))[-1], axis=(2, 3))


class _DetectorWithFeatures:
    """A detector that keeps the features of the images that it is called with, in their order."""

    def __init__(self, net: Any, ctx: mx.Context) -> None:
        self.size = net.size
        self._net, self._pooled = inference_block(net, net.size, ctx), _PooledFeatures(net)
        self._pooled.hybridize()
        self._features: List[mx.nd.NDArray] = []

    def __call__(self, x: mx.nd.NDArray) -> Any:
        self._features.append(self._pooled(x))
        return self._net(x)

    def take(self) -> np.ndarray:
        """``(N, C)`` features of the images since the last call."""
        arrays, self._features = [array.asnumpy() for array in self._features], []
        result: np.ndarray = np.concatenate(arrays) if arrays else np.empty((0, 1), np.float32)
        return result


def suggest(run: str, folder: str, given: Mapping[str, Any]) -> Suggestions:
    """Choose the images of a folder to label next.

    Parameters
    ----------
    run : str
        Run folder of a detector, or a parameter file in it.
    folder : str
        Images; those of the run's dataset are left out.
    given : mapping
        Options by name, see `SuggestOptions`.

    Raises
    ------
    MnssdError
        If the run cannot be read, or the folder has no image without labels.
    """
    from tqdm import tqdm

    options = from_mapping(SuggestOptions, given)
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder; give the folder of the images")
    ctx = settings.pick_context(options.ctx)
    net = zoo.load_detector(run, ctx)
    labeled = _labeled(run, net.classes, options.data_root)
    known = {os.path.realpath(path) for path in labeled}
    paths = [path for path in image_files_below(folder) if not is_drawing(path)]
    new = [path for path in paths if os.path.realpath(path) not in known]
    if not new:
        raise DataError(f"{folder}: no image without labels ({len(paths)} images have some)")
    detector = _DetectorWithFeatures(net, ctx)
    step = -(-len(labeled) // MOST_LABELED) or 1
    with tqdm(total=len(new) + len(labeled[::step]), unit="image", disable=None, leave=False) as bar:
        _, known_features, _ = _detect(detector, labeled[::step], ctx, bar)
        found, features, skipped = _detect(detector, new, ctx, bar)
    if not found:
        raise DataError(f"{folder}: no image can be read; the first: {skipped[0]}")
    values = np.array([value for _, value in found])
    rows = choose_images(values, features, options.number, known_features)
    return Suggestions([found[row] for row in rows], len(found), len(paths) - len(new), skipped)


def _labeled(run: str, classes: Sequence[str], data_root: Optional[str]) -> List[str]:
    """Images of the run's dataset; none if it is missing, as on another machine."""
    with contextlib.suppress(MnssdError):
        return [sample.image_path for sample in open_labels(run, classes, data_root)]
    return []


def _detect(
    detector: _DetectorWithFeatures, paths: Sequence[str], ctx: mx.Context, bar: Any
) -> Tuple[List[Tuple[str, float]], np.ndarray, List[str]]:
    """Path and uncertainty of each image, their features, and what could not be read."""
    empty = np.empty((0, 4), np.float32), np.empty(0, np.int32), np.empty(0, bool)
    samples = [Sample(path, path, *empty, size=(1, 1)) for path in paths]
    skipped: List[Skipped] = []
    found = []
    for sample, detections in predict(
        detector, samples, workers=settings.image_workers(), ctx=ctx, on_bad_image="skip", skipped=skipped
    ):
        found.append((sample.image_path, uncertainty(detections)))
        bar.update()
    return found, detector.take(), [one.reason for one in skipped]
