"""What a run started with: its network, its images and labels, and which parameters were pretrained.

A resumed run compares the dataset with it, and goes on with the same classes and images.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple, TypeVar, Union

from ..data.classification.labeled_image import ClassificationDataset
from ..data.dataset import Dataset
from ..data.record import DataRecord, check_classes
from ..errors import DataError, MnssdError, OptionError
from ..files import write_text
from ..options import listed
from ..zoo import ClassifierSpec, DetectorSpec
from .run_folder import RunFolder
from .task import Task

DataT = TypeVar("DataT", bound=Union[Dataset, ClassificationDataset])


@dataclass(frozen=True)
class RunStart:
    """What a run started with.

    Attributes
    ----------
    run : RunFolder
    spec : DetectorSpec or ClassifierSpec
        Structure of the network.
    data : DataRecord, optional
        None for a run of an older version.
    pretrained : tuple of str, optional
        Names of the parameters that were loaded from weights; None for a run of an older version.
    transforms : mapping of str to str
        Names of the transforms given to the training, by argument.
    """

    run: RunFolder
    spec: Union[DetectorSpec, ClassifierSpec]
    data: Optional[DataRecord] = None
    pretrained: Optional[Tuple[str, ...]] = None
    transforms: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, run: RunFolder) -> RunStart:
        """What the run of a task starts with."""
        loaded = {id(parameter) for parameter in task.pretrained}
        names = task.block._collect_params_with_prefix().items()
        pretrained = tuple(name for name, parameter in names if id(parameter) in loaded)
        data = DataRecord.of(_by_role(task.train_set, task.val_set))
        return cls(run, task.spec, data, pretrained, dict(task.transform_names))

    @classmethod
    def read(cls, run: RunFolder) -> RunStart:
        """Read it from a run folder; raises MnssdError if ``config.yaml`` is missing or a file is damaged."""
        spec = run.read_config().spec
        try:
            content = json.loads(run.start.read_text(encoding="utf-8"))
            data, pretrained = DataRecord(**content["data"]), tuple(map(str, content["pretrained"]))
            for images in data.lists.values():
                images.items()
            transforms = {str(k): str(v) for k, v in content.get("transforms", {}).items()}
            return cls(run, spec, data, pretrained, transforms)
        except FileNotFoundError:
            return cls(run, spec)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise MnssdError(
                f"{run.start}: damaged ({error!r}); restore it, or delete it to resume without comparing the "
                "dataset with that of the start"
            ) from error

    def write(self) -> None:
        """Write ``start.json`` into the run folder."""
        assert self.data is not None
        content = {
            "pretrained": self.pretrained, "transforms": self.transforms, "data": asdict(self.data)
        }  # fmt: skip
        write_text(self.run.start, json.dumps(content, indent=0) + "\n")

    def check_transforms(self, names: Mapping[str, str]) -> None:
        """Raise OptionError, which names them, if the transforms of the run are others than those given."""
        for argument in ("transform", "val_transform"):
            old, new = self.transforms.get(argument), names.get(argument)
            if old != new:
                remedy = f"give {argument}={old} (in Python: mnssd.train_detector)" if old else "leave it out"
                raise OptionError(
                    f"{self.run.path}: {argument}: the run has {old or 'none'}, given is {new or 'none'}; "
                    f"{remedy}, or start a new run with another --output"
                )

    def count_training_images(self, dataset: Union[Dataset, ClassificationDataset]) -> int:
        """How many images of a dataset the run was trained on, by their names and labels."""
        trained = self.data.lists.get("train", {}) if self.data else {}
        images = DataRecord.of({"eval": dataset}).lists["eval"] if trained else {}
        return sum(trained.get(image_id) == digest for image_id, digest in images.items())

    def restore(self, train_set: DataT, val_set: Optional[DataT]) -> Tuple[DataT, Optional[DataT], List[str]]:
        """The datasets with the images of the start in their order and the classes of the network, and notes.

        Raises DataError, which names what differs, if that is not possible; see `DataRecord.restore`.
        """
        classes = self.spec.classes
        notes: List[str] = []
        datasets = _by_role(train_set, val_set)
        try:
            if self.data is None:
                declared = [name for name in train_set.classes if name in classes]
                check_classes([*declared, *DataRecord.of(datasets).objects], classes, classes)
                datasets = {role: dataset.with_classes(classes) for role, dataset in datasets.items()}
            elif set(self.data.lists) != set(datasets):
                raise DataError(f"{self.run.start} has other lists: {listed(self.data.lists)}")
            else:
                datasets, notes = self.data.restore(datasets, classes)
        except DataError as error:
            raise DataError(
                f"{self.run.path}: cannot be resumed: {error}. Restore the dataset, or start a new run from "
                f"its weights: --weights {self.run.best} --output NEW"
            ) from error
        return datasets["train"], datasets.get("val"), notes


def _by_role(train_set: Any, val_set: Any) -> Dict[str, Any]:
    return {"train": train_set, **({} if val_set is None else {"val": val_set})}
