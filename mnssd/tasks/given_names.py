"""Options that names mean in the Python API: of a dataset or its folder, and of a network."""

from __future__ import annotations

import os
from typing import Any, Dict, Optional, Union

from .. import zoo
from ..data.classification import CLASSIFICATION_ROOTS
from ..data.formats import dataset_names
from ..errors import OptionError
from .given_datasets import is_object


def data_options_of(data: Union[str, os.PathLike[str], None], task: str) -> Dict[str, Any]:
    """``dataset`` or ``data_root``, whichever `data` is."""
    if data is None:
        return {}
    if is_object(data):
        raise OptionError(
            f"data: a {type(data).__name__}; for a classifier give the name of a dataset, or a folder with a "
            "folder of images per class"
        )
    name = os.fspath(data)
    if name in (dataset_names() if task == "detection" else CLASSIFICATION_ROOTS):
        return {"dataset": name}
    return {"data_root": name} if task == "detection" else {"dataset": "folder", "data_root": name}


def model_options_of(model: Optional[str], task: str) -> Dict[str, Any]:
    """Options that the name of a network means; OptionError if it is for the other task."""
    if model is None:
        return {}
    parts = zoo.parse_name(model)
    if task == "detection" and not parts.head:
        raise OptionError(f"model {model!r} is a classifier; expected a detector, such as ssd_300_{model}")
    if task == "classification" and parts.head:
        raise OptionError(f"model {model!r} is a detector; expected a classifier, such as {parts.network}")
    return parts._asdict() if parts.head else {"network": parts.network, "width": parts.width}
