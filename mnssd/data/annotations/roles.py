"""What the lists of a dataset are for, judged by their names: training, validation or testing."""

from __future__ import annotations

import re
from typing import Dict, List, Sequence

from ...errors import DataError

_WORDS: Dict[str, str] = {
    **dict.fromkeys(("train", "training", "trn", "trainset", "trainval", "trainvalid"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "minival", "valset", "eval"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "testset", "testdev"), "test"),
}
ROLES = ("train", "val", "test")


def role_of(name: str) -> str:
    """One of `ROLES`, or an empty string if the name does not tell.

    A word for testing decides first, then one for training: ``test-dev`` is a test list, ``train_val`` a
    training list.

    Examples
    --------
    >>> [role_of(name) for name in ("instances_Train", "valid", "TEST2017", "all")]
    ['train', 'val', 'test', '']
    """
    parts = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)  # camel case
    roles = {_WORDS.get(word, "") for word in re.findall(r"[a-z]+", parts.lower())}
    return next((role for role in ("test", "train", "val") if role in roles), "")


def default_list(names: Sequence[str], role: str) -> str:
    """The list for training or validation among `names`, if the user names none.

    Returns ``LIST:train`` or ``LIST:val``, parts of a list, if no list is for validation. Raises DataError if
    no list is for training, or the names do not tell which.

    Parameters
    ----------
    role : str
        ``'train'`` or ``'val'``.
    """
    by_role: Dict[str, List[str]] = {key: [n for n in names if role_of(n) == key] for key in ("", *ROLES)}
    held_out = by_role["val"] or by_role["test"]
    if role == "val" and held_out:
        return _preferred(held_out)
    candidates = by_role["train"] or by_role[""]
    if not candidates:
        raise DataError(f"no list to train on, only {', '.join(names)}; name one with --train-splits")
    train = _preferred(candidates)
    if len(candidates) > 1 and role_of(train) != train.lower() and not _is_part_of(candidates):
        raise DataError(
            f"which of the lists {', '.join(candidates)} is for training? Name it with --train-splits (and "
            "--val-splits); + joins several"
        )
    return train if held_out else f"{train}:{role}"


def _preferred(names: Sequence[str]) -> str:
    """``train``, ``val`` or ``test`` itself if it is among the names, else the shortest, then first name."""
    return min(names, key=lambda name: (name.lower() not in ROLES, len(name), names.index(name)))


def _is_part_of(names: Sequence[str]) -> bool:
    """Whether the names are ``PREFIX_train`` and ``PREFIX_trainval``: the first is part of the second."""
    return len({re.sub("val(id)?$", "", name.lower()) for name in names}) == 1
