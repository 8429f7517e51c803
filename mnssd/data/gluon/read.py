"""Reading datasets of Gluon and GluonCV: class names, chosen items, and the annotations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, List, Optional, Sequence, Tuple

from ...errors import DataError
from ..annotations.annotation import AnnotationList
from ..dataset import Dataset
from .items import read_items


def is_dataset(value: Any) -> bool:
    """Whether an object can be a dataset: it has a length and items, and is neither text nor a class."""
    is_sequence = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return is_sequence and not isinstance(value, (str, bytes, dict, type))


def title(dataset: Any) -> str:
    """Name of a dataset for the user: that of its class."""
    return type(_origin(dataset)[0]).__name__.lstrip("_")


def from_gluon(
    dataset: Any, classes: Optional[Sequence[str]] = None, name: str = "", *, allow_absent: bool = True
) -> Dataset:
    """A dataset of Gluon or GluonCV, or any other object like it, as the dataset that trains and evaluates.

    Parameters
    ----------
    dataset : object
        With ``len()`` and items ``(image, label)``: an image as `pixels.rgb_pixels` takes it, and a label as
        `annotations.label_rows` describes it. Images of GluonCV's own datasets are read from their files.
        What `as_gluon` has made becomes what it was.
    classes : sequence of str, optional
        Names of the class indices if the dataset has no attribute ``classes``; else the classes to read, in
        the order of the labels.
    name : str
        Defaults to the name of the object's class.
    allow_absent : bool
        Accept classes that are not among the dataset's.

    Raises
    ------
    DataError
        If the classes have no names, the items differ each time they are read, more than half of them cannot
        be used, or there is none.
    """
    return GluonReader(dataset, name or title(dataset)).read(classes, allow_absent)


class GluonReader:
    """Reads a dataset as `from_gluon` does; its items are read only once for the same names of classes."""

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset, self._name = dataset, name
        self._names: Tuple[str, ...] = ()
        self._annotations: Optional[AnnotationList] = None

    def read(self, classes: Optional[Sequence[str]] = None, allow_absent: bool = True) -> Dataset:
        """See `from_gluon`."""
        origin, indices = _origin(self._dataset)
        if isinstance(origin, Dataset):
            samples = [origin.samples[index] for index in indices]
            own = replace(origin, name=self._name, samples=samples, notes=[*origin.notes])
            return own.with_classes(tuple(classes)) if classes else own
        names = class_names(self._dataset) or tuple(classes or ())
        if not names:
            raise DataError(
                f"{self._name}: {type(origin).__name__} has no attribute `classes` with the names of the "
                "classes; give them in the order of the class indices: classes=[...] (--classes NAME,...)"
            )
        if self._annotations is None or self._names != names:
            self._annotations, self._names = read_annotations(self._dataset, self._name, names), names
        annotations = AnnotationList()
        annotations.annotations = [*self._annotations.annotations]
        annotations.findings.items = [*self._annotations.findings.items]
        annotations.declared = names
        return annotations.to_dataset(self._name, self._name, classes or names, allow_absent)


def read_annotations(dataset: Any, name: str, classes: Sequence[str]) -> AnnotationList:
    """Annotations of a dataset whose class indices have the names `classes`; see `from_gluon`.

    `name` is the name of the dataset in findings, which have the index of an item.
    """
    origin, indices = _origin(dataset)
    if _is_gluoncv(origin):
        from gluoncv import data as gcv

        from .files import read_files

        if isinstance(origin, gcv.MixupDetection):
            raise DataError(
                f"{name}: MixupDetection mixes images at random; give the dataset that it mixes (for mosaics "
                "of images there is the option mosaic)"
            )
        annotations = read_files(origin, indices, name, classes)
        if annotations is not None:
            return annotations
    return read_items(dataset, name, classes)


def class_names(dataset: Any) -> Optional[Tuple[str, ...]]:
    """Names of the class indices of a dataset, from its attribute ``classes``; None if it does not tell.

    Raises DataError if the attribute is no sequence of names.
    """
    origin, _ = _origin(dataset)
    if _is_gluoncv(origin):
        from gluoncv.data import VOCDetection

        from .files import voc_class_names

        if isinstance(origin, VOCDetection):
            names = voc_class_names(origin)
            return None if names is None else tuple(names)
    try:
        names = getattr(origin, "classes", None)
    except NotImplementedError:  # gluoncv.data.base.VisionDataset
        return None
    if names is None:
        return None
    if isinstance(names, (str, bytes)) or not hasattr(names, "__iter__"):
        raise DataError(f"{type(origin).__name__}.classes is {str(names)[:60]!r}; expected a list of names")
    return tuple(str(name) for name in names)


def _is_gluoncv(dataset: Any) -> bool:
    """Whether the class of a dataset is one of GluonCV, or derived from one."""
    return any(kind.__module__.startswith("gluoncv.") for kind in type(dataset).__mro__)


def _origin(dataset: Any) -> Tuple[Any, List[int]]:
    """The dataset behind `take`, `shard`, `sample` and `filter` of Gluon, and the indices of its items.

    Behind what `as_gluon` has made this is the `Dataset`.
    """
    from mxnet.gluon.data import dataset as gluon

    from .views import DetectionView

    indices = list(range(len(dataset)))
    while isinstance(dataset, gluon._SampledDataset):
        indices = [dataset._indices[index] for index in indices]
        dataset = dataset._dataset
    return (dataset.dataset if isinstance(dataset, DetectionView) else dataset), indices
