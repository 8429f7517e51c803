"""Balanced sampling: images with rare classes are used more often."""

from __future__ import annotations

from typing import Iterable, List, Sequence

import numpy as np

from ..options import listed


def class_frequencies(labels: Sequence[Iterable[int]], classes: int) -> np.ndarray:
    """``(C,)`` fraction of the images that have an object of each class, from the labels of each image."""
    counts = np.zeros(classes)
    for image in labels:
        counts[list(set(image))] += 1
    return counts / max(1, len(labels))


def repeat_factors(labels: Sequence[Iterable[int]], classes: int) -> np.ndarray:
    """How often each image is used per use of an image without rare classes.

    Repeat factor sampling (Gupta et al. 2019, "LVIS", section 5.2): the factor of a class in the fraction
    `f` of the images is ``max(1, sqrt(t / f))``, that of an image the largest of its classes. The threshold
    `t` is one by the number of classes: the frequency that a class has if each image shows one class and all
    are equally frequent. For the 1,203 classes of LVIS this is .0008; .001 was published.

    Parameters
    ----------
    labels : sequence of iterables of int
        The labels in each image, repeated or not.
    classes : int
        Number of classes.

    Returns
    -------
    numpy.ndarray
        ``(N,)`` float64, at least 1.

    Examples
    --------
    >>> repeat_factors([[0], [0], [0], [0], [0], [0], [0], [0, 1]], 2).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0]
    """
    factors = _class_factors(class_frequencies(labels, classes))
    return np.array([max([1.0, *(factors[label] for label in set(image))]) for image in labels])


def balance_note(labels: Sequence[Iterable[int]], names: Sequence[str]) -> str:
    """A line for the user: how often the images of each rare class are used."""
    factors = _class_factors(class_frequencies(labels, len(names)))
    rare: List[str] = [
        f"{name} {factor:.1f}"
        for factor, name in sorted(zip(factors, names), key=lambda pair: -pair[0])
        if factor > 1
    ]
    if not rare:
        return f"balanced sampling: no change, each class is in at least 1/{len(names)} of the images"
    return (
        f"balanced sampling: images with rare classes are used more often, by these factors: {listed(rare)}"
    )


def _class_factors(frequencies: np.ndarray) -> np.ndarray:
    """``(C,)`` repeat factors; 1 for classes without images."""
    present = frequencies > 0
    factors = np.ones(len(frequencies))
    factors[present] = np.maximum(1, np.sqrt(1 / len(frequencies) / frequencies[present]))
    return factors
