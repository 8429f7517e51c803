"""The folder of an export: written whole, checked, or not at all."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Union

import mxnet as mx

from .. import __version__
from ..errors import ExportError, OptionError
from ..files import atomic_folder, write_error_reason
from .formats.symbol import SymbolAndArrays
from .parity import ParityResult
from .sidecar import (
    FORMAT,
    FORMATS,
    SCHEMA_VERSION,
    describe_file,
    find_sidecars,
    read_sidecar,
    write_sidecar,
)

PathLike = Union[str, Path]

BATCH = 8
"""Images compared at a time."""


class Part(NamedTuple):
    """One format of an export: its files by kind, what was compared, and sections of its own in the JSON."""

    files: Mapping[str, Path]
    compared: Mapping[str, ParityResult]
    sections: Mapping[str, Any] = {}


Writer = Callable[[Path, str], Part]
"""Given a folder and the beginning of the file names, writes a format's files there and compares them with
the network; raises ExportError where they do not answer as it does."""


class Exported(NamedTuple):
    """The files written, what is in the JSON among them (see `export.sidecar`), and what was compared."""

    paths: List[Path]
    sidecar: Dict[str, Any]
    compared: Mapping[str, ParityResult]


def write_export(
    folder: PathLike, name: str, sections: Mapping[str, Any], writers: Sequence[Writer]
) -> Exported:
    """Write an export in one or more formats, and ``NAME.json``, once all have passed their comparison.

    Parameters
    ----------
    folder : str or Path
        To be made; an earlier export there is replaced.
    name : str
        Beginning of the file names.
    sections : mapping
        Of the sidecar: what the network expects and answers.
    writers : sequence of Writer

    Raises
    ------
    OptionError
        For a name that is none for a file, or a folder that holds something else.
    ExportError
        When the files do not answer as the network does; nothing is left of them.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise OptionError(f"name {name!r}: use letters, digits, '.', '_' and '-' for the name of an export")
    folder = Path(os.path.realpath(folder))
    _check_replaceable(folder)
    with atomic_folder(folder, replace=True) as unfinished:
        parts = [write(unfinished, name) for write in writers]
        files = {kind: path for part in parts for kind, path in part.files.items()}
        compared = {how: result for part in parts for how, result in part.compared.items()}
        sidecar = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "files": {kind: describe_file(path) for kind, path in files.items()},
            **sections,
            **{key: section for part in parts for key, section in part.sections.items()},
            "versions": {"mnssd": __version__, "mxnet": mx.__version__, "python": platform.python_version()},
            "comparison": {how: result.as_dict() for how, result in compared.items()},
        }
        write_sidecar(unfinished / f"{name}.json", sidecar)
    paths = [folder / path.name for path in files.values()]
    return Exported([*paths, folder / f"{name}.json"], sidecar, compared)


def symbol_writer(
    graph: SymbolAndArrays,
    kind: str,
    section: Mapping[str, Any],
    compare: Callable[[Path, Path], Mapping[str, ParityResult]],
) -> Writer:
    """Writes ``NAME-symbol.json`` and ``NAME-0000.params``, MXNet's own files; of 8 bits ``NAME-int8-...``.

    Parameters
    ----------
    graph : (mxnet.symbol.Symbol, mapping of str to numpy.ndarray)
        As from `graph.inference.fold` or `export.formats.int8.int8_graph`.
    kind : str
        ``symbol`` or ``int8``.
    section : mapping
        Of the sidecar, under the name `kind`.
    compare : callable
        Given the paths of graph and parameters, compares them with the network.
    """

    def write(folder: Path, name: str) -> Part:
        stem = name if kind == "symbol" else f"{name}-{kind}"
        paths = (folder / f"{stem}-symbol.json", folder / f"{stem}-0000.params")
        symbol, parameters = graph
        try:
            symbol.save(str(paths[0]))
            mx.nd.save(str(paths[1]), {key: mx.nd.array(v, dtype=v.dtype) for key, v in parameters.items()})
        except mx.MXNetError as error:
            reason = write_error_reason(error, folder)
            raise ExportError(f"{folder.name}/{paths[1].name}: cannot be written ({reason})") from error
        return Part(dict(zip(FORMATS[kind], paths)), compare(*paths), {kind: section})

    return write


def _check_replaceable(folder: Path) -> None:
    """Raise OptionError unless `folder` is absent, empty, or holds an earlier export and nothing else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OptionError(f"{folder}: is a file; an export is a folder: choose another --output")
    known = set()
    for path in find_sidecars(folder):
        try:
            files = read_sidecar(path)["files"].values()
        except ExportError as error:
            raise OptionError(
                f"{folder}: remove it or choose another --output; it cannot be replaced ({error})"
            ) from error
        known |= {path.name, *(entry["file"] for entry in files)}
    foreign = sorted(entry.name for entry in folder.iterdir() if entry.name not in known)
    if foreign:
        raise OptionError(f"{folder}: holds {foreign[0]}, which is of no export; choose another --output")
