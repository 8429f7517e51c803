"""`Detector`: a trained or exported detector that is called with images."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Union, overload

import numpy as np

from .. import zoo
from ..data.prefetch import prefetch
from ..data.preprocess import Image, NetworkImage, read_for_network, to_detections
from ..data.tiles import AUTO, NONE, Window, check_tiles, choose_grid, make_windows
from ..errors import OptionError
from ..export.engines import Engine, MXNetEngine
from ..export.load import load_export
from ..nn.spec import DetectorSpec
from ..options import Size, unknown_name
from ..runtime import settings
from ..weights.detectors import detector_path
from . import DISPLAY_SCORE
from .dense import DenseDetector, dense_export, dense_network
from .images import ImageLike, image_source, in_batches, is_single
from .results import DetectionResult, select
from .tiled import merge_windows, read_windows, smallest_anchor

BATCH = 8
"""Images per batch, if a sequence is given."""


class Detector:
    """A detector, made by `Detector.load`.

    Several threads may call it: they prepare images in parallel and take turns in the network.

    Attributes
    ----------
    classes : tuple of str
        Names; the label of a detection is an index into them.
    size : (int, int)
        ``(width, height)`` of the network's input in pixels. Images of any size may be given.
    """

    def __init__(
        self,
        engine: Engine,
        classes: Sequence[str],
        size: Size,
        dense: Optional[DenseDetector] = None,
        anchors: Optional[Callable[[], np.ndarray]] = None,
    ) -> None:
        """`dense` finds what `engine` does not return; without it there are at most 200 detections.

        `anchors` returns the anchors, which ``tiles="auto"`` needs.
        """
        self.classes, self.size, self._engine, self._dense = tuple(classes), size, engine, dense
        self._anchors = anchors
        self._smallest_anchor: Optional[float] = None

    @classmethod
    def load(cls, path: Union[str, Path], ctx: str = "auto", engine: str = "auto") -> Detector:
        """Load an export, the network of a run, or a published detector.

        Parameters
        ----------
        path : str or Path
            Export folder, run folder, or a parameter file in a run folder; or the name of a published
            detector, such as ``coco``, which is downloaded and imported once.
        ctx : str
            Device for MXNet: ``auto``, ``cpu``, ``gpu`` or ``gpu:N``.
        engine : str
            Engine for an export, such as ``onnxruntime``; ``auto`` is the fastest one by ``mnssd bench
            export``, else the first with files.

        Raises
        ------
        OptionError
            If the engine is unknown, or the export has no files for it.
        ExportError
            If the export is damaged, incomplete, of another version, or for another task.
        WeightsError
            If the run is damaged, or `path` is neither an export nor a run.
        DownloadError
            If a published detector cannot be downloaded.
        """
        path = detector_path(str(path))
        export = load_export(Path(path), "detection", ctx, engine)
        if export:
            dense = dense_export(Path(path), export.sidecar, ctx, export.engine_name)
            spec = DetectorSpec.from_dict(export.sidecar["detector"])
            anchors = partial(_anchors_of, spec)
            return cls(export.engine, export.sidecar["classes"], export.size, dense, anchors)
        context = settings.pick_context(ctx)
        net = zoo.load_detector(str(path), context)
        from ..graph.inference import inference_block

        block = MXNetEngine(inference_block(net, net.size, context), context)
        return cls(block, net.classes, net.size, dense_network(net, context), lambda: net.anchors)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is iterable, too
        self, images: ImageLike, score: float = ..., iou: Optional[float] = ..., max_detections: int = ...,
        classes: Optional[Sequence[str]] = ..., tiles: str = ..., across_classes: bool = ...,
    ) -> DetectionResult: ...  # fmt: skip

    @overload
    def __call__(
        self, images: Iterable[ImageLike], score: float = ..., iou: Optional[float] = ...,
        max_detections: int = ..., classes: Optional[Sequence[str]] = ..., tiles: str = ...,
        across_classes: bool = ...,
    ) -> List[DetectionResult]: ...  # fmt: skip

    def __call__(
        self, images: Union[ImageLike, Iterable[ImageLike]], score: float = DISPLAY_SCORE,
        iou: Optional[float] = None, max_detections: int = -1, classes: Optional[Sequence[str]] = None,
        tiles: str = NONE, across_classes: bool = False,
    ) -> Union[DetectionResult, List[DetectionResult]]:  # fmt: skip
        """Detect objects in one image or several.

        Parameters
        ----------
        images : ImageLike, or several of them in a list, generator or the like
            A path, the content of an image file (bytes, or a file opened in binary mode), a PIL image, or
            pixels as ``(height, width, 3)`` uint8 RGB, not OpenCV's BGR. See `inference.images.ImageLike`.
        score : float
            Lowest score of a detection.
        iou : float, optional
            IoU threshold of a further non-maximum suppression within each class. Only values below the
            network's own threshold (0.45 by default) have an effect, unless `across_classes`.
        max_detections : int
            Most detections per image; negative for all. For more than the network returns (200 from its
            1,000 best boxes), all boxes of the image are decoded, which takes longer.
        classes : sequence of str, optional
            Names of the classes to detect. Defaults to all.
        tiles : str
            ``'2x3'``: also detect small objects in two rows and three columns of overlapping windows, which
            takes longer; ``'auto'``: in as many as 16 pixels need, see `data.tiles.choose_grid`.
        across_classes : bool
            Drop boxes that overlap a better one of any class, by more than `iou` or 0.45. An object then has
            one box even if two classes are likely, but of two objects that overlap, one may be lost.

        Returns
        -------
        DetectionResult, or a list of them for several images
            Boxes in pixels of the image, best score first.

        Raises
        ------
        OptionError
            If the detector does not have a class of `classes`, or `tiles` is invalid.
        ImageError
            If a file cannot be read, or an argument is not an image.

        Examples
        --------
        >>> detector = mnssd.Detector.load("exports/shapes")        # doctest: +SKIP
        >>> for detection in detector("photo.jpg", score=0.4):      # doctest: +SKIP
        ...     print(detection.name, detection.score, detection.box)
        star 0.98 (103.2, 41.0, 161.7, 99.4)
        >>> result = detector("crowd.jpg", tiles="auto")            # doctest: +SKIP
        """
        tiles = check_tiles(tiles)
        self._check_classes(classes or [])
        wanted = _wanted(iou, max_detections, classes, across_classes)
        found = self._detect_batches(images, score, wanted, tiles)
        results = [select(result, classes, iou, max_detections, across_classes) for result in found]
        return results[0] if is_single(images) else results

    def _detect_batches(
        self, images: Any, score: float, wanted: int, tiles: str
    ) -> Iterator[DetectionResult]:
        """The next batch is read while the network runs."""
        is_one = is_single(images)
        batches = in_batches([images] if is_one else images, BATCH)
        if tiles != NONE:
            for batch in batches:
                yield from self._detect_tiled(batch, score, wanted, tiles)
            return
        with closing(prefetch(self._read_all, batches, workers=0 if is_one else 1, ahead=2)) as read:
            for inputs in read:
                yield from self._detect(inputs, score, wanted)

    def read(self, image: ImageLike) -> NetworkImage:
        """Read an image for `detect`; threads may read while another one detects.

        Raises ImageError as a call does.
        """
        return self._read_all([image_source(image)])[0]

    def detect(
        self, images: Sequence[NetworkImage], score: float = DISPLAY_SCORE, iou: Optional[float] = None,
        max_detections: int = -1, classes: Optional[Sequence[str]] = None, across_classes: bool = False,
    ) -> List[DetectionResult]:  # fmt: skip
        """Detect objects in images from `read`, in one batch; the other arguments are those of a call.

        Examples
        --------
        >>> images = [detector.read(path) for path in paths]        # doctest: +SKIP
        >>> results = detector.detect(images, score=0.4)            # doctest: +SKIP
        """
        self._check_classes(classes or [])
        wanted = _wanted(iou, max_detections, classes, across_classes)
        found = self._detect(images, score, wanted) if images else []
        return [select(result, classes, iou, max_detections, across_classes) for result in found]

    def _read_all(self, images: Sequence[Image]) -> List[NetworkImage]:
        return [read_for_network(image, self.size) for image in images]

    def _check_classes(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.classes:
                raise OptionError(unknown_name("class", name, self.classes))

    def _detect(self, inputs: Sequence[NetworkImage], score: float, wanted: int) -> List[DetectionResult]:
        outputs = self._engine([pixels for pixels, _ in inputs])
        results = []
        for (pixels, size), ids, scores, boxes in zip(inputs, *outputs):
            if self._dense and self._dense.may_find_more(scores, score, wanted):
                ids, scores, boxes = self._dense(pixels, (ids, scores, boxes), score)
            detections = to_detections(ids, scores, boxes, self.size, size, score)
            results.append(DetectionResult(**vars(detections), classes=self.classes, size=size))
        return results

    def _detect_tiled(
        self, images: Sequence[Image], score: float, wanted: int, tiles: str
    ) -> List[DetectionResult]:
        results = []
        for image in images:
            windows, size, pixels_of = read_windows(image, partial(self._windows, tiles))
            if len(windows) == 1:
                results += self._detect(self._read_all([image]), score, wanted)
                continue
            merged = merge_windows(
                lambda pixels: self._detect(self._read_all(pixels), score, -1),
                windows, size, pixels_of, BATCH,
            )  # fmt: skip
            results.append(DetectionResult(**vars(merged), classes=self.classes, size=size))
        return results

    def _windows(self, tiles: str, size: Size) -> List[Window]:
        if tiles == AUTO and self._anchors is not None and self._smallest_anchor is None:
            self._smallest_anchor = smallest_anchor(self._anchors())
        return make_windows(size, choose_grid(tiles, size, self.size, self._smallest_anchor))


def _wanted(
    iou: Optional[float], max_detections: int, classes: Optional[Sequence[str]], across_classes: bool
) -> int:
    """Detections that are enough for `DenseDetector`; -1 if some are dropped afterwards."""
    return -1 if iou is not None or classes is not None or across_classes else max_detections


def _anchors_of(spec: DetectorSpec) -> np.ndarray:
    anchors: np.ndarray = zoo.build_detector(spec).anchors
    return anchors
