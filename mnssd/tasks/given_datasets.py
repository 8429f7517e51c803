"""Datasets that are given as Python objects instead of folders; see `data.gluon.read.from_gluon`."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Union

from ..errors import OptionError
from ..train.run_folder import RunFolder

_ALL = "all"

DATASET_AGAIN = "gluoncv:MODULE:NAME of the run, which is imported only if you name it"
"""Help of the option ``--dataset`` of commands that otherwise take the dataset from the run."""


def check_named(run: Union[str, Path], dataset: str) -> None:
    """Raise OptionError if `dataset`, unless it is empty, is not that of the run."""
    if not dataset:
        return
    stored = RunFolder(Path(run)).read_config().options.data.dataset
    if dataset != stored:
        raise OptionError(f"--dataset {dataset}: {run} was trained on {stored}; leave it out")


def is_object(data: Any) -> bool:
    """Whether this is a dataset itself; raises OptionError if it is no folder or name either."""
    if data is None or isinstance(data, (str, os.PathLike)):
        return False
    from ..data.gluon.read import is_dataset

    if not is_dataset(data):
        raise OptionError(
            f"data: a {type(data).__name__}; expected a folder, the name of a format, or a dataset, which is "
            "an object with len() and items (image, label)"
        )
    return True


def by_list(data: Any, val_data: Any = None) -> Dict[str, Any]:
    """The datasets of a training by list; none if `data` is a folder or a name.

    Raises OptionError if only one of the two is a dataset.
    """
    if val_data is not None and not (is_object(data) and is_object(val_data)):
        raise OptionError(
            "val_data: expected a dataset beside a dataset; of a folder, val_splits names lists"
        )
    if not is_object(data):
        return {}
    return {"train": data, **({} if val_data is None else {"val": val_data})}


@contextmanager
def given(datasets: Mapping[str, Any]) -> Iterator[str]:
    """Context manager in which datasets by list have a name, which it returns; empty without datasets."""
    if not datasets:
        yield ""
        return
    from ..data.formats import gluoncv

    with gluoncv.given(datasets) as name:
        yield name


@contextmanager
def datasets_of(own: Mapping[str, Any], data: Any = None, val_data: Any = None) -> Iterator[Dict[str, Any]]:
    """Context manager in which a run has its `own` datasets, or those given instead.

    It returns the options that name the dataset `data`, all of which is used; none without it.
    """
    chosen = by_list(data, val_data)
    with given({**chosen, _ALL: data} if chosen else own) as name:
        yield {"dataset": name, "splits": _ALL} if chosen else {}
