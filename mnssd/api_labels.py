"""Functions of the package for labels: `mnssd.check_labels` and `mnssd.suggest`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from .api import PathLike, Run, path_of

if TYPE_CHECKING:
    from .tasks.check_labels import LabelCheck
    from .tasks.suggest import Suggestions


def check_labels(
    run: Union[Run, PathLike], data: Optional[PathLike] = None, number: int = 50, **options: Any
) -> LabelCheck:
    """Find labels that look wrong to a trained detector: missing, spurious, of another class, or loose.

    Parameters
    ----------
    run : Run, str or Path
        A detector; images that it was not trained on give better results.
    data : str or Path, optional
        Folder of the dataset; by default that of the run.
    number : int
        Most suspects, the most suspicious first; 0 for all.
    **options
        Options of `mnssd check-labels` by name: ``splits``, ``dataset``, ``ctx``.

    Returns
    -------
    LabelCheck
        Its `suspects` have `suspicion` (0 to 1), `fault`, `sample` (with `image_path`), the `row` of the
        label in it, and the `box` detected, in pixels counted from 0. `str` lists them.

    Raises
    ------
    MnssdError
        If the run or the dataset cannot be read, or the dataset has no object of the detector's classes.

    Examples
    --------
    >>> result = mnssd.check_labels("runs/photos", number=10)  # doctest: +SKIP
    >>> [one.sample.image_path for one in result.suspects]  # doctest: +SKIP
    """
    from .tasks.check_labels import check_labels as check

    return check(path_of(run), {**_data_root(data), "number": number, **options})


def suggest(
    run: Union[Run, PathLike],
    folder: PathLike,
    number: int = 50,
    data: Optional[PathLike] = None,
    **options: Any,
) -> Suggestions:
    """Choose which images to label next: those that a detector is unsure of, each different.

    Parameters
    ----------
    run : Run, str or Path
        A detector.
    folder : str or Path
        Images without labels.
    number : int
        How many images to choose.
    data : str or Path, optional
        Folder of the labeled images, if the run's dataset has moved.
    **options
        Options of `mnssd suggest` by name: ``ctx``.

    Returns
    -------
    Suggestions
        Its `images` are pairs of path and uncertainty, about the number of detections that may be right or
        wrong, the best image first.

    Raises
    ------
    MnssdError
        If the run cannot be read, or the folder has no image without labels.

    Examples
    --------
    >>> [path for path, _ in mnssd.suggest("runs/photos", "new", number=20).images]  # doctest: +SKIP
    """
    from .tasks.suggest import suggest as choose

    return choose(path_of(run), os.fspath(folder), {**_data_root(data), "number": number, **options})


def _data_root(data: Optional[PathLike]) -> Dict[str, str]:
    return {} if data is None else {"data_root": os.fspath(data)}
