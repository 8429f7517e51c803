"""Datasets by kind: the one way in which training, evaluation and exports open them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ..errors import OptionError
from ..options import unknown_name

if TYPE_CHECKING:  # NumPy stays out of whoever only wants the names of the kinds
    from .dataset import Dataset


@dataclass(frozen=True)
class Kind:
    """Where a kind of dataset lives, and which lists of images are meant, unless the user says otherwise.

    Attributes
    ----------
    root : str
        Relative to the working directory.
    splits : dict
        Role, ``'train'`` or ``'val'``, to the default lists.
    """

    root: str
    splits: Dict[str, str]


KINDS: Dict[str, Kind] = {
    "auto": Kind("data", {"train": "", "val": ""}),
    "shapes": Kind("data/shapes", {"train": "train", "val": "val"}),
    "voc": Kind("data/VOCdevkit", {"train": "2007_trainval+2012_trainval", "val": "2007_test"}),
    "coco": Kind("data/coco", {"train": "", "val": ""}),
    "yolo": Kind("data/yolo", {"train": "", "val": ""}),
    "csv": Kind("data/csv", {"train": "", "val": ""}),
    "recordio": Kind("data/recordio", {"train": "", "val": ""}),
}

_WHAT = {
    "coco": "COCO's JSON",
    "yolo": "YOLO's labels",
    "recordio": "MXNet's record files of objects",
    "csv": "tables of objects",
    "voc": "VOC's XML files",
}
"""What is looked for, in this order."""

VAL_LISTS = ("val", "valid", "validation", "test")
"""Names of the list that is measured on, by preference."""

PARTS = ("train", "val")
"""Behind a colon after a list's name: all but a tenth of it, and that tenth (`Dataset.hold_out`)."""

HELD_OUT = 0.1


def open_dataset(
    kind: str,
    root: Optional[Union[str, Path]] = None,
    splits: Optional[str] = None,
    classes: Optional[Sequence[str]] = None,
    role: str = "train",
    *,
    download: bool = False,
    allow_absent: bool = False,
    progress: bool = False,
) -> Dataset:
    """Open a dataset of a known kind.

    Parameters
    ----------
    kind : str
        ``'voc'``, Pascal VOC as the devkit lays it out, or one folder of somebody's own like those in it, or
        XML files beside images; ``'coco'``, ``'yolo'``, ``'csv'``, ``'recordio'``; ``'auto'``, whichever of
        these it is, which its notes say; or ``'shapes'``, the built-in synthetic
        set, which is rendered where it is missing.
    root : str or Path, optional
        The folder ``VOCdevkit``, or the one that holds ``JPEGImages``, ``Annotations`` and
        ``ImageSets/Main``; by default that of `KINDS`.
    splits : str, optional
        Lists of images: ``2007_trainval+2012_trainval`` for the devkit, the name of one list for a single
        folder. ``NAME:train`` and ``NAME:val`` are parts of a list, see `PARTS`. By default as
        `default_splits` says.
    classes : sequence of str, optional
        The classes wanted, in the order of the labels; by default all that the dataset has: VOC's 20 for
        the devkit. Objects of others are ignored, which the dataset's notes say.
    role : str
        ``'train'`` or ``'val'``: decides on the default `splits`, nothing else.
    download : bool
        Fetch the official VOC archives where they are missing.
    allow_absent : bool
        Accept classes that occur in no annotation, with a note: for measuring a detector on
        images that lack some of its classes. Otherwise they are taken for typing errors.
    progress : bool
        Show the progress of a download on stderr.

    Raises
    ------
    OptionError
        For an unknown kind, or a download of what is not downloaded.
    DataError
        From the reader: a missing root, a split that does not exist, an unknown class.
    DownloadError
        From the download.
    """
    if kind not in KINDS:
        raise OptionError(unknown_name("dataset", kind, KINDS))
    root = Path(root or KINDS[kind].root)
    if kind == "auto":
        return _open_recognised(root, splits, classes, role, download, allow_absent)
    splits = splits or default_splits(kind, role, root)
    if kind == "shapes":
        return _open_shapes(root, splits, classes, download, allow_absent)
    if download and (kind != "voc" or is_single_folder(root)):
        raise OptionError(f"{root} is a folder of its own, not the devkit's; leave out --download")
    if kind == "voc" and not list_names("voc", root):
        from .formats.voc import read_voc

        if download:
            from ..fetch.archives import download_voc

            download_voc(root, splits, progress=progress)
        return read_voc(root, splits, classes, allow_absent=allow_absent)
    return _open_lists(_reader(kind, root), root, splits, classes, allow_absent)


Read = Callable[..., "Dataset"]
"""``(root, list, classes, allow_absent=...) -> Dataset``."""


def _reader(kind: str, root: Path) -> Read:
    """What reads one list of a dataset that has lists by name."""
    if kind == "coco":
        from .formats.coco import read_coco

        return read_coco
    if kind == "yolo":
        from .formats.yolo import read_yolo

        return read_yolo
    if kind == "csv":
        from .formats.csv import read_csv

        return read_csv
    if kind == "recordio":
        from .formats.recordio import read_rec

        return read_rec
    from .formats.voc import read_voc_files, read_voc_folder

    return read_voc_folder if is_single_folder(root) else read_voc_files


def _open_lists(
    read: Read, root: Path, splits: str, classes: Optional[Sequence[str]], allow_absent: bool
) -> Dataset:
    """Lists joined by ``+``, each with a part of it behind a colon."""
    from .dataset import Dataset

    found: List[Dataset] = []
    for word in splits.split("+"):
        name, colon, part = word.partition(":")
        if colon and part not in PARTS:
            raise OptionError(f"{word!r}: behind the colon stands {' or '.join(PARTS)}")
        wanted = classes or (found[0].classes if found else None)
        dataset = read(root, name, wanted, allow_absent=allow_absent or bool(found))
        found.append(dataset.hold_out(HELD_OUT)[PARTS.index(part)] if colon else dataset)
    if len(found) == 1:
        return found[0]
    samples = [sample for dataset in found for sample in dataset]
    notes = [note for dataset in found for note in dataset.notes]
    findings = [finding for dataset in found for finding in dataset.findings]
    return Dataset(f"{root.name} {splits}", found[0].classes, samples, notes, findings)


def _open_recognised(
    root: Path,
    splits: Optional[str],
    classes: Optional[Sequence[str]],
    role: str,
    download: bool,
    allow_absent: bool,
) -> Dataset:
    kind, why = recognise(root)
    splits = splits or default_splits(kind, role, root)
    dataset = open_dataset(kind, root, splits, classes, role, download=download, allow_absent=allow_absent)
    dataset.notes.insert(0, f"{root}: read as {kind}, for it {why}; {role} is {splits}")
    return dataset


def recognise(root: Path) -> Tuple[str, str]:
    """The kind of a dataset, and by what it was recognised.

    Raises
    ------
    DataError
        When it is none that can be read; it says what was looked for.
    """
    from ..errors import DataError

    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; give that of your images as --data-root")
    years = sorted(path.name for path in root.glob("VOC[12][0-9][0-9][0-9]") if path.is_dir())
    if years:
        return "voc", f"holds {', '.join(years)}"
    if is_single_folder(root):
        return "voc", "holds Annotations and ImageSets/Main"
    for kind, what in _WHAT.items():
        lists = list_names(kind, root)
        if lists:
            return kind, f"holds {what} (lists: {', '.join(lists)})"
    raise DataError(
        f"{root}: no dataset that can be read. Looked for: VOC2007 or VOC2012; Annotations with "
        "ImageSets/Main; XML files beside images; JSON files of COCO's, here, in annotations, or as "
        "*/_annotations.coco.json; data.yaml, or classes.txt with images and labels; record files (.rec, "
        ".lst) of objects; tables (.csv) with filename, class, xmin, ymin, xmax, ymax"
    )


def list_names(kind: str, root: Path) -> List[str]:
    """The lists of a dataset that has them by name; none where it is not of this kind, or VOC's devkit."""
    if kind == "coco":
        from .formats.coco import coco_files

        return list(coco_files(root))
    if kind == "yolo":
        from .formats.yolo import yolo_splits

        return list(yolo_splits(root))
    if kind == "csv":
        from .formats.csv import csv_files

        return list(csv_files(root))
    if kind == "recordio":
        from .formats.recordio import rec_files

        return list(rec_files(root))
    if kind == "voc" and is_single_folder(root):
        from .annotations.voc_xml import split_names

        return split_names(root)
    if kind == "voc" and root.is_dir():
        from .formats.voc import ALL, annotation_files

        return [ALL] if annotation_files(root) else []
    return []


def default_splits(kind: str, role: str, root: Optional[Union[str, Path]] = None) -> str:
    """The lists of images of a dataset that are used in a role when none are named.

    Those of `KINDS` for the devkit and the shapes; in others ``train``, and the first of `VAL_LISTS`. Where
    there is only one of them, it is parted: see `PARTS`.
    """
    place = Path(root or KINDS[kind].root)
    if kind == "auto":
        kind = recognise(place)[0]
    names = list_names(kind, place) if kind != "shapes" else []
    if not names:
        return KINDS[kind].splits[role]
    train = "train" if "train" in names else names[0]
    val = next((name for name in VAL_LISTS if name in names and name != train), "")
    if val:
        return train if role == "train" else val
    return f"{train}:{role}"


def lists_to_read(kind: str, root: Path) -> List[str]:
    """All lists, each image once: ``trainval`` is left out where its parts are there; of VOC's devkit the
    default ones, or where their folders are not there, those of the years that are.
    """
    if kind == "shapes":
        return list(KINDS[kind].splits.values())
    names = list_names(kind, root)
    if not names and kind == "voc":
        from .annotations.voc_xml import split_names

        years = sorted(path for path in root.glob("VOC[12][0-9][0-9][0-9]") if path.is_dir())
        names = [f"{path.name[3:]}_{name}" for path in years for name in split_names(path)]
    return [
        name
        for name in names
        if not (
            name.endswith("trainval")
            and {name[: -len("trainval")] + part for part in ("train", "val")} <= set(names)
        )
    ]


def measured_on(options: Mapping[str, Any]) -> Tuple[str, float]:
    """The lists that a training run with these options measures itself on, and the share held out of them.

    The share is 0 where it measures on the whole lists; else they are those that it trains on.
    """
    kind, root, share = options["dataset"], options.get("data_root"), options.get("hold_out") or 0.0
    role = "train" if share else "val"
    return options.get(f"{role}_splits") or default_splits(kind, role, root), share


def is_single_folder(root: Path) -> bool:
    """Whether this is one folder of VOC's layout, such as ``VOC2007``, not the devkit around such folders."""
    return (root / "Annotations").is_dir() and (root / "ImageSets" / "Main").is_dir()


def _open_shapes(
    root: Path, split: str, classes: Optional[Sequence[str]], download: bool, allow_absent: bool
) -> Dataset:
    from .formats.voc import read_voc_folder
    from .shapes.dataset import make_shapes

    if download:
        raise OptionError("the shapes are rendered here, not downloaded; leave out --download")
    # A set that was rendered with other settings is as good; only what is not there is made.
    if not root.is_dir() or not any(root.iterdir()):
        make_shapes(root)
    return read_voc_folder(root, split, classes, allow_absent=allow_absent)
