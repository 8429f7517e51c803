"""The folders that people have, made small: VOC and COCO as public datasets and tools lay them out.

Each function writes the same `Scene`, images with known boxes, to a folder. `real_layouts_text` has the rest.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

import cv2
import numpy as np

CLASSES = ("hat", "person")
SIZE = (96, 80)

Box = Tuple[str, int, int, int, int]
"""Class, and first and last column and row, counted from 0."""


class Scene(NamedTuple):
    """Image files by name, their objects, and the names by list."""

    images: Dict[str, bytes]
    objects: Dict[str, List[Box]]
    lists: Dict[str, List[str]]


def make_scene(train: int = 6, val: int = 2, test: int = 2) -> Scene:
    """Images with one to three rectangles, of which two of each image never overlap."""
    rng = np.random.default_rng(27)
    images: Dict[str, bytes] = {}
    objects: Dict[str, List[Box]] = {}
    lists: Dict[str, List[str]] = {"train": [], "val": [], "test": []}
    for number, split in enumerate(["train"] * train + ["val"] * val + ["test"] * test):
        name = f"photo_{number:03}.jpg"
        pixels = rng.integers(60, 200, (SIZE[1], SIZE[0], 3), np.uint8)
        objects[name] = []
        for place in range(int(rng.integers(1, 4))):
            left, top = int(rng.integers(1, 8)) + 31 * place, int(rng.integers(1, 40))
            right, bottom = left + int(rng.integers(9, 23)), top + int(rng.integers(12, 38))
            label = (number + place) % 2
            objects[name].append((CLASSES[label], left, top, right, bottom))
            cv2.rectangle(pixels, (left, top), (right, bottom), (250 * label, 40, 250 - 250 * label), -1)
        images[name] = cv2.imencode(".jpg", pixels)[1].tobytes()
        lists[split].append(name)
    return Scene(images, objects, lists)


def put(path: Path, content: Any) -> None:
    """Write bytes, text, rows of a table, or JSON data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif isinstance(content, dict):
        path.write_text(json.dumps(content), encoding="utf-8")
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(content)


def put_images(scene: Scene, folder: Path, names: Iterable[str] = ()) -> None:
    for name in names or scene.images:
        put(folder / name, scene.images[name])


def stem(name: str) -> str:
    return name.rpartition(".")[0]


def objects_of(scene: Scene, split: str) -> Iterable[Tuple[str, Box]]:
    return ((name, box) for name in scene.lists[split] for box in scene.objects[name])


# ---- VOC


def voc_xml(scene: Scene, name: str, more: str = "") -> str:
    objects = "".join(
        f"<object><name>{label}</name><pose>Unspecified</pose><truncated>0</truncated>"
        "<difficult>0</difficult>"
        f"<bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1 + 1}</xmax><ymax>{y1 + 1}</ymax></bndbox>"
        "</object>"
        for label, x0, y0, x1, y1 in scene.objects[name]
    )
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>"
    return (
        f"<annotation>{more}<filename>{name}</filename>{size}<segmented>0</segmented>{objects}</annotation>"
    )


def devkit(scene: Scene, folder: Path, year: str = "VOC2012") -> None:
    renamed = scene
    if year == "VOC2012":  # Pascal's own classes
        renamed = scene._replace(
            objects={
                n: [("dog" if b[0] == "hat" else b[0], *b[1:]) for b in o] for n, o in scene.objects.items()
            }
        )
    put_images(scene, folder / year / "JPEGImages")
    for name in scene.images:
        put(folder / year / "Annotations" / f"{stem(name)}.xml", voc_xml(renamed, name))
    lists = {**scene.lists, "trainval": scene.lists["train"] + scene.lists["val"]}
    for split, names in lists.items():
        put(folder / year / "ImageSets/Main" / f"{split}.txt", "".join(f"{stem(name)}\n" for name in names))


def devkit_of_another_year(scene: Scene, folder: Path) -> None:
    devkit(scene, folder, "VOC2019")


def xml_beside_images(scene: Scene, folder: Path, names: Dict[str, str]) -> None:
    for split, place in names.items():
        put_images(scene, folder / place, scene.lists[split])
        for name in scene.lists[split]:
            put(folder / place / f"{stem(name)}.xml", voc_xml(scene, name))


def roboflow_voc(scene: Scene, folder: Path) -> None:
    xml_beside_images(scene, folder, {"train": "train", "val": "valid", "test": "test"})
    put(folder / "README.dataset.txt", "made up\nhttps://universe.roboflow.com\n")


def xml_in_train_and_test(scene: Scene, folder: Path) -> None:
    merged = scene._replace(
        lists={"train": scene.lists["train"], "test": scene.lists["val"] + scene.lists["test"]}
    )
    xml_beside_images(merged, folder, {"train": "train", "test": "test"})


def oxford_pets(scene: Scene, folder: Path) -> None:
    put_images(scene, folder / "images")
    for name in scene.images:
        put(folder / "annotations/xmls" / f"{stem(name)}.xml", voc_xml(scene, name))
        put(folder / "annotations/trimaps" / f"{stem(name)}.png", mask())
    rows = "".join(f"{stem(name)} 1 1 1\n" for name in scene.lists["train"] + scene.lists["val"])
    put(folder / "annotations/trainval.txt", rows)
    put(folder / "annotations/test.txt", "".join(f"{stem(name)} 1 1 1\n" for name in scene.lists["test"]))
    put(folder / "annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID\n" + rows)


def mask() -> bytes:
    return cv2.imencode(".png", np.ones((SIZE[1], SIZE[0]), np.uint8))[1].tobytes()


# ---- COCO


def coco(scene: Scene, split: str, prefix: str = "", per_object: bool = False) -> Dict[str, Any]:
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    for number, name in enumerate(scene.lists[split], 1):
        copies = len(scene.objects[name]) if per_object else 1
        entries = [{"id": number * 10 + i, "file_name": prefix + name, "width": SIZE[0], "height": SIZE[1]}
                   for i in range(copies)]  # fmt: skip
        images += entries
        for i, (label, x0, y0, x1, y1) in enumerate(scene.objects[name]):
            width, height = x1 - x0 + 1, y1 - y0 + 1
            corners = [x0, y0, x1 + 1, y0, x1 + 1, y1 + 1, x0, y1 + 1]
            annotations.append({
                "id": len(annotations) + 1, "image_id": entries[i if per_object else 0]["id"],
                "category_id": CLASSES.index(label) + 1, "bbox": [x0, y0, width, height],
                "area": width * height, "iscrowd": 0, "segmentation": [corners],
            })  # fmt: skip
    categories = [{"id": i, "name": name, "supercategory": "none"} for i, name in enumerate(CLASSES, 1)]
    return {"info": {"year": 2020}, "licenses": [], "images": images, "annotations": annotations,
            "categories": categories}  # fmt: skip


def official_coco(scene: Scene, folder: Path) -> None:
    for split in ("train", "val"):
        put_images(scene, folder / f"{split}2017", scene.lists[split])
        content = coco(scene, split)
        put(folder / "annotations" / f"instances_{split}2017.json", content)
        captions = [
            {"id": i, "image_id": image["id"], "caption": "a hat"}
            for i, image in enumerate(content["images"])
        ]
        put(folder / "annotations" / f"captions_{split}2017.json",
            {**{k: content[k] for k in ("info", "licenses", "images")}, "annotations": captions})  # fmt: skip
        people = [
            {**a, "keypoints": [0] * 51, "num_keypoints": 0}
            for a in content["annotations"]
            if a["category_id"] == 2
        ]
        put(folder / "annotations" / f"person_keypoints_{split}2017.json",
            {**content, "annotations": people, "categories": content["categories"][1:]})  # fmt: skip


def cvat_coco(scene: Scene, folder: Path) -> None:
    for split, name in (("train", "Train"), ("val", "Validation"), ("test", "Test")):
        put_images(scene, folder / "images" / name, scene.lists[split])
        put(folder / "annotations" / f"instances_{name}.json", coco(scene, split))


def roboflow_coco(scene: Scene, folder: Path) -> None:
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        put_images(scene, folder / name, scene.lists[split])
        content = coco(scene, split)
        content["categories"].insert(0, {"id": 0, "name": "hats-and-people", "supercategory": "none"})
        put(folder / name / "_annotations.coco.json", content)


def coco_entry_per_annotation(scene: Scene, folder: Path) -> None:
    put_images(scene, folder / "images")
    for split in ("train", "val"):
        put(folder / f"{split}.json", coco(scene, split, per_object=True))


def coco_segmentation_only(scene: Scene, folder: Path) -> None:
    put_images(scene, folder / "images")
    for split in ("train", "val"):
        content = coco(scene, split)
        for annotation in content["annotations"]:
            del annotation["bbox"], annotation["area"]
        put(folder / "annotations" / f"{split}.json", content)
