"""A trained or exported classifier, ready to be called with images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, NamedTuple, Sequence, Tuple, Union, overload

import mxnet as mx
import numpy as np

from .. import zoo
from ..data.classification.transforms import val_transform
from ..data.preprocess import read_reduced, reduce_pixels
from ..export.engines import Engine, MXNetEngine
from ..export.load import load_export
from ..graph.inference import inference_block
from ..runtime import settings

Image = Union[str, Path, bytes, np.ndarray]
Size = Tuple[int, int]

BATCH = 32
"""Images of a list that are computed together."""


class Prediction(NamedTuple):
    """What an image may show: index into the classes, its name, and how probable it is, 0 to 1."""

    label: int
    name: str
    probability: float


class Classifier:
    """Says what images show; from `Classifier.load`.

    May be called from several threads: images are prepared in parallel, and take turns in MXNet's network.

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
            When an export is damaged, incomplete, not for this version, or a detector's.
        WeightsError
            When a run is, or `path` is neither.
        """
        context = settings.pick_context(ctx)
        exported = load_export(Path(path), "classification", context, engine)
        if exported:
            part = exported.sidecar["input"]["central_part"]
            return cls(exported.engine, exported.sidecar["classes"], exported.size, part)
        net, spec = zoo.load_classifier(str(path), context)
        block = inference_block(with_softmax(net), spec.size, context)
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
        """Classify.

        Parameters
        ----------
        images : str, Path, bytes or numpy.ndarray, or a sequence of them
            Image files, what is in them, or pixels as ``(height, width, 3)`` uint8 RGB.
        top : int
            Guesses given for each, at most.

        Returns
        -------
        list of Prediction, or a list of such lists for a sequence
            The most probable first.

        Raises
        ------
        ImageError
            For a file that cannot be read, or pixels in another form.
        """
        if isinstance(images, (str, Path, bytes, np.ndarray)):
            return self._classify([images], top)[0]
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return [guesses for batch in batches for guesses in self._classify(batch, top)]

    def _classify(self, images: Sequence[Image], top: int) -> List[List[Prediction]]:
        (probabilities,) = self._engine([prepare(image, self.size, self._part) for image in images])
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, : max(0, top)]
        return [
            [Prediction(int(label), self.classes[label], float(row[label])) for label in labels]
            for row, labels in zip(probabilities, best)
        ]


def prepare(image: Image, size: Size, central_part: float) -> np.ndarray:
    """An image as a classifier is shown it: pixels at the size of its input, uint8 RGB."""
    if isinstance(image, np.ndarray):
        pixels = reduce_pixels(image, size)
    else:
        pixels, _ = read_reduced(image, size)
    return val_transform(pixels, size, central_part)


class _Softmax(mx.gluon.HybridBlock):
    def __init__(self, net: Any) -> None:
        super().__init__(prefix="")
        self.net = net

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.softmax(self.net(x))


def with_softmax(net: Any) -> Any:
    """A block that answers probabilities where `net` answers logits; over the same parameters."""
    return _Softmax(net)
