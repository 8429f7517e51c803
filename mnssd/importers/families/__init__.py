"""Kinds of files that can be imported: one module each, registered here; a plugin registers more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, List, NamedTuple, Optional

from ...errors import ImportedFileError
from ...registry import Registry

if TYPE_CHECKING:  # `mnssd import --help` lists the families and imports nothing heavy
    import numpy as np

    from ..graph import ReadNetwork


class EngineOutputs(NamedTuple):
    """What an independent engine computes, with the file's columns and order of anchors.

    Class logits ``(N, A, C)`` and boxes ``(N, A, 4)`` of a detector; logits ``(N, C)`` of a classifier, and
    no boxes. `is_quantized` tells that the engine computes with 8-bit integers.
    """

    engine: str
    logits: np.ndarray
    boxes: Optional[np.ndarray]
    is_quantized: bool


class Family(ABC):
    """A kind of file.

    Attributes
    ----------
    name : str
    description : str
        One line for ``mnssd import --help``.
    engine : str
        Package of the independent engine, for pip; empty if there is none.
    """

    name: str
    description: str
    engine: str

    @abstractmethod
    def recognizes(self, path: str, start: bytes) -> bool:
        """Whether a file is of this kind, by its first bytes."""

    @abstractmethod
    def read(self, path: str) -> ReadNetwork:
        """Read a file; raises ImportedFileError that names what is damaged or unknown."""

    @abstractmethod
    def run_engine(self, path: str, read: ReadNetwork, images: np.ndarray) -> Optional[EngineOutputs]:
        """Run the file in an independent engine; None if it is not installed.

        `images` are ``(N, height, width, 3)`` uint8 RGB of the input's size.
        """


families: Registry[Family] = Registry("importer", "mnssd.importers.families")

START = 4096
"""Bytes that `Family.recognizes` gets."""


def family_of(path: str) -> Family:
    """The family that recognizes a file; ImportedFileError if it cannot be read, or none does."""
    try:
        with open(path, "rb") as file:
            start = file.read(START)
    except OSError as error:
        raise ImportedFileError(f"{path}: cannot be read ({error.strerror})") from error
    known: List[str] = []
    for family in families:
        if family.recognizes(path, start):
            return family
        known.append(family.description)
    raise ImportedFileError(f"{path}: not a file that can be imported; expected one of: {'; '.join(known)}")
