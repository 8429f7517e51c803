"""`Classifier`: a trained or exported classifier that is called with images."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, List, NamedTuple, Sequence, Union, overload

import numpy as np

from .. import zoo
from ..data.preprocess import Image, read_for_classifier
from ..export.engines import Engine, MXNetEngine
from ..export.load import load_export
from ..options import Size
from ..runtime import settings
from .images import ImageLike, in_batches, is_single

BATCH = 32
"""Images per batch, if a sequence is given."""


class Prediction(NamedTuple):
    """A class that an image may show: its index, its name and its probability."""

    label: int
    name: str
    probability: float


class Classifier:
    """A classifier, made by `Classifier.load`. Attributes and threads as for `Detector`."""

    def __init__(self, engine: Engine, classes: Sequence[str], size: Size, central_part: float) -> None:
        self.classes, self.size, self._engine = tuple(classes), size, engine
        self._central_part = central_part

    @classmethod
    def load(cls, path: Union[str, Path], ctx: str = "auto", engine: str = "auto") -> Classifier:
        """Load an export or the network of a run; as `Detector.load`."""
        export = load_export(Path(path), "classification", ctx, engine)
        if export:
            central_part = export.sidecar["input"]["central_part"]
            return cls(export.engine, export.sidecar["classes"], export.size, central_part)
        import mxnet as mx

        from ..graph.inference import inference_block

        context = settings.pick_context(ctx)
        net, spec = zoo.load_classifier(str(path), context)
        block = mx.gluon.nn.HybridSequential(prefix="")
        block.add(net, mx.gluon.nn.HybridLambda("softmax"))
        block = inference_block(block, spec.size, context)
        return cls(MXNetEngine(block, context), spec.classes, spec.size, spec.val_crop)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is iterable, too
        self, images: ImageLike, top: int = ...
    ) -> List[Prediction]: ...

    @overload
    def __call__(self, images: Iterable[ImageLike], top: int = ...) -> List[List[Prediction]]: ...

    def __call__(
        self, images: Union[ImageLike, Iterable[ImageLike]], top: int = 5
    ) -> Union[List[Prediction], List[List[Prediction]]]:
        """Classify one image or several.

        Parameters
        ----------
        images : ImageLike, or several of them in a list, generator or the like
            As for `Detector`.
        top : int
            Most predictions per image.

        Returns
        -------
        list of Prediction, or a list of such lists for a sequence
            The most probable first.

        Examples
        --------
        >>> classifier = mnssd.Classifier.load("runs/flowers")      # doctest: +SKIP
        >>> [(p.name, p.probability) for p in classifier("photo.jpg", top=2)]   # doctest: +SKIP
        [('daisy', 0.91), ('tulip', 0.06)]
        """
        batches = in_batches([images] if is_single(images) else images, BATCH)
        predictions = [prediction for batch in batches for prediction in self._classify(batch, top)]
        return predictions[0] if is_single(images) else predictions

    def _classify(self, images: Sequence[Image], top: int) -> List[List[Prediction]]:
        pixels = [read_for_classifier(image, self.size, self._central_part) for image in images]
        (probabilities,) = self._engine(pixels)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, : max(0, top)]
        return [
            [Prediction(int(label), self.classes[label], float(row[label])) for label in labels]
            for row, labels in zip(probabilities, best)
        ]
