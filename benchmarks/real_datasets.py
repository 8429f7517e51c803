"""Public layouts of datasets, made small: `check-data`, a training epoch and `convert-data` with each.

    python benchmarks/real_datasets.py [--only TEXT] [--keep FOLDER]

Prints the table of REAL-DATASETS.md. Every layout has the same images and boxes, which are known, so that
each box that is read, and each that has been converted to COCO and back, can be compared.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import platform
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Tuple

import cv2
import mxnet as mx
import numpy as np
import PIL
import real_layouts as layouts
import real_layouts_text as text_layouts
from real_layouts import Scene

import mnssd
from mnssd.cli.main import main as run_command
from mnssd.data.formats import Format, formats
from mnssd.data.image import read_bytes
from mnssd.data.open import read_lists, recognize
from mnssd.runtime import processor

TINY = {"width": 0.25, "size": (96, 96), "batch_size": 2, "workers": 0, "val_interval": 1}
"""Options of the training epoch."""

Boxes = Dict[str, List[Tuple[float, ...]]]
"""By the digest of the image file: label and corners of its objects, sorted."""


def one_folder_down(scene: Scene, folder: Path) -> None:
    layouts.official_coco(scene, folder / "download/coco")


def nothing_recognizable(scene: Scene, folder: Path) -> None:
    layouts.put_images(scene, folder / "pictures")
    layouts.put(folder / "boxes.docx", b"PK\3\4")


class Layout(NamedTuple):
    """Name in the table, function that writes it, and its lists; without lists it is to be refused."""

    name: str
    write: Callable[[Scene, Path], None]
    lists: Tuple[str, ...]


ALL, TWO, NONE = ("train", "val", "test"), ("train", "val"), ()
LAYOUTS = (
    Layout("Pascal devkit, VOC2012", layouts.devkit, ALL),
    Layout("devkit of another year and other classes", layouts.devkit_of_another_year, ALL),
    Layout("Roboflow, Pascal VOC", layouts.roboflow_voc, ALL),
    Layout("XML beside images in train and test", layouts.xml_in_train_and_test, ALL),
    Layout("Oxford pets, annotations/xmls", layouts.oxford_pets, ALL),
    Layout("official COCO with captions and keypoints", layouts.official_coco, TWO),
    Layout("CVAT, COCO", layouts.cvat_coco, ALL),
    Layout("Roboflow, COCO", layouts.roboflow_coco, ALL),
    Layout("COCO, one image entry per annotation", layouts.coco_entry_per_annotation, TWO),
    Layout("COCO, segmentation only", layouts.coco_segmentation_only, TWO),
    Layout("Ultralytics YOLO, path elsewhere", text_layouts.ultralytics, TWO),
    Layout("Roboflow, YOLO without test", text_layouts.roboflow_yolo, TWO),
    Layout("darknet, obj.data", text_layouts.darknet, TWO),
    Layout("YOLO pose", text_layouts.yolo_pose, TWO),
    Layout("YOLO segmentation", text_layouts.yolo_segmentation, TWO),
    Layout("YOLO labels beside images", text_layouts.labels_beside_images, ALL),
    Layout("CSV of the TensorFlow tutorial", text_layouts.csv_tutorial, TWO),
    Layout("CSV, keras-retinanet", text_layouts.keras_retinanet, TWO),
    Layout("CSV, Open Images", text_layouts.openimages, TWO),
    Layout("CSV, VoTT", text_layouts.vott, ALL),
    Layout("CSV, AutoML", text_layouts.automl, ALL),
    Layout("CSV, VIA", text_layouts.via, ALL),
    Layout("CVAT for images, XML", text_layouts.cvat_xml, ALL),
    Layout("GluonCV, record files", text_layouts.gluoncv_record, TWO),
    Layout("GluonCV, list files", text_layouts.gluoncv_list, TWO),
    Layout("one folder down", one_folder_down, NONE),
    Layout("nothing recognizable", nothing_recognizable, NONE),
)


class Result(NamedTuple):
    """Cells of a row of the table, and messages on what was not as it should be."""

    cells: Tuple[str, ...]
    remarks: List[str]


def known_boxes(scene: Scene, layout: Layout) -> Boxes:
    """The boxes that a layout holds."""
    names = {"hat": "dog"} if layout.write is layouts.devkit else {}
    return {
        digest(scene.images[name]): sorted(
            (names.get(label, label), *map(float, corners)) for label, *corners in scene.objects[name]
        )
        for split in layout.lists
        for name in scene.lists[split]
    }


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_boxes(dataset_format: Format, root: Path) -> Boxes:
    """The boxes of all lists of a dataset."""
    boxes: Boxes = {}
    for dataset in read_lists(dataset_format, root, None, None).values():
        for sample in dataset:
            rows = [
                (dataset.classes[label], *map(float, box)) for label, box in zip(sample.labels, sample.boxes)
            ]
            boxes.setdefault(digest(read_bytes(sample.image_path)), []).extend(sorted(rows))
    return boxes


def difference(boxes: Boxes, known: Boxes) -> str:
    """What differs by more than a hundredth of a pixel; empty if nothing does."""
    if boxes.keys() != known.keys():
        found, others = boxes.keys() & known.keys(), boxes.keys() - known.keys()
        return f"{len(found)} of {len(known)} images, {len(others)} others"
    for key, rows in known.items():
        if [row[0] for row in boxes[key]] != [row[0] for row in rows]:
            return f"objects {boxes[key]} instead of {rows}"
        if np.abs(np.array([r[1:] for r in boxes[key]]) - np.array([r[1:] for r in rows])).max() > 0.01:
            return f"boxes {boxes[key]} instead of {rows}"
    return ""


def misplaced(dataset_format: Format, root: Path, scene: Scene) -> str:
    """What is wrong with the default lists: training on images for evaluation, or none to evaluate on."""
    lists = [dataset_format.default_splits(root, role) for role in ("train", "val")]
    train, val = (
        {digest(read_bytes(sample.image_path)) for sample in dataset_format.read(root, splits)}
        for splits in lists
    )
    test = scene.lists["test"]
    wrong = [name for name in test if digest(scene.images[name]) in train]
    if not val or train & val or (wrong and ":" not in lists[0]):
        return f"training list {lists[0]}, evaluation list {lists[1]}, images in the wrong one: {wrong}"
    return ""


def command(*words: str) -> Tuple[int, str]:
    """Exit status and output of a command."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = run_command(list(words))
    return status, output.getvalue().strip()


def train(root: Path, output: Path) -> str:
    """Train for an epoch; the message of the error, if any."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            mnssd.train_detector(data=root, epochs=1, output=output, **TINY)
        except mnssd.errors.MnssdError as error:
            return str(error)
    return ""


def convert_and_back(dataset_format: Format, root: Path, work: Path, known: Boxes) -> Tuple[str, str]:
    """Formats of the conversions and "exact" or not; and what differs."""
    own = dataset_format.name if dataset_format.writable else "voc"
    for source, target, name in ((root, work / "coco", "coco"), (work / "coco", work / "back", own)):
        status, output = command("convert-data", str(source), str(target), "--format", name)
        if status:
            return f"{name} refused", f"convert-data to {name}: {output.splitlines()[-1]}"
        unequal = difference(read_boxes(formats[name], target), known)
        if unequal:
            return f"{name} not exact", f"converted to {name}: {unequal}"
    return f"coco, {own}: exact", ""


def try_layout(layout: Layout, scene: Scene, work: Path) -> Result:
    """Write a layout to a folder and try everything with it."""
    root, known = work / "dataset", known_boxes(scene, layout)
    layout.write(scene, root)
    status, output = command("check-data", str(root), "--no-estimate")
    try:
        dataset_format, _ = recognize(root)
        unequal = difference(read_boxes(dataset_format, root), known)
        lists = misplaced(dataset_format, root, scene)
    except mnssd.errors.MnssdError as error:
        refusal = train(root, work / "run")
        remarks = [f"check-data: {error}"] + ([] if refusal else ["training was not refused"])
        return Result((f"refused, {status}", "-", "refused" if refusal else "trained", "-"), remarks)
    refusal = train(root, work / "run")
    converted, unequal_converted = convert_and_back(dataset_format, root, work, known)
    remarks = [f"boxes: {unequal}"] if unequal else []
    remarks += [f"check-data: {output}"] if status else []
    remarks += [f"training: {refusal}"] if refusal else []
    remarks += [f"lists: {lists}"] if lists else []
    remarks += [unequal_converted] if unequal_converted else []
    cells = (f"{dataset_format.name}, {status}", "no" if unequal else f"yes, {sum(map(len, known.values()))}")
    trained = "refused" if refusal else "wrong lists" if lists else "yes"
    return Result((*cells, trained, converted), remarks)


def main() -> None:
    """Print the table, and below it what was not as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="layouts whose name contains this")
    parser.add_argument("--keep", type=Path, help="new folder for the datasets; default: deleted")
    args = parser.parse_args()
    scene, remarks = layouts.make_scene(), []
    print("| layout | read as, exit status of `check-data` | boxes exact | training | to COCO and back |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for number, layout in enumerate(LAYOUTS):
            if args.only.lower() not in layout.name.lower():
                continue
            work = (args.keep or Path(temporary)) / f"{number:02}"
            result = try_layout(layout, scene, work)
            print(f"| {layout.name} | {' | '.join(result.cells)} |", flush=True)
            remarks += [f"{layout.name}: {remark}" for remark in result.remarks]
    modules = {"MXNet": mx, "NumPy": np, "OpenCV": cv2, "Pillow": PIL}
    versions = ", ".join(f"{name} {module.__version__}" for name, module in modules.items())
    print(
        f"\n{processor.model()}, {processor.usable_cores()} cores, Python {platform.python_version()}, ",
        end="",
    )
    print(versions)
    print("".join(f"\n- {remark}" for remark in remarks))


if __name__ == "__main__":
    sys.exit(main())
