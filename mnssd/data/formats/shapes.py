"""The built-in synthetic dataset, rendered on first use, in Pascal VOC layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

from ...errors import OptionError
from ..annotations.annotation import AnnotationList
from ..annotations.voc_folder import LISTS
from ..shapes.dataset import make_shapes
from . import Format, formats
from .voc import read_folder


class ShapesFormat(Format):
    """The built-in dataset; on disk a folder in VOC layout, which is recognized as such."""

    name = "shapes"
    description = "the built-in synthetic dataset, rendered on first use"
    layout = ""
    copies_as = "voc"

    def lists(self, root: Path) -> Dict[str, Any]:
        return {name: root / LISTS / f"{name}.txt" for name in ("train", "val")}

    def evidence(self, root: Path) -> str:
        return ""

    def read_annotations(self, root: Path, split: str) -> AnnotationList:
        """Annotations of one list; a missing dataset is rendered, one with other settings is accepted."""
        if not root.is_dir() or not any(root.iterdir()):
            make_shapes(root)
        return read_folder(root, split)

    def download(self, root: Path, splits: str, progress: bool = False) -> None:
        raise OptionError("the shapes dataset is rendered, not downloaded; omit --download")


formats.register(ShapesFormat.name, ShapesFormat())
