"""Dataset formats: one module each, which registers itself in `formats`.

This file imports neither NumPy nor OpenCV, and the names of the built-in formats are those of their files, so
that ``--help`` lists them at no cost.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ...errors import DataError, OptionError
from ...registry import Registry

if TYPE_CHECKING:
    from ..annotations.annotation import AnnotationList
    from ..dataset import Dataset
    from ..findings import Finding

AUTO = "auto"
"""In place of a format's name: whichever format the folder has."""

PARTS = ("train", "val")
"""Suffixes ``LIST:train`` and ``LIST:val``: a list without its held-out tenth, and that tenth."""

HELD_OUT = 0.1

ImageFiles = Mapping[str, Mapping[str, str]]
"""By list and image id: the name of the image file."""


class Format:
    """A dataset format: how it is recognized, read, written and validated.

    A dataset is a folder with one or more lists of images, such as ``train`` and ``val``. A subclass sets the
    attributes and implements `lists`, and `read_annotations` or `read_list`; the other methods have defaults.

    Attributes
    ----------
    name : str
        As in ``--dataset NAME``.
    description : str
        One line, for help and documentation.
    layout : str
        The files that `lists` looks for, for the error that nothing was recognized.
    contents : str
        What was found if it was recognized: ``'COCO JSON files'``.
    root : str
        Default folder, relative to the working directory; ``data/NAME`` if empty.
    priority : int
        Formats are tried in ascending order.
    image_folder : str or None
        Folder that `convert` copies the images of a list to; ``{split}`` stands for the list's name. None if
        `write` stores the images itself.
    copies_as : str
        Format of the copies that ``check-data --fix`` writes, if not this one.
    has_folder : bool
        Whether the dataset consists of the files in a folder.
    """

    name: str
    description: ClassVar[str]
    layout: str
    contents: ClassVar[str]
    root: str = ""
    priority: ClassVar[int] = 100
    image_folder: ClassVar[Optional[str]] = "images/{split}"
    copies_as: ClassVar[str] = ""
    has_folder: ClassVar[bool] = True

    def with_argument(self, argument: str) -> Format:
        """The format called ``NAME:ARGUMENT``; most have none."""
        raise OptionError(f"{self.name}:{argument}: this format takes no argument; write {self.name}")

    # ---- reading

    def lists(self, root: Path) -> Dict[str, Any]:
        """Lists of the dataset in `root`, by name: where each is. Empty if the folder has another format."""
        raise NotImplementedError

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        """Annotations of one list, a key of `lists`.

        Raises DataError if the list is missing or damaged, or more than half of its images cannot be used.
        """
        raise NotImplementedError

    def read_list(
        self, root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        """Read one list, a key of `lists`.

        Parameters
        ----------
        classes : sequence of str, optional
            In the order of the labels; defaults to all classes of the dataset.
        allow_absent : bool
            Accept classes that the dataset does not have; otherwise they raise DataError.
        """
        annotations = self.read_annotations(root, split)
        return annotations.to_dataset(f"{root.name} {split}", f"{root}, list {split}", classes, allow_absent)

    def read(
        self, root: Path, splits: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        """Read lists joined by ``+``, each with an optional suffix of `PARTS`; otherwise as `read_list`."""
        from ..dataset import join, read_together

        words = splits.split("+")

        def read_part(word: str, chosen: Optional[Sequence[str]]) -> Dataset:
            split, colon, part = word.partition(":")
            if colon and part not in PARTS:
                raise OptionError(f"{word!r}: expected {' or '.join(PARTS)} after the colon")
            lenient = allow_absent or word != words[0] or classes is None
            dataset = self.read_list(root, split, chosen, allow_absent=lenient)
            return dataset.hold_out(HELD_OUT)[PARTS.index(part)] if colon else dataset

        datasets = read_together([partial(read_part, word) for word in words], classes)
        return datasets[0] if len(datasets) == 1 else join(f"{root.name} {splits}", datasets)

    def place(self, root: Path, split: str) -> Any:
        """Where the list `split` is; raises DataError, with the lists that exist, if there is none."""
        places = self.lists(root)
        if not places:
            raise DataError(f"{root}: not a dataset in the {self.name} format; expected {self.layout}")
        if split not in places:
            raise DataError(f"{root}: no list {split!r} ({self.name} format); lists: {', '.join(places)}")
        return places[split]

    def default_splits(self, root: Path, role: str) -> str:
        """Lists used for ``'train'`` or ``'val'`` if the user names none; a single list is split in two.

        Raises DataError if the names of the lists do not tell.
        """
        from ..annotations.roles import default_list

        names = list(self.lists(root))
        return default_list(names, role) if names else ""

    def download(self, root: Path, splits: str, progress: bool = False) -> None:
        """Download the official dataset; most formats have none."""
        raise OptionError(f"{root}: the {self.name} format has no official download; omit --download")

    # ---- recognition

    def evidence(self, root: Path) -> str:
        """What shows that `root` has this format, for the user; empty if it has not."""
        names = self.lists(root)
        return f"{self.contents} (lists: {', '.join(names)})" if names else ""

    def weak_evidence(self, root: Path) -> str:
        """As `evidence`, consulted if no format has evidence."""
        return ""

    def found_instead(self, root: Path) -> str:
        """What `root` has that resembles this format, and what to do about it, for the error; or empty."""
        return ""

    # ---- writing

    @property
    def writable(self) -> bool:
        """Whether the format implements `write`."""
        return type(self).write is not Format.write

    def write(self, parts: Mapping[str, Dataset], folder: Path, files: ImageFiles) -> List[str]:
        """Write the lists and annotations of a dataset; `convert` has copied the images.

        `parts` are the lists by name, all with the same classes. Returns notes on what the format cannot
        represent.
        """
        raise NotImplementedError

    # ---- validation

    def check(self, dataset: Dataset) -> Iterator[Finding]:
        """Findings about a list as a whole, such as annotations written for another format."""
        return iter(())

    def unreferenced(self, root: Path, parts: Mapping[str, Dataset]) -> Iterator[Finding]:
        """Findings about files that no list references; by default about images."""
        from ..annotations.paths import images_below, referenced_files
        from ..findings import Finding
        from ..image_files import is_drawing

        for path in sorted(images_below(root) - referenced_files(parts)):
            if not is_drawing(path):
                yield Finding("image-unannotated", path, "", "")


def difficult_notes(parts: Mapping[str, Dataset], effect: str) -> List[str]:
    """For each list with difficult objects, a note for the result of `Format.write`."""
    counts = {split: sum(int(sample.difficult.sum()) for sample in parts[split]) for split in parts}
    return [f"{split}: {count} difficult objects {effect}" for split, count in counts.items() if count]


class _Formats(Registry[Format]):
    """Formats by ``NAME`` or ``NAME:ARGUMENT``."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(_without_argument(name))

    def __getitem__(self, name: str) -> Format:
        _, colon, argument = name.partition(":")
        found = super().__getitem__(_without_argument(name))
        return found.with_argument(argument) if colon else found


class _Names(Tuple[str, ...]):
    """Names of formats, which contain those with an argument, too."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(_without_argument(name))


def _without_argument(name: object) -> str:
    return str(name).partition(":")[0]


formats: Registry[Format] = _Formats("dataset format", "mnssd.data.formats")
"""All dataset formats, by name."""


def dataset_names(*others: str) -> Tuple[str, ...]:
    """Choices of ``--dataset``: `AUTO`, every format, perhaps with an argument, and `others`."""
    return _Names(dict.fromkeys([AUTO, *formats.names(), *others]))


def allow_dataset(name: Optional[str]) -> None:
    """Record that the user has named this dataset, so that ``gluoncv:MODULE:NAME`` is imported."""
    from ...runtime.imports import allow_import

    _, colon, argument = (name or "").partition(":")
    if colon:
        allow_import(argument)


def writable_names() -> Tuple[str, ...]:
    """Formats that `convert` can write; imports their modules."""
    return tuple(entry.name for entry in formats if entry.writable)
