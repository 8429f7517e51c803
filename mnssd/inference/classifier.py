"""`Classifier`: a trained or exported classifier that is called with images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, NamedTuple, Sequence, Union, overload

import mxnet as mx
import numpy as np

from .. import zoo
from ..data.preprocess import read_for_classifier
from ..export.engines import Engine, MXNetEngine
from ..export.load import load_export
from ..graph.inference import inference_block
from ..options import Size
from ..runtime import settings

Image = Union[str, Path, bytes, np.ndarray]

BATCH = 32
"""Images per batch, if a sequence is given."""


class Prediction(NamedTuple):
    """A class that an image may show: its index, its name and its probability."""

    label: int
    name: str
    probability: float


class Classifier:
    """A classifier, made by `Classifier.load`.

    Several threads may call it: they prepare images in parallel and take turns in the network.

    Attributes
    ----------
    classes : tuple of str
    size : (int, int)
        ``(width, height)`` of the network's input in pixels. Images of any size may be given.
    """

    def __init__(self, engine: Engine, classes: Sequence[str], size: Size, central_part: float) -> None:
        self.classes, self.size, self._part = tuple(classes), size, central_part
        self._engine = engine

    @classmethod
    def load(cls, path: Union[str, Path], ctx: str = "auto", engine: str = "auto") -> Classifier:
        """Load an export or the network of a run.

        Parameters
        ----------
        path : str or Path
            Export folder, run folder, or a parameter file in a run folder.
        ctx : str
            Device for MXNet: ``auto``, ``cpu``, ``gpu`` or ``gpu:N``.
        engine : str
            Engine for an export, such as ``onnxruntime``; ``auto`` chooses the first one with files.

        Raises
        ------
        OptionError
            If the engine is unknown, or the export has no files for it.
        ExportError
            If the export is damaged, incomplete, of another version, or a detector.
        WeightsError
            If the run is damaged, or `path` is neither an export nor a run.
        """
        context = settings.pick_context(ctx)
        export = load_export(Path(path), "classification", context, engine)
        if export:
            part = export.sidecar["input"]["central_part"]
            return cls(export.engine, export.sidecar["classes"], export.size, part)
        net, spec = zoo.load_classifier(str(path), context)
        block = inference_block(_Softmax(net), spec.size, context)
        return cls(MXNetEngine(block, context), spec.classes, spec.size, spec.val_crop)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self, images: Image, top: int = ...
    ) -> List[Prediction]: ...

    @overload
    def __call__(self, images: Sequence[Image], top: int = ...) -> List[List[Prediction]]: ...

    def __call__(
        self, images: Union[Image, Sequence[Image]], top: int = 5
    ) -> Union[List[Prediction], List[List[Prediction]]]:
        """Classify one image or several.

        Parameters
        ----------
        images : str, Path, bytes or numpy.ndarray, or a sequence of them
            Image files, their content, or pixels as ``(height, width, 3)`` uint8 RGB.
        top : int
            Most predictions per image.

        Returns
        -------
        list of Prediction, or a list of such lists for a sequence
            The most probable first.

        Raises
        ------
        ImageError
            If a file cannot be read, or an array is not an image.

        Examples
        --------
        >>> classifier = mnssd.Classifier.load("runs/flowers")      # doctest: +SKIP
        >>> [(p.name, p.probability) for p in classifier("photo.jpg", top=2)]   # doctest: +SKIP
        [('daisy', 0.91), ('tulip', 0.06)]
        """
        if isinstance(images, (str, Path, bytes, np.ndarray)):
            return self._classify([images], top)[0]
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return [predictions for batch in batches for predictions in self._classify(batch, top)]

    def _classify(self, images: Sequence[Image], top: int) -> List[List[Prediction]]:
        pixels = [read_for_classifier(image, self.size, self._part) for image in images]
        (probabilities,) = self._engine(pixels)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, : max(0, top)]
        return [
            [Prediction(int(label), self.classes[label], float(row[label])) for label in labels]
            for row, labels in zip(probabilities, best)
        ]


class _Softmax(mx.gluon.HybridBlock):
    """A classifier that returns probabilities instead of logits."""

    def __init__(self, net: Any) -> None:
        super().__init__(prefix="")
        self.net = net

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.softmax(self.net(x))
