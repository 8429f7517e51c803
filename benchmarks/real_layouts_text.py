"""The folders that people have, made small: YOLO's labels, tables, CVAT's XML and GluonCV's record files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, List, Sequence

import mxnet as mx
import yaml
from real_layouts import CLASSES, SIZE, Box, Scene, objects_of, put, put_images, stem

# ---- YOLO


def yolo_row(box: Box, more: Sequence[float] = ()) -> str:
    label, x0, y0, x1, y1 = box
    numbers = (
        (x0 + x1 + 1) / 2 / SIZE[0],
        (y0 + y1 + 1) / 2 / SIZE[1],
        (x1 - x0 + 1) / SIZE[0],
        (y1 - y0 + 1) / SIZE[1],
    )
    return " ".join([str(CLASSES.index(label)), *(f"{number:.8f}" for number in (*numbers, *more))]) + "\n"


def polygon_row(box: Box) -> str:
    label, x0, y0, x1, y1 = box
    points = [(x0, y0), (x1 + 1, y0), (x1 + 1, y1 + 1), ((x0 + x1) / 2, y1 + 1), (x0, y1 + 1)]
    numbers = (f"{x / SIZE[0]:.8f} {y / SIZE[1]:.8f}" for x, y in points)
    return f"{CLASSES.index(label)} {' '.join(numbers)}\n"


def pose_row(box: Box) -> str:
    _, x0, y0, x1, y1 = box
    points = [
        (x0 + 2, y0 + 3, 2),
        (x1 - 1, y0 + 4, 2),
        (0, 0, 0),
        ((x0 + x1) / 2, y1 - 1, 1),
        (x0 + 1, y1, 2),
    ]
    return yolo_row(box, [value for x, y, seen in points for value in (x / SIZE[0], y / SIZE[1], seen)])


def labels_of(scene: Scene, name: str, row: Callable[[Box], str] = yolo_row) -> str:
    return "".join(map(row, scene.objects[name]))


def ultralytics(scene: Scene, folder: Path, row: Callable[[Box], str] = yolo_row, **more: Any) -> None:
    for split in ("train", "val"):
        put_images(scene, folder / "images" / split, scene.lists[split])
        for name in scene.lists[split]:
            put(folder / "labels" / split / f"{stem(name)}.txt", labels_of(scene, name, row))
    content = {"path": "../datasets/hats", "train": "images/train", "val": "images/val", "test": None,
               "names": dict(enumerate(CLASSES)), **more}  # fmt: skip
    put(folder / "hats.yaml" if more.get("own_name") else folder / "data.yaml", yaml.safe_dump(content))


def yolo_pose(scene: Scene, folder: Path) -> None:
    ultralytics(scene, folder, pose_row, kpt_shape=[5, 3])


def yolo_segmentation(scene: Scene, folder: Path) -> None:
    ultralytics(scene, folder, polygon_row)


def roboflow_yolo(scene: Scene, folder: Path) -> None:
    for split, place in (("train", "train"), ("val", "valid")):
        put_images(scene, folder / place / "images", scene.lists[split])
        for name in scene.lists[split]:
            put(folder / place / "labels" / f"{stem(name)}.txt", labels_of(scene, name))
    put(folder / "data.yaml", yaml.safe_dump({
        "train": "../train/images", "val": "../valid/images", "test": "../test/images", "nc": 2,
        "names": list(CLASSES), "roboflow": {"workspace": "made-up", "version": 1},
    }))  # fmt: skip


def darknet(scene: Scene, folder: Path) -> None:
    put(folder / "obj.names", "".join(f"{name}\n" for name in CLASSES))
    put(
        folder / "obj.data",
        "classes = 2\ntrain = data/train.txt\nvalid = data/test.txt\n"
        "names = data/obj.names\nbackup = backup/\n",
    )
    for split, file in (("train", "train.txt"), ("val", "test.txt")):
        put(folder / file, "".join(f"data/obj/{name}\n" for name in scene.lists[split]))
        put_images(scene, folder / "obj", scene.lists[split])
        for name in scene.lists[split]:
            put(folder / "obj" / f"{stem(name)}.txt", labels_of(scene, name))


def labels_beside_images(scene: Scene, folder: Path) -> None:
    put(folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    put_images(scene, folder)
    for name in scene.images:
        put(folder / f"{stem(name)}.txt", labels_of(scene, name))


# ---- tables


def csv_tutorial(scene: Scene, folder: Path) -> None:
    head = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
    for split, name in (("train", "train"), ("val", "test")):
        put_images(scene, folder / "images" / name, scene.lists[split])
        rows = [[file, *SIZE, box[0], *(n + 1 for n in box[1:])] for file, box in objects_of(scene, split)]
        put(folder / f"{name}_labels.csv", [head, *rows])


def keras_retinanet(scene: Scene, folder: Path) -> None:
    """Boxes from the first to behind the last pixel, as its generator cuts them."""
    put_images(scene, folder / "images")
    for split in ("train", "val"):
        rows = [
            [f"images/{file}", x0, y0, x1 + 1, y1 + 1, label]
            for file, (label, x0, y0, x1, y1) in objects_of(scene, split)
        ]
        put(folder / f"{split}_annotations.csv", rows)
    put(folder / "classes.csv", [[name, number] for number, name in enumerate(CLASSES)])


def openimages(scene: Scene, folder: Path) -> None:
    head = ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsOccluded",
            "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"]  # fmt: skip
    codes = {"hat": "/m/02dl1y", "person": "/m/01g317"}
    put(folder / "class-descriptions-boxable.csv", [[code, name] for name, code in codes.items()])
    for split, name in (("train", "train"), ("val", "validation")):
        put_images(scene, folder / name, scene.lists[split])
        rows = [
            [stem(file), "xclick", codes[label], 1, x0 / SIZE[0], (x1 + 1) / SIZE[0], y0 / SIZE[1],
             (y1 + 1) / SIZE[1], 0, 0, 0, 0, 0]
            for file, (label, x0, y0, x1, y1) in objects_of(scene, split)
        ]  # fmt: skip
        put(folder / f"{name}-annotations-bbox.csv", [head, *rows])


def vott(scene: Scene, folder: Path) -> None:
    put_images(scene, folder)
    rows = [
        [n, *map(float, box[1:3]), *(float(v + 1) for v in box[3:]), box[0]]
        for n in scene.images
        for box in scene.objects[n]
    ]
    put(folder / "hats-export.csv", [["image", "xmin", "ymin", "xmax", "ymax", "label"], *rows])


def automl(scene: Scene, folder: Path) -> None:
    put_images(scene, folder / "images")
    rows = []
    for split, role in (("train", "TRAIN"), ("val", "VALIDATION"), ("test", "TEST")):
        for file, (label, x0, y0, x1, y1) in objects_of(scene, split):
            left, top, right, bottom = x0 / SIZE[0], y0 / SIZE[1], (x1 + 1) / SIZE[0], (y1 + 1) / SIZE[1]
            rows.append([role, f"gs://bucket/hats/{file}", label, left, top, "", "", right, bottom, "", ""])
    put(folder / "hats.csv", rows)


def via(scene: Scene, folder: Path) -> None:
    head = ["filename", "file_size", "file_attributes", "region_count", "region_id",
            "region_shape_attributes", "region_attributes"]  # fmt: skip
    rows = []
    for file in scene.images:
        for number, (label, x0, y0, x1, y1) in enumerate(scene.objects[file]):
            shape = {"name": "rect", "x": x0, "y": y0, "width": x1 - x0 + 1, "height": y1 - y0 + 1}
            rows.append([file, len(scene.images[file]), "{}", len(scene.objects[file]), number,
                         json.dumps(shape), json.dumps({"class": label})])  # fmt: skip
    put_images(scene, folder)
    put(folder / "via_region_data.csv", [head, *rows])


# ---- CVAT and GluonCV


def cvat_xml(scene: Scene, folder: Path) -> None:
    put_images(scene, folder / "images")
    images = ""
    for number, name in enumerate(scene.images):
        boxes = "".join(
            f'<box label="{label}" source="manual" occluded="0" xtl="{x0:.2f}" ytl="{y0:.2f}" '
            f'xbr="{x1 + 1:.2f}" ybr="{y1 + 1:.2f}" z_order="0"></box>'
            for label, x0, y0, x1, y1 in scene.objects[name]
        )
        images += f'<image id="{number}" name="{name}" width="{SIZE[0]}" height="{SIZE[1]}">{boxes}</image>'
    labels = "".join(f"<label><name>{name}</name><attributes></attributes></label>" for name in CLASSES)
    head = f"<version>1.1</version><meta><task><name>hats</name><labels>{labels}</labels></task></meta>"
    put(
        folder / "annotations.xml",
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{head}{images}</annotations>',
    )


def gluoncv_label(scene: Scene, name: str) -> List[float]:
    values: List[float] = [4, 5, *SIZE]
    for label, x0, y0, x1, y1 in scene.objects[name]:
        values += [CLASSES.index(label), x0 / SIZE[0], y0 / SIZE[1], x1 / SIZE[0], y1 / SIZE[1]]
    return values


def gluoncv_record(scene: Scene, folder: Path) -> None:
    put(folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    for split in ("train", "val"):
        record = mx.recordio.MXIndexedRecordIO(
            str(folder / f"{split}.idx"), str(folder / f"{split}.rec"), "w"
        )
        for number, name in enumerate(scene.lists[split]):
            header = mx.recordio.IRHeader(0, gluoncv_label(scene, name), number, 0)
            record.write_idx(number, mx.recordio.pack(header, scene.images[name]))
        record.close()


def gluoncv_list(scene: Scene, folder: Path) -> None:
    put(folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    put_images(scene, folder)
    for split in ("train", "val"):
        rows = [
            "\t".join([str(number), *(f"{value:.8f}" for value in gluoncv_label(scene, name)), name]) + "\n"
            for number, name in enumerate(scene.lists[split])
        ]
        put(folder / f"{split}.lst", "".join(rows))
