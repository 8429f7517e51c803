"""Datasets of Gluon and GluonCV: Python objects, or ``gluoncv:MODULE:NAME``, which makes one.

`data.gluon` reads them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ...errors import DataError, OptionError
from ...options import listed
from ...runtime.imports import import_object
from ..dataset import Dataset
from ..findings import Finding
from ..gluon.factory import ALL, Factory
from ..gluon.read import GluonReader, title
from . import Format, formats

_given: Dict[str, GluonDatasets] = {}
"""Datasets given in Python, by the argument of the format."""


class GluoncvFormat(Format):
    """The format without its argument; `with_argument` returns one with datasets."""

    name = "gluoncv"
    description = "datasets of Gluon and GluonCV: gluoncv:MODULE:NAME, a function or class that makes one"
    layout = ""
    has_folder = False

    def __init__(self) -> None:
        self._imported: Dict[str, GluonDatasets] = {}

    def lists(self, root: Path) -> Dict[str, Any]:
        return {}

    def default_splits(self, root: Path, role: str) -> str:
        raise OptionError("gluoncv: name the function or class that makes the dataset: gluoncv:MODULE:NAME")

    def with_argument(self, argument: str) -> Format:
        if argument in _given:
            return _given[argument]
        if ":" not in argument:
            raise OptionError(
                f"gluoncv:{argument}: this dataset was given in Python; give it again as data=, or write a "
                "function that makes it and name that: --dataset gluoncv:MODULE:NAME"
            )
        if argument not in self._imported:
            self._imported[argument] = GluonDatasets(argument, Factory(import_object(argument), argument))
        return self._imported[argument]


class GluonDatasets(Format):
    """Datasets by list: those given, or those that a factory makes.

    Parameters
    ----------
    argument : str
        As in ``gluoncv:ARGUMENT``.
    source : Factory or mapping of str to object
    """

    description = GluoncvFormat.description
    contents = "datasets of Gluon"
    has_folder = False
    copies_as = "voc"

    def __init__(self, argument: str, source: Union[Factory, Mapping[str, Any]]) -> None:
        self.name = self.root = f"{GluoncvFormat.name}:{argument}"  # as folder, it stands for none
        self.layout = f"the items of {argument}"
        self._source = source
        self._made: Dict[Tuple[Optional[str], str], Any] = {}
        self._readers: Dict[int, GluonReader] = {}

    def lists(self, root: Path) -> Dict[str, Any]:
        if not isinstance(self._source, Factory):
            return dict(self._source)
        return dict.fromkeys(self._source.lists or self._make(self._folder(root), ALL))

    def _folder(self, root: Path) -> Optional[str]:
        """The folder that the user has named; ``.`` is none, unless it can be used."""
        takes_root = isinstance(self._source, Factory) and self._source.takes_root
        return None if str(root) == self.root or (str(root) == "." and not takes_root) else str(root)

    def _make(self, folder: Optional[str], split: str) -> List[str]:
        """Make the datasets of a list; returns the names of the lists made."""
        if isinstance(self._source, Factory):
            made = self._source(folder, split)
        elif folder is None:
            made = self._source
        else:
            raise OptionError(f"{self.name}: a dataset given in Python has no folder; leave out {folder}")
        self._made.update({(folder, name): dataset for name, dataset in made.items()})
        return list(made)

    def _dataset(self, root: Path, split: str) -> Any:
        folder = self._folder(root)
        if (folder, split) not in self._made:
            made = self._make(folder, split)
            if split not in made:
                raise DataError(f"{self.name}: no list {split!r}; lists: {listed(made)}")
        return self._made[folder, split]

    def read_list(
        self, root: Path, split: str, classes: Optional[Sequence[str]] = None, *, allow_absent: bool = False
    ) -> Dataset:
        dataset = self._dataset(root, split)
        reader = GluonReader(dataset, f"{title(dataset)} {split}")
        return self._readers.setdefault(id(dataset), reader).read(classes, allow_absent)

    def unreferenced(self, root: Path, parts: Mapping[str, Dataset]) -> Iterator[Finding]:
        return iter(())


@contextlib.contextmanager
def given(datasets: Mapping[str, Any]) -> Iterator[str]:
    """Context manager in which datasets can be opened by the format name that it returns.

    `datasets` are objects by the name of their list; the class of the first one is the argument of the
    format.
    """
    argument = title(next(iter(datasets.values())))
    before = _given.get(argument)
    _given[argument] = GluonDatasets(argument, datasets)
    try:
        yield _given[argument].name
    finally:
        if before is None:
            del _given[argument]
        else:
            _given[argument] = before


formats.register(GluoncvFormat.name, GluoncvFormat())
