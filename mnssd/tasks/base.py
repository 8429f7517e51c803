"""What the detection and the classification task share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, Generic, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union, cast

import mxnet as mx
import numpy as np

from ..data.balance import balance_note, repeat_factors
from ..data.classification.labeled_image import ClassificationDataset
from ..data.dataset import Dataset
from ..data.loader import Arrays, Loader, stack
from ..graph.fast import fast_block
from ..runtime import settings
from ..train.automatic import Automatic, Choice, choose, facts_of
from ..train.batchnorm import recalibrate_batchnorm
from ..train.freezing import all_among, freeze
from ..train.options import Training
from ..train.run_start import RunStart
from ..weights import load_backbone
from ..weights.read import require_weights
from ..zoo import ClassifierSpec, DetectorSpec

OptionsT = TypeVar("OptionsT", bound=Training)
SpecT = TypeVar("SpecT", bound=Union[DetectorSpec, ClassifierSpec])
DataT = TypeVar("DataT", bound=Union[Dataset, ClassificationDataset])

TIMED_IMAGES = 32
"""Images for an estimate of the time of a validation: these, and three times as many."""


class BaseTask(ABC, Generic[OptionsT, SpecT, DataT]):
    """Common part of the two tasks; `train.task.Task` describes the attributes.

    The constructor builds datasets and network, loads weights, and prepares the network: it freezes
    parameters, re-estimates BatchNorm statistics, initializes the last layers and rewrites the graph. `start`
    is what a resumed run started with: its classes, images and network are used, and no weights are read.
    `automatic` is what the options leave to the data.
    """

    name: str
    spec: SpecT
    net: Any
    block: Any
    last_layers: Sequence[Any]
    train_set: DataT
    val_set: Optional[DataT] = None
    """None if nothing is validated."""

    choice: Optional[Choice] = None
    """The options chosen from the data, which `options` contains; None if nothing was left to the data."""

    notes: List[str]
    early_epochs = 0
    transform_names: Mapping[str, str] = {}
    """Names of the transforms given to the training, by argument."""

    def __init__(
        self, options: OptionsT, start: Optional[RunStart] = None, automatic: Optional[Automatic] = None
    ) -> None:
        settings.seed_everything(options.loop.seed)
        self.options, self.ctx = options, settings.pick_context(options.loop.ctx)
        loaded = start.pretrained if start else None
        if options.data.weights and loaded is None:
            require_weights(options.data.weights)
        self.train_set, self.val_set = self._open_datasets()
        if automatic:
            self.choice = choose(facts_of(options, self.train_set), automatic.given, automatic.budget)
            self.options = cast(OptionsT, options.replace(**self.choice.values))
        loop = self.options.loop
        self.notes = []
        if start:
            self.train_set, self.val_set, self.notes = start.restore(self.train_set, self.val_set)
        self.spec = cast(SpecT, start.spec) if start else self._new_spec()
        self._build()
        self.pretrained = self._load_weights() if loaded is None else self._parameters(loaded)
        self._infer_shapes()
        self.is_pretrained = all_among(self.last_layers, self.pretrained)
        if loop.freeze:
            self.notes.append(freeze(self.block, loop.freeze))
        self.workers = loop.workers if loop.workers >= 0 else settings.image_workers()
        self.batches = self._loader(self._load, self._repeats())
        self._set_up()
        if self.pretrained and loop.recalibrate_batchnorm:
            self.notes.append(recalibrate_batchnorm(self.block, self.pretrained, self.batches, self.ctx))
        self._initialize_last_layers()
        self._forward = fast_block(self.block) if loop.fast_graph else self.block
        self._forward.hybridize(static_alloc=True, static_shape=True)

    @abstractmethod
    def _open_datasets(self) -> Tuple[DataT, Optional[DataT]]:
        """The datasets to train and to validate on; the second is None if nothing is validated."""

    @abstractmethod
    def _new_spec(self) -> SpecT:
        """The structure of the network that the options describe."""

    @abstractmethod
    def _build(self) -> None:
        """Build a network with random weights."""

    def _parameters(self, names: Sequence[str]) -> Sequence[Any]:
        """Parameters by name; their values come from a checkpoint."""
        parameters = self.block._collect_params_with_prefix()
        return [parameters[name] for name in names if name in parameters]

    def _load_weights(self) -> Sequence[Any]:
        """Load the weights that the options name, if any; returns the loaded parameters."""
        if not self.options.data.weights:
            return []
        report = load_backbone(self.block, self.options.data.weights, self.spec.classes)
        self.notes += report.lines()
        return report.parameters

    def _infer_shapes(self) -> None:
        """Run the network once, which initializes the parameters whose shapes Gluon infers."""
        width, height = self.spec.size
        self.net(mx.nd.zeros((1, 3, height, width), ctx=self.ctx))

    @abstractmethod
    def _set_up(self) -> None:
        """Create what `_load` and the loss need."""

    @abstractmethod
    def _load(self, sample: Any, rng: np.random.Generator) -> Arrays:
        """Read and augment a training sample."""

    @abstractmethod
    def _initialize_last_layers(self) -> None:
        """Give the last layers better initial weights than random ones, if the options say so."""

    @abstractmethod
    def _network_summary(self) -> str:
        """The network in a few words."""

    @abstractmethod
    def _labels(self) -> List[List[int]]:
        """The labels in each training image."""

    @abstractmethod
    def _evaluate(self, dataset: DataT) -> Any:
        """Evaluate the current weights on a dataset; unreadable images are skipped."""

    def _batchify(self, samples: List[Arrays]) -> Arrays:
        """The arrays of a batch, from those of its samples."""
        return stack(samples)

    def _loader(self, load_sample: Any, repeats: Optional[np.ndarray] = None) -> Loader:
        loop = self.options.loop
        return Loader(
            self.train_set, load_sample, loop.batch_size, loop.seed, self.workers, repeats=repeats,
            batchify=self._batchify,
        )  # fmt: skip

    def _repeats(self) -> Optional[np.ndarray]:
        """Relative frequency of the training images, if the sampling is balanced."""
        if not self.options.loop.balanced:
            return None
        labels, classes = self._labels(), self.spec.classes
        self.notes.append(balance_note(labels, classes))
        return repeat_factors(labels, len(classes))

    def validation_seconds(self) -> float:
        """Estimated time of a validation, from some of its images."""
        if self.val_set is None:
            return 0.0
        images, most = len(self.val_set), 3 * TIMED_IMAGES
        if images <= most:
            return self._time(images)
        few, more = self._time(TIMED_IMAGES), self._time(most)
        return more + (images - most) * max(0.0, more - few) / (most - TIMED_IMAGES)

    def _time(self, count: int) -> float:
        """Seconds for `count` validation images, spread over all of them."""
        val_set: Any = self.val_set
        samples = val_set.samples[:: len(val_set) // count][:count]
        started = time.monotonic()
        self._evaluate(replace(val_set, samples=samples))
        return time.monotonic() - started

    def introduction(self) -> List[str]:
        """Lines printed before training: network, classes, datasets."""
        classes = self.spec.classes
        names = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
        val = f", validating on {self.val_set.name}: {len(self.val_set)}" if self.val_set is not None else ""
        return [
            self._network_summary(),
            f"{len(classes)} classes: {names}",
            f"training on {self.train_set.name}: {len(self.train_set)} images{val}",
            *([self.choice.text] if self.choice else []),
        ]
