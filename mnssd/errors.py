"""The errors this package raises on purpose. Their text is for the person at the keyboard.

Each message names the file or option at fault and what to do next. The command line prints the
text alone and exits with `exit_code`; `--debug` adds the traceback.
"""

from __future__ import annotations


class MnssdError(Exception):
    """Something the user can mend: bad input, a bad option, a bad environment."""

    exit_code = 1


class OptionError(MnssdError):
    """An option, or a combination of options, that makes no sense."""

    exit_code = 2


class DataError(MnssdError):
    """A dataset, an annotation or an image that cannot be used."""


class ImageError(DataError):
    """One image file that cannot be decoded whole."""


class WeightsError(MnssdError):
    """A parameter file that is damaged or belongs to another network."""


class ExportError(MnssdError):
    """An export that failed, or that does not answer as the network does."""


class DownloadError(MnssdError):
    """A download that failed, or whose content is not what was expected."""
