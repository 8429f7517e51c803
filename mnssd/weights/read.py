"""Reading a weights file of any known kind."""

from __future__ import annotations

from typing import List

from ..errors import WeightsError
from . import content
from .content import OtherContent
from .params import read_params
from .prefixes import select_network
from .state_dict import StateDict, is_pickle, is_safetensors, read_checkpoint


def require_weights(path: str) -> None:
    """Raise WeightsError if the file is missing, before a dataset is read or rendered in vain."""
    problem = content.describe_missing(path)
    if problem:
        raise WeightsError(f"{path}: {problem}")


def read_weights(path: str) -> StateDict:
    """Read an MXNet parameter file, a PyTorch checkpoint or a safetensors file: its first bytes tell which.

    Floating-point arrays become float32. Prefixes of wrappers are removed, see `select_network`.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or incomplete, or holds something else; the message says what.
    """
    require_weights(path)
    try:
        with open(path, "rb") as file:
            start = file.read(content.START)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    notes: List[str] = []
    try:
        if start[:8] == content.PARAMS_MAGIC and not is_safetensors(start):
            arrays = content.as_float32(read_params(path))
            content.require_floats(arrays)
        elif is_safetensors(start) or start[:2] == b"PK" or is_pickle(start):
            arrays, notes = read_checkpoint(path)
        else:
            raise OtherContent(content.describe_file(path, start))
        arrays, more = select_network(arrays)
    except OtherContent as error:
        raise WeightsError(f"{path}: {error}") from error
    return StateDict(arrays, [*notes, *more])
