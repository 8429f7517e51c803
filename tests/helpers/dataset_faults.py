"""Common dataset faults, inserted into a valid dataset for check-data to find."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import cv2
import numpy as np

from mnssd.data.open import open_dataset

SIDE = 96


class FaultyDataset:
    """A copy of a valid dataset, and the training image in which a fault is inserted."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.root = kind, root
        dataset = open_dataset("auto", root, "train", allow_absent=True)
        self.classes = dataset.classes
        sample = next(s for s in dataset if len(s.labels) >= 2)
        others = [s for s in dataset if s is not sample and len(s.labels)]
        self.image, self.other = Path(sample.image_path), Path(others[0].image_path)
        self.label = int(sample.labels[0])
        self.stem = self.image.stem
        self.val_image = Path(open_dataset("auto", root, "val", allow_absent=True)[0].image_path)

    # ---- files of annotations

    @property
    def xml(self) -> Path:
        return self.root / "Annotations" / f"{self.stem}.xml"

    @property
    def labels(self) -> Path:
        return self.root / "labels" / "train" / f"{self.stem}.txt"

    @property
    def annotation(self) -> Path:
        return self.xml if self.kind == "voc" else self.labels

    def edit(self, path: Path, change: Callable[[str], str]) -> None:
        text = path.read_text()
        changed = change(text)
        assert changed != text
        path.write_text(changed)

    def json(self, change: Callable[[Dict[str, Any]], object]) -> None:
        path = self.root / "annotations" / "instances_train.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    def coco_image(self, content: Dict[str, Any]) -> Dict[str, Any]:
        return next(image for image in content["images"] if image["file_name"] == self.image.name)

    def coco_objects(self, content: Dict[str, Any]) -> List[Dict[str, Any]]:
        number = self.coco_image(content)["id"]
        return [entry for entry in content["annotations"] if entry["image_id"] == number]

    def table(self, change: Callable[[List[List[str]]], object]) -> None:
        """Change the rows of the image in place."""
        path = self.root / "train.csv"
        with open(path, newline="") as file:
            rows = list(csv.reader(file))
        mine = [row for row in rows if row[0] == self.image.name]
        others = [row for row in rows if row[0] != self.image.name]
        change(mine)
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([*others, *mine])

    def lst(self, change: Callable[[List[str]], object]) -> None:
        """Change the columns of the image's line in place."""
        path = self.root / "train.lst"
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        mine = next(words for words in lines if words[-1].endswith(self.image.name))
        change(mine)
        path.write_text("".join("\t".join(words) + "\n" for words in lines))

    # ---- the first object of the image, and the image itself

    def box(self, pixels: Tuple[Any, Any, Any, Any]) -> None:
        """Set its corners, counted from 0; values that are not numbers are written unchanged."""
        numbers = all(isinstance(value, (int, float)) for value in pixels)
        if self.kind in ("voc", "csv"):
            self.raw(*[value + 1 if numbers else value for value in pixels])
        elif self.kind == "coco":
            left, top, right, bottom = pixels
            self.raw(*((left, top, right - left + 1, bottom - top + 1) if numbers else pixels))
        elif self.kind == "yolo":
            left, top, right, bottom = pixels
            mid = ((left + right + 1) / 2 / SIDE, (top + bottom + 1) / 2 / SIDE) if numbers else pixels[:2]
            sides = ((right - left + 1) / SIDE, (bottom - top + 1) / SIDE) if numbers else pixels[2:]
            self.raw(*mid, *sides)
        else:
            self.raw(*[value / SIDE if numbers else value for value in pixels])

    def raw(self, *values: Any) -> None:
        """Set its four values in the units of the format."""
        if self.kind == "voc":
            names = ("xmin", "ymin", "xmax", "ymax")
            inner = "".join(f"<{name}>{value}</{name}>" for name, value in zip(names, values))
            self.edit(
                self.xml,
                lambda t: re.sub("<bndbox>.*?</bndbox>", f"<bndbox>{inner}</bndbox>", t, count=1, flags=re.S),
            )
        elif self.kind == "coco":
            self.json(lambda c: self.coco_objects(c)[0].update(bbox=list(values)))
        elif self.kind == "yolo":
            line = f"{self.label} " + " ".join(map(str, values))
            self.edit(self.labels, lambda t: "\n".join([line, *t.splitlines()[1:]]) + "\n")
        elif self.kind == "csv":
            self.table(lambda rows: rows[0].__setitem__(slice(4, 8), [str(value) for value in values]))
        else:
            self.lst(lambda words: words.__setitem__(slice(6, 10), [str(value) for value in values]))

    def add_second_object(self, same_class: bool) -> None:
        """Add an object with the same box."""
        other = (self.label + 1) % len(self.classes)
        label = self.label if same_class else other
        name = self.classes[label]
        if self.kind == "voc":

            def change(text: str) -> str:
                first = re.search("<object>.*?</object>", text, re.S)
                assert first
                twin = first[0] if same_class else re.sub("<name>.*?<", f"<name>{name}<", first[0])
                return text.replace(first[0], first[0] + twin)

            self.edit(self.xml, change)
        elif self.kind == "coco":
            self.json(
                lambda c: c["annotations"].append(
                    {**self.coco_objects(c)[0], "id": 99999, "category_id": label + 1}
                )
            )
        elif self.kind == "yolo":
            self.edit(self.labels, lambda t: t + f"{label} " + t.splitlines()[0].split(" ", 1)[1] + "\n")
        elif self.kind == "csv":
            self.table(
                lambda rows: rows.append([*rows[0][:3], rows[0][3] if same_class else name, *rows[0][4:]])
            )
        else:
            self.lst(lambda words: words.__setitem__(slice(-1, None), [str(label), *words[6:11], words[-1]]))

    def set_class_names(self, names: List[str]) -> None:
        """Replace the list of class names."""
        if self.kind == "coco":
            self.json(lambda c: c.update(categories=[{"id": n + 1, "name": x} for n, x in enumerate(names)]))
            path = self.root / "annotations" / "instances_val.json"
            content = json.loads(path.read_text())
            content["categories"] = [{"id": n + 1, "name": x} for n, x in enumerate(names)]
            path.write_text(json.dumps(content))
        elif self.kind == "yolo":
            text = (self.root / "data.yaml").read_text().split("names:")[0]
            (self.root / "data.yaml").write_text(text + f"names: {json.dumps(names)}\n")
        else:
            (self.root / "classes.txt").write_text("\n".join(names))

    def set_class(self, name: str) -> None:
        """Set its class."""
        if self.kind == "voc":
            self.edit(self.xml, lambda t: re.sub("<name>.*?</name>", f"<name>{name}</name>", t, count=1))
        else:
            self.table(lambda rows: rows[0].__setitem__(3, name))

    def rotate(self) -> None:
        """Give the image another size and an EXIF orientation of 6."""
        pixels = cv2.imread(str(self.image))
        pixels = cv2.resize(pixels, (120, SIDE))
        _, data = cv2.imencode(".jpg", pixels)
        tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
        block = b"Exif\0\0" + tiff
        plain = data.tobytes()
        self.image.write_bytes(
            plain[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + plain[2:]
        )
        self.set_size(120, SIDE)

    def set_size(self, width: int, height: int) -> None:
        if self.kind == "voc":
            self.edit(
                self.xml,
                lambda t: re.sub(
                    r"<width>\d+</width>\s*<height>\d+</height>",
                    f"<width>{width}</width><height>{height}</height>", t,
                ),
            )  # fmt: skip
        elif self.kind == "coco":
            self.json(lambda c: self.coco_image(c).update(width=width, height=height))
        elif self.kind == "csv":
            self.table(lambda rows: [row.__setitem__(slice(1, 3), [str(width), str(height)]) for row in rows])

    def remove_objects(self) -> None:
        if self.kind == "voc":
            self.edit(self.xml, lambda t: re.sub("<object>.*</object>", "", t, flags=re.S))
        elif self.kind == "coco":

            def change(content: Dict[str, Any]) -> None:
                mine = self.coco_objects(content)
                content["annotations"] = [entry for entry in content["annotations"] if entry not in mine]

            self.json(change)
        elif self.kind == "yolo":
            self.labels.write_text("")
        elif self.kind == "csv":
            self.table(lambda rows: rows.__setitem__(slice(None), [[*rows[0][:3], "", "", "", "", "", "0"]]))
        else:
            self.lst(lambda words: words.__setitem__(slice(5, -1), []))

    def lose_image(self, name: str) -> None:
        """Make the annotation name another image file."""
        if self.kind == "voc":
            self.image.unlink()
        elif self.kind == "coco":
            self.json(lambda c: self.coco_image(c).update(file_name=name))
        elif self.kind == "csv":
            self.table(lambda rows: [row.__setitem__(0, name) for row in rows])
        else:
            self.lst(lambda words: words.__setitem__(-1, name))

    def truncate(self) -> None:
        data = self.image.read_bytes()
        self.image.write_bytes(data[: len(data) * 2 // 3])


ALL = ("voc", "coco", "yolo", "csv", "lst")
PIXELS = ("voc", "coco", "csv")

Insert = Callable[[FaultyDataset], object]


def boxes_as_corners(content: Dict[str, Any]) -> None:
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]


def labels_from_one(faulty: FaultyDataset) -> None:
    for path in (faulty.root / "labels").rglob("*.txt"):
        rows = [line.split(" ", 1) for line in path.read_text().splitlines()]
        path.write_text("".join(f"{int(label) + 1} {rest}\n" for label, rest in rows))


def misspelled_class(faulty: FaultyDataset) -> None:
    names = list(faulty.classes)
    if faulty.kind in ("voc", "csv"):
        (faulty.root / "classes.txt").unlink()
        faulty.set_class(faulty.classes[faulty.label].upper())
    else:
        faulty.set_class_names([*names, names[0].capitalize()])


def listed_twice(faulty: FaultyDataset) -> None:
    if faulty.kind == "voc":
        faulty.edit(faulty.root / "ImageSets/Main/train.txt", lambda t: t + f"{faulty.stem}\n")
    elif faulty.kind == "coco":
        faulty.json(lambda c: c["images"].append({**faulty.coco_image(c), "id": 4711}))
    else:
        path = faulty.root / "train.lst"
        line = next(line for line in path.read_text().splitlines() if line.endswith(faulty.image.name))
        faulty.edit(path, lambda t: t + line + "\n")


def similar_class_name(faulty: FaultyDataset) -> None:
    """Give one object a class name that resembles another."""
    if faulty.kind in ("voc", "csv"):
        (faulty.root / "classes.txt").unlink()
    faulty.set_class(faulty.classes[faulty.label] + "s")


FAULTS: Dict[str, Tuple[str, Tuple[str, ...], Insert]] = {
    "inverted box": ("box-inverted", ALL, lambda d: d.box((60, 60, 20, 20))),
    "zero area": ("box-without-area", ("voc", "csv", "lst"), lambda d: d.box((20, 20, 20, 50))),
    "zero width": ("box-without-area", ("coco",), lambda d: d.raw(20, 20, 0, 9)),
    "zero width in YOLO": ("box-without-area", ("yolo",), lambda d: d.raw(0.5, 0.5, 0, 0.2)),
    "letters instead of numbers": (
        "box-not-numeric", ("voc", "coco", "yolo", "csv"),
        lambda d: d.box(("a", "b", "c", "d")),
    ),
    "NaN": ("box-not-finite", ("voc", "yolo", "csv", "lst"), lambda d: d.raw("nan", 1, 5, 5)),
    "NaN in JSON": ("box-not-finite", ("coco",), lambda d: d.raw(float("nan"), 1, 5, 5)),
    "overflowing number": ("box-not-finite", ("coco", "yolo", "lst"), lambda d: d.raw(1e308, 1, 5, 5)),
    "XML without bndbox": (
        "box-missing", ("voc",),
        lambda d: d.edit(d.xml, lambda t: re.sub("<bndbox>.*?</bndbox>", "", t, count=1, flags=re.S)),
    ),
    "JSON without bbox": (
        "box-missing", ("coco",),
        lambda d: d.json(lambda c: d.coco_objects(c)[0].pop("bbox")),
    ),
    "three coordinates": ("box-missing", ("yolo",), lambda d: d.raw(0.5, 0.5, 0.2)),
    "empty coordinate": ("box-missing", ("csv",), lambda d: d.raw(5, 5, "", 9)),
    "box outside": ("box-outside", ALL, lambda d: d.box((500, 500, 560, 560))),
    "box partly outside": ("box-clipped", ALL, lambda d: d.box((20, 20, 150, 60))),
    "normalized instead of pixels": ("boxes-normalized", PIXELS, lambda d: d.raw(0.1, 0.1, 0.5, 0.6)),
    "pixels instead of normalized": ("boxes-in-pixels", ("yolo", "lst"), lambda d: d.raw(20, 20, 30, 40)),
    "corners instead of sizes": ("boxes-as-corners", ("coco",), lambda d: d.json(boxes_as_corners)),
    "labels from one": ("classes-start-at-one", ("yolo",), labels_from_one),
    "odd polygon": ("polygon-invalid", ("yolo",), lambda d: d.raw(0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.5)),
    "duplicate box": ("box-duplicate", ALL, lambda d: d.add_second_object(same_class=True)),
    "two classes in one place": ("box-two-classes", ALL, lambda d: d.add_second_object(same_class=False)),
    "tiny box": ("box-tiny", ALL, lambda d: d.box((40, 40, 41.5, 60))),
    "whole-image box": ("box-whole-image", ALL, lambda d: d.box((0, 0, SIDE - 1, SIDE - 1))),
    "unknown category id": (
        "class-unknown", ("coco",),
        lambda d: d.json(lambda c: d.coco_objects(c)[0].update(category_id=77)),
    ),
    "unknown label in YOLO": ("class-unknown", ("yolo",), lambda d: d.edit(d.labels, lambda t: "7" + t)),
    "unknown label in a list": (
        "class-unknown", ("lst",), lambda d: d.lst(lambda words: words.__setitem__(5, "77")),
    ),
    "object without class": ("object-without-class", ("voc", "csv"), lambda d: d.set_class("")),
    "object of an unknown image": (
        "object-without-image", ("coco",),
        lambda d: d.json(lambda c: d.coco_objects(c)[0].update(image_id=4711)),
    ),
    "misspelled class": ("class-misspelled", ALL, misspelled_class),
    "similar class": ("class-similar", ("voc", "csv"), similar_class_name),
    "rare class": ("class-rare", ("voc", "csv"), similar_class_name),
    "unused class": ("class-unused", ALL, lambda d: d.set_class_names([*d.classes, "zebra"])),
    "truncated image": ("image-unreadable", ALL, lambda d: d.truncate()),
    "not an image": ("image-unreadable", PIXELS, lambda d: d.image.write_bytes(b"no image")),
    "missing image": ("image-missing", ("voc", "coco", "csv", "lst"), lambda d: d.lose_image("gone.jpg")),
    "image outside the folder": (
        "image-outside", ("coco", "csv", "lst"),
        lambda d: d.lose_image("../" * 3 + "outside.jpg"),
    ),
    "duplicate image": ("image-duplicate", ALL, lambda d: shutil.copy(d.other, d.image)),
    "image in train and val": ("image-in-two-lists", ALL, lambda d: shutil.copy(d.val_image, d.image)),
    "id in train and val": (
        "image-in-two-lists", ("voc",),
        lambda d: d.edit(d.root / "ImageSets/Main/val.txt", lambda t: t + f"{d.stem}\n"),
    ),
    "listed twice": ("image-listed-twice", ("voc", "lst"), listed_twice),
    "several entries": ("image-entries-joined", ("coco",), listed_twice),
    "EXIF rotation": ("image-rotated", ALL, lambda d: d.rotate()),
    "EXIF rotation, boxes unrotated": ("size-swapped", PIXELS, lambda d: d.rotate()),
    "wrong size": ("size-differs", PIXELS, lambda d: d.set_size(200, 120)),
    "wrong extension": (
        "image-wrong-extension", ALL,
        lambda d: d.image.write_bytes(cv2.imencode(".png", cv2.imread(str(d.image)))[1].tobytes()),
    ),
    "missing annotation": ("annotation-missing", ("voc",), lambda d: d.xml.unlink()),
    "missing label file": ("labels-missing", ("yolo",), lambda d: d.labels.unlink()),
    "truncated XML": ("annotation-unreadable", ("voc",), lambda d: d.xml.write_text("<annotation")),
    "binary label file": (
        "annotation-unreadable", ("yolo",),
        lambda d: d.labels.write_bytes(b"\x80\xfe\0\1"),
    ),
    "invalid list header": (
        "annotation-unreadable", ("lst",),
        lambda d: d.lst(lambda w: w.__setitem__(1, "99")),
    ),
    "annotation without image": (
        "annotation-without-image", ("voc", "yolo"),
        lambda d: d.annotation.with_name(f"x{d.annotation.suffix}").write_text(
            d.annotation.read_text().replace(d.stem, "x")
        ),
    ),
    "image without annotation": (
        "image-unannotated", ("voc", "coco", "csv", "lst"),
        lambda d: cv2.imwrite(str(d.image.parent / "new.png"), np.zeros((SIDE, SIDE, 3), np.uint8)),
    ),
    "unlisted image": (
        "image-unlisted", ("voc",),
        lambda d: d.edit(d.root / "ImageSets/Main/train.txt", lambda t: t.replace(f"{d.stem}\n", "")),
    ),
    "image without objects": ("image-without-objects", ALL, lambda d: d.remove_objects()),
    "image without file name": (
        "image-without-name", ("coco",), lambda d: d.json(lambda c: c["images"].append({"id": 4711})),
    ),
    "image without id": (
        "image-without-id", ("coco",), lambda d: d.json(lambda c: c["images"].append({"file_name": "x.jpg"})),
    ),
    "XML entity bomb": (
        "annotation-unreadable", ("voc",),
        lambda d: d.xml.write_text('<!DOCTYPE a [<!ENTITY b "boom">]><annotation>&b;</annotation>'),
    ),
}  # fmt: skip
"""Fault to the code of its finding, the dataset kinds, and a function that inserts it."""
