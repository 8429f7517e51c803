"""A trained or exported detector, ready to be called with images."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union, overload

import numpy as np

from .. import zoo
from ..data.preprocess import read_for_network, shrink_for_network, to_detections
from ..errors import OptionError
from ..export.engines import Engine, MXNetEngine
from ..export.load import load_export
from ..graph.inference import inference_block
from ..options import unknown_name
from ..runtime import settings
from .results import DetectionResult, select

Image = Union[str, Path, bytes, np.ndarray]

DISPLAY_SCORE = 0.5
"""Detections below are not shown unless asked for; the network's own floor is `nn.ssd.SCORE_FLOOR`."""

BATCH = 8
"""Images of a list that are computed together."""


class _Input(NamedTuple):
    """Pixels at the network's size, ``(h, w, 3)`` uint8 RGB, and the ``(width, height)`` of the image."""

    pixels: np.ndarray
    size: Tuple[int, int]


class Detector:
    """Finds objects in images; from `Detector.load`.

    May be called from several threads: images are prepared in parallel, and take turns in MXNet's network.

    Attributes
    ----------
    classes : tuple of str
        Names; a detection's label is an index into them.
    size : (int, int)
        ``(width, height)`` of the network's input in pixels. Images of any size may be given.
    """

    def __init__(self, engine: Engine, classes: Sequence[str], size: Tuple[int, int]) -> None:
        self.classes, self.size = tuple(classes), size
        self._engine = engine

    @classmethod
    def load(cls, path: Union[str, Path], ctx: str = "auto", engine: str = "auto") -> Detector:
        """Load an export, or the network of a run.

        Parameters
        ----------
        path : str or Path
            The folder of an export, the folder of a run, or a parameter file in one.
        ctx : str
            ``auto``, ``cpu``, ``gpu`` or ``gpu:N``; for MXNet.
        engine : str
            ``mxnet``, ``onnxruntime``, ``mxnet-int8``, ``onnxruntime-int8``, or ``auto``: the first of these
            whose files are there.

        Raises
        ------
        OptionError
            For an engine that is unknown, or has no files there.
        ExportError
            When an export is damaged, incomplete, not for this version, or a classifier's.
        WeightsError
            When a run is, or `path` is neither.
        """
        context = settings.pick_context(ctx)
        exported = load_export(Path(path), "detection", context, engine)
        if exported:
            return cls(exported.engine, exported.sidecar["classes"], exported.size)
        net = zoo.load_detector(str(path), context)
        block = inference_block(net, net.size, context)
        return cls(MXNetEngine(block, context), net.classes, net.size)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self,
        images: Image,
        score: float = ...,
        iou: Optional[float] = ...,
        max_detections: int = ...,
        classes: Optional[Sequence[str]] = ...,
    ) -> DetectionResult: ...

    @overload
    def __call__(
        self,
        images: Sequence[Image],
        score: float = ...,
        iou: Optional[float] = ...,
        max_detections: int = ...,
        classes: Optional[Sequence[str]] = ...,
    ) -> List[DetectionResult]: ...

    def __call__(
        self,
        images: Union[Image, Sequence[Image]],
        score: float = DISPLAY_SCORE,
        iou: Optional[float] = None,
        max_detections: int = -1,
        classes: Optional[Sequence[str]] = None,
    ) -> Union[DetectionResult, List[DetectionResult]]:
        """Detect.

        Parameters
        ----------
        images : str, Path, bytes or numpy.ndarray, or a sequence of them
            Image files, what is in them, or pixels as ``(height, width, 3)`` uint8 RGB.
        score : float
            Detections with a lower score are left out.
        iou : float, optional
            Of two boxes of one class that overlap by more than this, only the better stays. Only lower values
            than the network's own threshold (0.45 unless it was exported with another) change anything.
        max_detections : int
            The best of each image, at most so many; negative for all.
        classes : sequence of str, optional
            Names of those that are wanted; by default all.

        Returns
        -------
        DetectionResult, or a list of them for a sequence
            Boxes in pixels of the image, best score first.

        Raises
        ------
        OptionError
            For a class that the detector does not know.
        ImageError
            For a file that cannot be read, or pixels in another form.
        """
        if isinstance(images, (str, Path, bytes, np.ndarray)):
            return self([images], score, iou, max_detections, classes)[0]
        for name in classes or []:
            if name not in self.classes:
                raise OptionError(unknown_name("class", name, self.classes))
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        found = [one for batch in batches for one in self._detect(batch, score)]
        if iou is None and max_detections < 0 and classes is None:
            return found
        return [select(one, classes, iou, max_detections) for one in found]

    def _detect(self, images: Sequence[Image], score: float) -> List[DetectionResult]:
        inputs = [self._prepare(image) for image in images]
        ids, scores, boxes = self._engine([prepared.pixels for prepared in inputs])
        detections = [
            to_detections(ids[i], scores[i], boxes[i], self.size, prepared.size, score)
            for i, prepared in enumerate(inputs)
        ]
        return [
            DetectionResult(one.boxes, one.labels, one.scores, self.classes, prepared.size)
            for one, prepared in zip(detections, inputs)
        ]

    def _prepare(self, image: Image) -> _Input:
        if not isinstance(image, np.ndarray):
            return _Input(*read_for_network(image, self.size))
        return _Input(shrink_for_network(image, self.size), (image.shape[1], image.shape[0]))
