"""Names of images in tables and lists, which may lack the ending or be addresses."""

from __future__ import annotations

import re

from .annotation import AnnotationError
from .paths import ImageFinder


def find_image(finder: ImageFinder, name: str) -> str:
    """Path of an image by its name with or without ending, or by an address with that name.

    Raises AnnotationError if there is no such image, or several, in the dataset's folder.
    """
    if "://" in name:
        name = re.sub(r"[?#].*", "", name)
    try:
        return finder.find(name)
    except AnnotationError as error:
        if error.code != "image-missing":
            raise
        try:
            return finder.find_stem(name)
        except AnnotationError:
            raise error from None
