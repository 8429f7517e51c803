"""What detection and classification share: building a task in three steps, and its state for the training
loop.

The steps are build (datasets and network), load (weights) and prepare (what training needs). Each takes the
result of the one before, so their types fix the order: ``DetectionTask(load(build(options)))``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, List, Optional, Sequence, TypeVar, Union

import numpy as np

from ..data.classification.labeled_image import ClassificationDataset
from ..data.dataset import Dataset
from ..data.loader import Arrays, Loader
from ..graph.fast import fast_block
from ..runtime import settings
from ..train.batchnorm import recalibrate_batchnorm
from ..train.freezing import all_among, freeze
from ..train.options import Training
from ..weights import load_backbone
from ..zoo import ClassifierSpec, DetectorSpec

OptionsT = TypeVar("OptionsT", bound=Training)
SpecT = TypeVar("SpecT", bound=Union[DetectorSpec, ClassifierSpec])
DataT = TypeVar("DataT", bound=Union[Dataset, ClassificationDataset])


@dataclass
class BuiltTask(Generic[OptionsT, SpecT, DataT]):
    """Datasets and a network with random weights.

    Attributes
    ----------
    options : DetectionTraining or ClassificationTraining
    name : str
        Default name of a run folder.
    ctx : mxnet.Context
    spec : DetectorSpec or ClassifierSpec
        The structure of `net`.
    net, block : mxnet.gluon.HybridBlock
        The network, and the part of it that is trained and saved.
    last_layers : sequence of mxnet.gluon.Block
        The prediction layers of `block`.
    train_set : Dataset or ClassificationDataset
    val_set : Dataset, ClassificationDataset or None
        None if nothing is validated.
    notes : list of str
        Messages for the user.
    """

    options: OptionsT
    name: str
    ctx: Any
    spec: SpecT
    net: Any
    block: Any
    last_layers: Sequence[Any]
    train_set: DataT
    val_set: Optional[DataT]
    notes: List[str]


@dataclass
class LoadedTask(Generic[OptionsT, SpecT, DataT]):
    """A built task with its initial weights; `pretrained` are the parameters that were loaded."""

    built: BuiltTask[OptionsT, SpecT, DataT]
    pretrained: List[Any]


def load(built: BuiltTask[OptionsT, SpecT, DataT]) -> LoadedTask[OptionsT, SpecT, DataT]:
    """Load the weights that the options name, if any.

    Raises
    ------
    WeightsError
        If they do not fit the network.
    """
    if not built.options.data.weights:
        return LoadedTask(built, [])
    report = load_backbone(built.block, built.options.data.weights)
    built.notes += report.lines()
    return LoadedTask(built, report.parameters)


class BaseTask(ABC, Generic[OptionsT, SpecT, DataT]):
    """Common part of the two tasks; see `train.task.Task` and `BuiltTask` for the attributes.

    Creating it is the last of the three steps: it freezes parameters, re-estimates BatchNorm statistics,
    initializes the last layers and rewrites the graph.
    """

    def __init__(self, loaded: LoadedTask[OptionsT, SpecT, DataT]) -> None:
        built, loop = loaded.built, loaded.built.options.loop
        self.options, self.name, self.ctx, self.spec = built.options, built.name, built.ctx, built.spec
        self.net, self.block, self.last_layers = built.net, built.block, built.last_layers
        self.train_set, self.val_set, self.notes = built.train_set, built.val_set, built.notes
        self.pretrained: Sequence[Any] = loaded.pretrained
        self.is_pretrained = all_among(self.last_layers, self.pretrained)
        if loop.freeze:
            self.notes.append(freeze(self.block, loop.freeze))
        self.workers = loop.workers if loop.workers >= 0 else settings.image_workers()
        self.batches = self._loader(self._load)
        self._set_up()
        if self.pretrained and loop.recalibrate_batchnorm:
            self.notes.append(recalibrate_batchnorm(self.block, self.pretrained, self.batches, self.ctx))
        self._initialize_last_layers()
        self._forward = fast_block(self.block) if loop.fast_graph else self.block
        self._forward.hybridize(static_alloc=True, static_shape=True)

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

    def _loader(self, load_sample: Any) -> Loader:
        loop = self.options.loop
        return Loader(self.train_set, load_sample, loop.batch_size, loop.seed, self.workers)

    def introduction(self) -> List[str]:
        """Lines printed before training: network, classes, datasets."""
        classes = self.spec.classes
        names = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
        val = f", validating on {self.val_set.name}: {len(self.val_set)}" if self.val_set is not None else ""
        return [
            self._network_summary(),
            f"{len(classes)} classes: {names}",
            f"training on {self.train_set.name}: {len(self.train_set)} images{val}",
        ]
