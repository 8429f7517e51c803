"""GluonCV's own dataset of the images of a `Dataset` that has been read from a folder."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any, Dict, List, Tuple

from ..dataset import Dataset


def gluoncv_dataset(dataset: Dataset, splits: str, root: str) -> Tuple[Any, List[str]]:
    """`VOCDetection` or `COCODetection` of a dataset, and the paths of its images.

    None if it is neither, or GluonCV 0.10.5 cannot read it. Both have the classes of `dataset`, in its order.
    GluonCV's `VOCDetection` takes names in lower case only, its `COCODetection` those of the file in their
    order.

    Parameters
    ----------
    dataset : Dataset
    splits : str
        Image lists, joined by ``+``.
    root : str
        Folder of the dataset.
    """
    wanted = {os.path.abspath(sample.image_path) for sample in dataset}
    for make in (_voc, _coco):
        try:
            made, paths = make(dataset, splits, root)
        except Exception:  # of many types, for files that are read here, such as XML without <difficult>
            continue
        if made is not None and wanted <= set(map(os.path.abspath, paths)):
            return made, paths
    return None, []


def _voc(dataset: Dataset, *_: str) -> Tuple[Any, List[str]]:
    from gluoncv.data import VOCDetection

    paths = [Path(sample.image_path) for sample in dataset]
    items = [(str(path.parent.parent), path.stem) for path in paths]
    is_voc = all(
        path.parent.name == "JPEGImages" and path.suffix == ".jpg"
        and Path(folder, "Annotations", f"{stem}.xml").is_file()
        for path, (folder, stem) in zip(paths, items)
    )  # fmt: skip
    if not is_voc or not all(name.islower() for name in dataset.classes):
        return None, []
    members = {"CLASSES": tuple(dataset.classes), "_load_items": lambda self, _: items}
    return type("VOC", (VOCDetection,), members)(root=items[0][0], splits=()), list(map(str, paths))


def _coco(dataset: Dataset, splits: str, root: str) -> Tuple[Any, List[str]]:
    from gluoncv.data import COCODetection

    from ..formats import formats

    lists = formats["coco"].lists(Path(root))
    names = [split.split(":")[0] for split in splits.split("+")]  # train:train is its part for training
    files = [Path(lists[name]) for name in names if name in lists]
    by_name = {os.path.basename(sample.image_path): sample.image_path for sample in dataset}
    if len(files) != len(names) or len(by_name) < len(dataset):
        return None, []

    def image_path(_: Any, entry: Dict[str, Any]) -> str:
        # Images that are not used, such as held out ones, get the path of a file that exists.
        return by_name.get(os.path.basename(str(entry["file_name"])), str(files[0]))

    members = {
        "CLASSES": list(dataset.classes), "_parse_image_path": image_path,
        "annotation_dir": str(files[0].parent.absolute()),
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):  # of pycocotools
        made = type("COCO", (COCODetection,), members)(
            root=root, splits=[file.stem for file in files], skip_empty=False
        )
    return made, list(made._items)
