"""Opening datasets: the functions through which training, evaluation and exports read them."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from ..errors import DataError
from ..options import listed
from .findings import Finding, summary
from .formats import AUTO, Format, formats
from .image_files import IMAGE_ENDINGS
from .unfixed import read_unfixed

if TYPE_CHECKING:
    from .dataset import Dataset
    from .sample import Sample

_NOTHING = "no files"
_MAX_KINDS = 5  # endings, or folders in a folder, that are shown
_MAX_FOLDERS = 20  # in which datasets are looked for


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
        ``'train'``, ``'val'`` or ``'eval'``; selects the default `splits`.
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
    splits = splits or _default_splits(dataset_format, root, role)
    if download:
        dataset_format.download(root, splits, progress)
    dataset = dataset_format.read(root, splits, classes, allow_absent=allow_absent)
    dataset.notes.extend(summary(read_unfixed(root)))
    if evidence:
        note = f"{root}: recognized as {dataset_format.name}: {evidence}; {role} list: {splits}"
        dataset.notes.insert(0, note)
    return dataset


def read_lists(
    dataset_format: Format,
    root: Path,
    splits: Optional[Sequence[str]] = None,
    classes: Optional[Sequence[str]] = None,
) -> Dict[str, Dataset]:
    """Lists of a dataset by name, all with the same classes: the requested ones, or those of all lists.

    The errors that a copy inherits are among the findings of the first list; see `unfixed`.

    Parameters
    ----------
    splits : sequence of str, optional
        As in `open_dataset`; defaults to all lists.
    classes : sequence of str, optional
        In the order of the labels.
    """
    from .dataset import read_together

    names = list(dict.fromkeys(splits or lists_to_read(dataset_format, root)))
    readers = [partial(dataset_format.read, root, name, allow_absent=True) for name in names]
    datasets = read_together(readers, classes)
    if classes is None:  # objects were dropped although nobody asked for it
        for dataset in datasets:
            dataset.findings[:] = [
                f._replace(code="class-dropped") if f.code == "class-ignored" else f for f in dataset.findings
            ]
    datasets[0].findings.extend(read_unfixed(root))
    return dict(zip(names, datasets))


def usable_for_training(dataset: Dataset) -> Dataset:
    """The dataset without images whose boxes may belong to another size or rotation, with a note.

    Raises DataError if these are more than half of the images, the boxes of the list appear to be corners
    although they were read as corner and size, or there is no object to learn.
    """
    corners = [finding for finding in dataset.findings if finding.code == "boxes-as-corners"]
    displaced = {sample.image_path: list(_displaced(sample)) for sample in dataset}
    kept = [sample for sample in dataset if not displaced[sample.image_path]]
    cure = "check-data --fix writes a corrected copy"
    if corners or 2 * len(kept) < len(dataset):
        places = summary([*corners, *(finding for found in displaced.values() for finding in found)])
        raise DataError(
            f"{dataset.name}: the boxes appear to be corners, or to belong to images of another size or "
            f"rotation; {cure}. {'; '.join(places)}"
        )
    left_out = len(dataset) - len(kept)
    notes = [f"Left out: {left_out} images whose boxes are in doubt; {cure}"] if left_out else []
    if not any(len(sample.labels) for sample in kept):
        found = "; ".join([*dataset.notes, *notes]) or "no annotation has a box"
        raise DataError(f"{dataset.name}: nothing to learn, {len(kept)} images without objects. {found}")
    return replace(dataset, samples=kept, notes=[*dataset.notes, *notes]) if left_out else dataset


def _displaced(sample: Sample) -> Iterator[Finding]:
    """Findings that the boxes do not fit the image, or that it was rotated after they were drawn."""
    findings = sample.original.findings if sample.original else ()
    exceeds = any(finding.code in ("box-clipped", "box-outside") for finding in findings)
    codes = ("size-swapped", "boxes-unrotated", *(("size-differs",) if exceeds else ()))
    return (finding for finding in findings if finding.code in codes)


def default_root(name: str) -> str:
    """Folder of a dataset if the user names none, relative to the working directory."""
    return "data" if name == AUTO else formats[name].root or f"data/{name}"


def is_missing(name: str, root: Union[str, Path]) -> bool:
    """Whether the folder of a dataset is missing; datasets that are Python objects have none."""
    return (name == AUTO or formats[name].has_folder) and not Path(root).is_dir()


def find_format(name: str, root: Union[str, Path]) -> Format:
    """The format `name`, or for ``'auto'`` the format recognized in `root`."""
    return _find_format(name, Path(root))[0]


def _find_format(name: str, root: Path) -> Tuple[Format, str]:
    return recognize(root) if name == AUTO else (formats[name], "")


def recognize(root: Path) -> Tuple[Format, str]:
    """Format of the dataset in a folder, and what shows it; DataError names the known layouts."""
    if not root.is_dir():
        problem = "is a file; give the folder that it is in" if root.exists() else "no such folder"
        raise DataError(f"{root}: {problem}; --data-root (or FOLDER) is the folder of your dataset")
    try:
        result = _recognize(root)
    except DataError as error:
        nested = _nested_dataset(root)
        hint = f". Or is {nested[0]} the folder of the dataset ({nested[1]})?" if nested else ""
        raise DataError(f"{error}{hint}") from error
    if result:
        return result
    nested = _nested_dataset(root)
    if nested:
        raise DataError(f"{root}: no dataset here, but one in {nested[0]} ({nested[1]}); give that folder")
    layouts = "; ".join(f"{entry.name}: {entry.layout}" for entry in _by_priority() if entry.layout)
    hints = "".join(f"{hint}. " for hint in (entry.found_instead(root) for entry in _by_priority()) if hint)
    raise DataError(
        f"{root}: no dataset format recognized. It contains: {folder_contents(root)}. {hints}Expected "
        f"one of: {layouts}. If the folder has one of these formats, name it with --dataset"
    )


def _by_priority() -> List[Format]:
    return sorted(formats, key=lambda dataset_format: dataset_format.priority)


def _recognize(root: Path) -> Optional[Tuple[Format, str]]:
    for weak in (False, True):
        for dataset_format in _by_priority():
            evidence = dataset_format.weak_evidence(root) if weak else dataset_format.evidence(root)
            if evidence:
                return dataset_format, evidence
    return None


def _subfolders(folder: Path) -> List[Path]:
    try:
        inner = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
    except OSError:
        return []
    return sorted(inner)


def _nested_dataset(root: Path) -> Optional[Tuple[str, str]]:
    """Folders one or two levels down that are datasets, and what shows it; None if there are none."""
    below = _subfolders(root)[:_MAX_FOLDERS]
    for folders in (below, [inner for folder in below for inner in _subfolders(folder)][:_MAX_FOLDERS]):
        found = {}
        for folder in folders:
            with contextlib.suppress(DataError):
                result = _recognize(folder)
                if result:
                    found[str(folder)] = f"{result[0].name}: {result[1]}"
        if found:
            return listed(found), next(iter(found.values()))
    return None


def folder_contents(root: Path) -> str:
    """What a folder contains, for messages: its files by ending, and those of its subfolders."""
    parts = [_kinds_of_files(root)]
    for folder in _subfolders(root):
        inner = [f"{path.name}/ ({_kinds_of_files(path)})" for path in _subfolders(folder)[:_MAX_KINDS]]
        kinds = _kinds_of_files(folder)
        parts.append(
            f"{folder.name}/ ({'; '.join([kinds, *inner] if kinds != _NOTHING else inner or [kinds])})"
        )
    return listed(part for part in parts if part != _NOTHING) or "an empty folder"


def _kinds_of_files(folder: Path) -> str:
    """Number of files of each ending: ``12 .jpg and 3 .txt``; small kinds by name."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    counts = Counter(Path(name).suffix.lower() for name in names)
    shown = []
    for ending, count in counts.most_common(_MAX_KINDS):
        same = [name for name in names if Path(name).suffix.lower() == ending]
        shown.append(
            listed(same)
            if count <= 2 and ending not in IMAGE_ENDINGS
            else f"{count} {ending or 'files without ending'}"
        )
    return " and ".join(shown) or _NOTHING


def default_splits(name: str, role: str, root: Optional[Union[str, Path]] = None) -> str:
    """Lists used if the user names none.

    `role` is ``'train'``, ``'val'``, or ``'eval'``: the lists for validation, but not only the held-out tenth
    of a list without others.
    """
    place = Path(root or default_root(name))
    return _default_splits(find_format(name, place), place, role)


def _default_splits(dataset_format: Format, root: Path, role: str) -> str:
    if role != "eval":
        return dataset_format.default_splits(root, role)
    splits = dataset_format.default_splits(root, "val").split("+")
    return "+".join(split[: -len(":val")] if split.endswith(":val") else split for split in splits)


def lists_to_read(dataset_format: Format, root: Path) -> List[str]:
    """All lists of a dataset, without ``trainval`` beside ``train`` and ``val``: images occur once."""
    names = list(dataset_format.lists(root))
    if not names:
        raise DataError(
            f"{root}: not a dataset in the {dataset_format.name} format; expected {dataset_format.layout}. "
            f"It contains: {dataset_format.found_instead(root) or folder_contents(root)}"
        )
    return [name for name in names if not _is_union(name, names)]


def _is_union(name: str, names: List[str]) -> bool:
    """Whether the list is ``trainval`` beside ``train`` and ``val``, or ``2012_trainval`` likewise."""
    prefix = name[: -len("trainval")]
    return name == f"{prefix}trainval" and {f"{prefix}train", f"{prefix}val"} <= set(names)
