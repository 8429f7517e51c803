"""From a file of another framework to a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence

from ..errors import OptionError
from ..options import listed
from .families import family_of
from .labels import choose_columns
from .network import Spec, build
from .proof import prove, resized

SAVED_MODEL = "saved_model.pb"
"""Name of the graph in the folder of a SavedModel."""


@dataclass
class ImportedRun:
    """A run folder, and what was found and compared, for the user."""

    path: Path
    lines: List[str]


def import_file(
    file: str,
    labels: Optional[str] = None,
    output: Optional[str] = None,
    images: Optional[Sequence[str]] = None,
) -> ImportedRun:
    """Read a network of another framework, compare it with its file, and write it as a run folder.

    Parameters
    ----------
    file : str
        A file of one of the `families`, or the folder of a SavedModel.
    labels : str, optional
        Names of the classes: a text file with one per line, or a ``.pbtxt`` label map.
    output : str, optional
        Folder to write, which must not exist or be empty; by default ``runs/`` and the name of the file.
    images : sequence of str, optional
        Image files to compare on; by default generated images.

    Raises
    ------
    ImportedFileError
        If a file cannot be read, is damaged, or holds a network that has no equal here.
    OptionError
        If `output` is not empty, or a package that reading needs is missing.
    """
    if (Path(file) / SAVED_MODEL).is_file():
        file = str(Path(file) / SAVED_MODEL)
    folder = Path(output or Path("runs") / Path(file).stem)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(f"{folder}: exists already; choose another --output")
    family = family_of(file)
    read = family.read(file)
    read.check(file)
    names = choose_columns(labels, read)
    net, spec = build(read, names.names, names.columns, file)
    proof = prove(net, read, names.columns, family, file, resized(images, read.size))
    what = f"{read.source}: {spec.describe()}, {len(spec.classes)} classes"
    if labels is None and read.names:
        read.notes.append(
            f"the classes are taken to be {listed(read.names)}; --labels gives them other names"
        )
    elif labels is None:
        read.notes.append("without --labels the classes are called by the numbers of their columns")
    path = _write(net, spec, folder)
    return ImportedRun(path, [what, *(f"note: {note}" for note in read.notes), *proof])


def _write(net: Any, spec: Spec, folder: Path) -> Path:
    from ..tasks.save_run import save_classifier_run, save_run
    from ..zoo import DetectorSpec

    if isinstance(spec, DetectorSpec):
        return save_run(net, str(folder), {})
    return save_classifier_run(net, spec, str(folder))
