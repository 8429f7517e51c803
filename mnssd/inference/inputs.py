"""Files that the inputs of `mnssd detect` stand for: folders, patterns and single files."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

from ..data.image_files import files_below, is_drawing, is_image_file, is_unknown_file, is_unreadable_image
from ..errors import ImageError
from ..files import printable
from .video import is_address, is_camera, is_video_file


class Input(NamedTuple):
    """Path of an image or video, a camera or an address; or what cannot be read, and the reason."""

    path: str
    error: Optional[ImageError] = None


def expand(entries: Sequence[str], note: Callable[[str], object]) -> Iterator[Input]:
    """The inputs one by one, in an order that depends on the file names only.

    Parameters
    ----------
    entries : sequence of str
        Files; folders, for all images and videos below them; patterns, see `match_pattern`; cameras;
        addresses.
    note : callable
        Called with a sentence about what is left out of an entry: drawings by `mnssd detect`, files of an
        unknown kind, and links to folders.

    Yields
    ------
    Input
        With an error for a folder that cannot be read, and for an entry without an image or video.
    """
    for entry in entries:
        left_out: Dict[str, List[str]] = defaultdict(list)
        if is_address(entry) or is_camera(entry):
            inputs: Iterable[Input] = [Input(entry)]
        elif os.path.isdir(entry):
            inputs = _in_folder(entry, left_out)
        elif not os.path.lexists(entry) and glob.has_magic(entry):
            inputs = _in_pattern(entry, left_out)
        elif is_drawing(entry):
            left_out[_DRAWING].append(entry)
            inputs = []
        else:
            inputs = [Input(entry)]
        is_empty = True
        for item in inputs:
            is_empty = False
            yield item
        reasons = ", ".join(f"{reason} ({_counted(paths)})" for reason, paths in left_out.items() if paths)
        if is_empty and not left_out[_DRAWING]:
            problem = f"{entry}: no image or video" + (f"; left out: {reasons}" if reasons else "")
            yield Input(entry, ImageError(problem))
        elif reasons:
            note(f"{entry}: left out: {reasons}")


_DRAWING, _UNKNOWN, _LINK = "drawings by mnssd detect", "files of an unknown kind", "links to folders"
_NAMED = 3  # files that a note names


def _counted(paths: Sequence[str]) -> str:
    names = [printable(os.path.basename(path)) for path in paths[:_NAMED]]
    return f"{len(paths)}: {', '.join(names)}{', ...' if len(paths) > _NAMED else ''}"


def _in_folder(folder: str, left_out: Dict[str, List[str]]) -> Iterator[Input]:
    """Images and videos below a folder, then its subfolders that cannot be read.

    Images of kinds that cannot be read are among them, so that they are reported. Links to folders are not
    followed, as they may form loops.
    """
    errors: List[OSError] = []
    yield from map(Input, _images(files_below(folder, on_error=errors.append), left_out))
    yield from map(_unreadable, errors)
    for place, names, _ in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        left_out[_LINK] += filter(os.path.islink, (os.path.join(place, name) for name in names))


def _in_pattern(pattern: str, left_out: Dict[str, List[str]]) -> Iterator[Input]:
    """Images and videos that a pattern matches, and those below the folders that its last part matches."""
    errors: List[OSError] = []
    for path in match_pattern(pattern, errors.append):
        if not os.path.isdir(path):
            yield from map(Input, _images([path], left_out))
        elif os.path.basename(pattern) != "**":
            yield from _in_folder(path, left_out)
    yield from map(_unreadable, errors)


def match_pattern(pattern: str, on_error: Callable[[OSError], object] = lambda error: None) -> List[str]:
    """Sorted paths that match a pattern of ``*``, ``?``, ``[abc]`` and ``**``, as in a shell.

    Part by part, from the left: a part that is the name of an existing file or folder is no pattern, and
    brackets that match nothing are part of the name, as in ``photos [2024]/*.jpg``. `on_error` is called with
    the error of each folder that cannot be read.
    """
    parts = pattern.split(os.sep)
    bases = [""]
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        bases = list(
            dict.fromkeys(path for base in bases for path in _match_part(base, part, is_last, on_error))
        )
    return sorted(bases)


def _match_part(base: str, part: str, is_last: bool, on_error: Callable[[OSError], object]) -> List[str]:
    """Paths in the folder `base`, which ends with a separator or is empty, that match one part."""
    end = "" if is_last else os.sep
    if not part or os.path.lexists(base + part):
        return [base + part + end] if is_last or not part or os.path.isdir(base + part) else []
    folders = [base]
    if part == "**":
        folders = list(_folders_below(base, on_error))
        if not is_last:
            return folders
        part = "*"
    else:
        _check_readable(base, on_error)
    for pattern in (part, part.replace("[", "[[]")):
        found = [path for folder in folders for path in glob.glob(glob.escape(folder) + pattern + end)]
        if found:
            return found
    return []


def _folders_below(base: str, on_error: Callable[[OSError], object]) -> Iterator[str]:
    """A folder and those below it that are not hidden, each with a separator at its end."""
    for place, names, _ in os.walk(base or os.curdir, onerror=on_error):
        names[:] = sorted(name for name in names if not name.startswith("."))
        below = os.path.relpath(place, base or os.curdir)
        yield base if below == os.curdir else os.path.join(base, below, "")


def _check_readable(folder: str, on_error: Callable[[OSError], object]) -> None:
    try:
        os.scandir(folder or os.curdir).close()
    except OSError as error:
        on_error(error)


def _images(paths: Iterable[str], left_out: Dict[str, List[str]]) -> Iterator[str]:
    """The images and videos of `paths`; drawings and unknown files are added to `left_out`."""
    for path in paths:
        if is_video_file(path) or is_image_file(path) or is_unreadable_image(path):
            if is_drawing(path):
                left_out[_DRAWING].append(path)
            else:
                yield path
        elif is_unknown_file(path):
            left_out[_UNKNOWN].append(path)


def _unreadable(error: OSError) -> Input:
    folder = os.fsdecode(error.filename)
    problem = f"{folder}: folder cannot be read ({error.strerror}); change its permissions, or move it away"
    return Input(folder, ImageError(problem))
