"""Data sets by kind: the one way in which training, evaluation and exports open them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Tuple, Union

from ..errors import OptionError
from ..options import unknown_name

if TYPE_CHECKING:  # NumPy stays out of whoever only wants the names of the kinds
    from .dataset import Dataset


@dataclass(frozen=True)
class Kind:
    """Where a kind of data set lives, and which lists of images are meant, unless the user says otherwise.

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
    "shapes": Kind("data/shapes", {"train": "train", "val": "val"}),
    "voc": Kind("data/VOCdevkit", {"train": "2007_trainval+2012_trainval", "val": "2007_test"}),
}


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
    """Open a data set of a known kind.

    Parameters
    ----------
    kind : str
        ``'voc'``, Pascal VOC as the devkit lays it out, or one folder of somebody's own like those in it;
        or ``'shapes'``, the built-in synthetic set, which is rendered where it is missing.
    root : str or Path, optional
        The folder ``VOCdevkit``, or the one that holds ``JPEGImages``, ``Annotations`` and
        ``ImageSets/Main``; by default that of `KINDS`.
    splits : str, optional
        Lists of images: ``2007_trainval+2012_trainval`` for the devkit, the name of one list for a single
        folder. By default as `default_splits` says.
    classes : sequence of str, optional
        The classes wanted, in the order of the labels; by default all that the data set has: VOC's 20 for
        the devkit. Objects of others are ignored, which the data set's notes say.
    role : str
        ``'train'`` or ``'val'``: decides on the default `splits`, nothing else.
    download : bool
        Fetch the official VOC archives where they are missing.
    allow_absent : bool
        Accept classes that occur in no annotation, with a note: for measuring a detector on
        photographs that lack some of its classes. Otherwise they are taken for typing errors.
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
        raise OptionError(unknown_name("data set", kind, KINDS))
    root = Path(root or KINDS[kind].root)
    splits = splits or default_splits(kind, role, root)
    if kind == "shapes":
        return _open_shapes(root, splits, classes, download, allow_absent)
    from .voc import read_voc, read_voc_folder

    if is_single_folder(root):
        if download:
            raise OptionError(f"{root} is a folder of its own, not the devkit's; leave out --download")
        return read_voc_folder(root, splits, classes, allow_absent=allow_absent)
    if download:
        from .download import download_voc

        download_voc(root, splits, progress=progress)
    return read_voc(root, splits, classes, allow_absent=allow_absent)


def default_splits(kind: str, role: str, root: Optional[Union[str, Path]] = None) -> str:
    """The lists of images of a data set that are used in a role when none are named.

    Those of `KINDS`; in a single folder of VOC's layout ``train`` and ``val``.
    """
    if kind == "voc" and is_single_folder(Path(root or KINDS[kind].root)):
        return role
    return KINDS[kind].splits[role]


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
    from .shapes import make_shapes
    from .voc import read_voc_folder

    if download:
        raise OptionError("the shapes are rendered here, not downloaded; leave out --download")
    # A set that was rendered with other settings is as good; only what is not there is made.
    if not root.is_dir() or not any(root.iterdir()):
        make_shapes(root)
    return read_voc_folder(root, split, classes, allow_absent=allow_absent)
