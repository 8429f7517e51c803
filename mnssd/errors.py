"""Exceptions for errors that the user can fix.

Each message names the file or option and what to do. The command line prints the message and exits with
`exit_code`; ``--debug`` adds the traceback.
"""

from __future__ import annotations


class MnssdError(Exception):
    """Base class: invalid input, invalid options or an unsuitable environment."""

    exit_code = 1


class OptionError(MnssdError):
    """An invalid option or combination of options."""

    exit_code = 2


class DataError(MnssdError):
    """An invalid dataset, annotation or image."""


class ImageError(DataError):
    """An image file that cannot be decoded completely."""


class TransformError(DataError):
    """A transform of the user that failed on an image, perhaps only with the random numbers of this time."""


class WeightsError(MnssdError):
    """A weights file that is damaged or belongs to another network."""


class ExportError(MnssdError):
    """A failed export, or one whose output differs from the network's."""


class DownloadError(MnssdError):
    """A failed download, or one with unexpected content."""


class ImportedFileError(MnssdError):
    """A file of another framework that is damaged, or holds a network that is not a MobileNet-SSD."""
