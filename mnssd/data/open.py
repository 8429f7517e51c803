"""Opening datasets: the functions through which training, evaluation and exports read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple, Union

from ..errors import DataError
from .formats import AUTO, Format, formats

if TYPE_CHECKING:
    from .dataset import Dataset


def open_dataset(
    name: str,
    root: Optional[Union[str, Path]] = None,
    splits: Optional[str] = None,
    classes: Optional[Sequence[str]] = None,
    role: str = "train",
    *,
    download: bool = False,
    allow_absent: bool = False,
    progress: bool = False,
) -> Dataset:
    """Open a dataset.

    Parameters
    ----------
    name : str
        A format of `mnssd.data.formats.formats`, or ``'auto'`` to recognize it. ``'shapes'``, the built-in
        synthetic dataset, is rendered if it is missing.
    root : str or Path, optional
        Folder of the dataset. Defaults to `default_root`.
    splits : str, optional
        Lists of images joined by ``+``, such as ``2007_trainval+2012_trainval``. ``LIST:train`` and
        ``LIST:val`` are a list without its held-out tenth, and that tenth. Defaults to `default_splits`.
    classes : sequence of str, optional
        Classes to read, in the order of the labels; objects of other classes are ignored with a note.
        Defaults to all classes of the dataset (for the VOC devkit, its 20).
    role : str
        ``'train'`` or ``'val'``; selects the default `splits`.
    download : bool
        Download the official archives if they are missing.
    allow_absent : bool
        Accept classes that no annotation has, with a note. Otherwise they are taken for typing errors.
    progress : bool
        Show the progress of a download on stderr.

    Raises
    ------
    OptionError
        If the format is unknown or has no download.
    DataError
        If the folder, a list or a class is missing, or the dataset cannot be read.
    """
    root = Path(root or default_root(name))
    dataset_format, evidence = _find_format(name, root)
    splits = splits or dataset_format.default_splits(root, role)
    if download:
        dataset_format.download(root, splits, progress)
    dataset = dataset_format.read(root, splits, classes, allow_absent=allow_absent)
    if evidence:
        note = f"{root}: recognized as {dataset_format.name}: {evidence}; {role} list: {splits}"
        dataset.notes.insert(0, note)
    return dataset


def require_objects(dataset: Dataset) -> None:
    """Raise DataError, with what was found instead, if no image has an object to learn."""
    if not any(len(sample.labels) for sample in dataset):
        notes = "; ".join(dataset.notes) or "no annotation has a box"
        raise DataError(f"{dataset.name}: nothing to learn, {len(dataset)} images without objects. {notes}")


def default_root(name: str) -> str:
    """Folder of a dataset if the user names none, relative to the working directory."""
    return "data" if name == AUTO else formats[name].root or f"data/{name}"


def find_format(name: str, root: Union[str, Path]) -> Format:
    """The format `name`, or for ``'auto'`` the format recognized in `root`."""
    return _find_format(name, Path(root))[0]


def _find_format(name: str, root: Path) -> Tuple[Format, str]:
    return recognize(root) if name == AUTO else (formats[name], "")


def recognize(root: Path) -> Tuple[Format, str]:
    """Format of the dataset in a folder, and what shows it; DataError names the known layouts."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; set --data-root to the folder of your dataset")
    by_priority = sorted(formats, key=lambda dataset_format: dataset_format.priority)
    for weak in (False, True):
        for dataset_format in by_priority:
            evidence = dataset_format.weak_evidence(root) if weak else dataset_format.evidence(root)
            if evidence:
                return dataset_format, evidence
    layouts = "; ".join(f"{entry.name}: {entry.layout}" for entry in by_priority if entry.layout)
    raise DataError(f"{root}: no dataset format recognized. Expected one of: {layouts}")


def default_splits(name: str, role: str, root: Optional[Union[str, Path]] = None) -> str:
    """Lists used for ``'train'`` or ``'val'`` if the user names none."""
    place = Path(root or default_root(name))
    return find_format(name, place).default_splits(place, role)


def lists_to_read(dataset_format: Format, root: Path) -> List[str]:
    """All lists of a dataset, without ``trainval`` beside ``train`` and ``val``: images occur once."""
    names = list(dataset_format.lists(root))
    if not names:
        raise DataError(
            f"{root}: not a dataset in the {dataset_format.name} format; expected {dataset_format.layout}"
        )
    return [name for name in names if not _is_union(name, names)]


def _is_union(name: str, names: List[str]) -> bool:
    """Whether the list is ``trainval`` beside ``train`` and ``val``, or ``2012_trainval`` likewise."""
    prefix = name[: -len("trainval")]
    return name == f"{prefix}trainval" and {f"{prefix}train", f"{prefix}val"} <= set(names)
