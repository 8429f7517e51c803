"""Functions and classes of the user that make datasets, called with what their signatures take."""

from __future__ import annotations

import inspect
import re
from typing import Any, Dict, Mapping, Optional, Tuple

from ...errors import DataError, OptionError
from .read import is_dataset

TRAIN, VAL, ALL = "train", "val", "all"
"""Names of lists, if the signature does not take names of lists that the user chooses."""


class Factory:
    """Makes datasets by calling `make`, a function or class, called `name` in messages.

    Of the parameters ``root``, ``splits``, ``split`` and ``train``, it gets those that its signature has: the
    folder of the dataset, and the list as GluonCV writes it. ``train`` is True for the list ``train``, as for
    the datasets of `mxnet.gluon.data.vision`. `make` may return a dataset or a tuple of two, for training and
    for validation. It may also be a dataset itself.
    """

    def __init__(self, make: Any, name: str) -> None:
        self._make, self.name = make, name
        if is_dataset(make):
            self._parameters: Dict[str, Optional[inspect.Parameter]] = {}
            self._is_made = True
            return
        if not callable(make):
            raise OptionError(
                f"{name}: a {type(make).__name__}, neither a dataset nor a function or class that makes one"
            )
        self._is_made = False
        self._parameters = _parameters(make)

    @property
    def lists(self) -> Tuple[str, ...]:
        """Names of the lists; empty if they are known when `make` has been called."""
        is_by_role = self._is_required("splits") or self._is_required("split") or "train" in self._parameters
        return (TRAIN, VAL) if is_by_role else (ALL,) if self._takes_lists else ()

    @property
    def takes_root(self) -> bool:
        """Whether the signature takes the folder of the dataset."""
        return "root" in self._parameters

    @property
    def _takes_lists(self) -> bool:
        """Whether the signature takes names of lists."""
        return "splits" in self._parameters or "split" in self._parameters

    def __call__(self, root: Optional[str], split: str) -> Mapping[str, Any]:
        """Datasets by list: the one called `split`, or all that `make` returned.

        Raises
        ------
        OptionError
            If `root` is given and the signature does not take it, or the other way round.
        DataError
            If `make` raises an exception, or returns no dataset.
        """
        if root is not None and not self.takes_root:
            raise OptionError(f"{self.name} takes no root; leave out the folder {root} (--data-root)")
        if root is None and self._is_required("root"):
            raise OptionError(f"{self.name} needs a root; name the folder of the dataset with --data-root")
        arguments: Dict[str, Any] = {} if root is None else {"root": root}
        if "splits" in self._parameters and split != ALL:
            arguments["splits"] = (self._split(split),)
        elif "split" in self._parameters and split != ALL:
            arguments["split"] = self._split(split)
        elif "train" in self._parameters:
            arguments["train"] = split == TRAIN
        made = self._made(arguments)
        if type(made) is tuple and len(made) == 2 and all(map(is_dataset, made)):
            return dict(zip((TRAIN, VAL), made))
        if not is_dataset(made):
            raise DataError(
                f"{self.name} returned {_shown(made)}; expected a dataset, an object with len() and items "
                "(image, label), or a tuple of two of them"
            )
        return {self._list_of(arguments, split): made}

    def _list_of(self, arguments: Mapping[str, Any], split: str) -> str:
        """The list that was made with these arguments."""
        if "train" in arguments:
            return TRAIN if arguments["train"] else VAL
        return split if self._takes_lists else ALL

    def _made(self, arguments: Mapping[str, Any]) -> Any:
        if self._is_made:
            return self._make
        shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        try:
            return self._make(**arguments)
        except Exception as error:  # the code is the user's and may raise anything
            raise DataError(f"{self.name}({shown}) raised {type(error).__name__}: {error}") from error

    def _is_required(self, name: str) -> bool:
        parameter = self._parameters.get(name)
        return parameter is not None and parameter.default is inspect.Parameter.empty

    def _split(self, split: str) -> Any:
        """A list as the dataset takes it: ``(2007, 'trainval')`` for `VOCDetection`, else its name."""
        if not _is_voc(self._make):
            return split
        year = re.fullmatch(r"(\d{4})_(.+)", split)
        folder, _, name = split.rpartition("/")
        return (int(year[1]), year[2]) if year else (folder, name)


def _parameters(make: Any) -> Dict[str, Optional[inspect.Parameter]]:
    """Parameters by name; those of the base classes, too, if a class passes on any others."""
    try:
        parameters = dict(inspect.signature(make).parameters)
    except (TypeError, ValueError):  # a class or function without a signature, written in C
        return {}
    found: Dict[str, Optional[inspect.Parameter]] = {}
    passes_on = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if passes_on and inspect.isclass(make):
        for base in make.__mro__[1:-1]:
            found.update({k: v for k, v in inspect.signature(base).parameters.items() if k not in found})
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: p for name, p in {**found, **parameters}.items() if p is not None and p.kind in named}


def _is_voc(make: Any) -> bool:
    if not (inspect.isclass(make) and any(base.__module__.startswith("gluoncv.") for base in make.__mro__)):
        return False
    from gluoncv.data import VOCDetection

    return issubclass(make, VOCDetection)


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"
