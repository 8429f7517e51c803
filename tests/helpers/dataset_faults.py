"""Faults that people make in datasets, to be planted in a sound one for check-data to find."""

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


class Planted:
    """A copy of a sound dataset to plant a fault in, and the image that it is planted in."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.root = kind, root
        dataset = open_dataset("auto", root, "train", allow_absent=True)
        self.classes = dataset.classes
        sample = next(s for s in dataset if len(s.labels) >= 2)
        others = [s for s in dataset if s is not sample and len(s.labels)]
        self.image, self.other = Path(sample.image_path), Path(others[0].image_path)
        self.label = int(sample.labels[0])
        self.stem = self.image.stem
        self.measured = Path(open_dataset("auto", root, "val", allow_absent=True)[0].image_path)

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
        """The lines of the image, to be changed in place."""
        path = self.root / "train.csv"
        with open(path, newline="") as file:
            rows = list(csv.reader(file))
        mine = [row for row in rows if row[0] == self.image.name]
        others = [row for row in rows if row[0] != self.image.name]
        change(mine)
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([*others, *mine])

    def lst(self, change: Callable[[List[str]], object]) -> None:
        """The words of the image's line, to be changed in place."""
        path = self.root / "train.lst"
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        mine = next(words for words in lines if words[-1].endswith(self.image.name))
        change(mine)
        path.write_text("".join("\t".join(words) + "\n" for words in lines))

    # ---- the first object of the image

    def box(self, pixels: Tuple[Any, Any, Any, Any]) -> None:
        """Corners counted from 0; what is no number is written as it is."""
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
        """Four values as the format has them."""
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

    def second(self, same_class: bool) -> None:
        """The second object at the first one's place."""
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

    def names(self, names: List[str]) -> None:
        """Other names of the classes, and perhaps more of them."""
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

    def object_class(self, name: str) -> None:
        """The first object's class, by name."""
        if self.kind == "voc":
            self.edit(self.xml, lambda t: re.sub("<name>.*?</name>", f"<name>{name}</name>", t, count=1))
        else:
            self.table(lambda rows: rows[0].__setitem__(3, name))

    def rotated(self) -> None:
        """Another size and the EXIF mark that it is to be turned."""
        pixels = cv2.imread(str(self.image))
        pixels = cv2.resize(pixels, (120, SIDE))
        _, data = cv2.imencode(".jpg", pixels)
        tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
        block = b"Exif\0\0" + tiff
        plain = data.tobytes()
        self.image.write_bytes(
            plain[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + plain[2:]
        )
        self.size(120, SIDE)

    def size(self, width: int, height: int) -> None:
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

    def empty(self) -> None:
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

    def gone(self, name: str) -> None:
        """The image is called otherwise."""
        if self.kind == "voc":
            self.image.unlink()
        elif self.kind == "coco":
            self.json(lambda c: self.coco_image(c).update(file_name=name))
        elif self.kind == "csv":
            self.table(lambda rows: [row.__setitem__(0, name) for row in rows])
        else:
            self.lst(lambda words: words.__setitem__(-1, name))

    def truncated(self) -> None:
        data = self.image.read_bytes()
        self.image.write_bytes(data[: len(data) * 2 // 3])


ALL = ("voc", "coco", "yolo", "csv", "lst")
PIXELS = ("voc", "coco", "csv")

Plant = Callable[[Planted], object]


def all_corners(content: Dict[str, Any]) -> None:
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]


def all_from_one(planted: Planted) -> None:
    for path in (planted.root / "labels").rglob("*.txt"):
        rows = [line.split(" ", 1) for line in path.read_text().splitlines()]
        path.write_text("".join(f"{int(label) + 1} {rest}\n" for label, rest in rows))


def misspelt(planted: Planted) -> None:
    names = list(planted.classes)
    if planted.kind in ("voc", "csv"):
        (planted.root / "classes.txt").unlink()
        planted.object_class(planted.classes[planted.label].upper())
    else:
        planted.names([*names, names[0].capitalize()])


def listed_twice(planted: Planted) -> None:
    if planted.kind == "voc":
        planted.edit(planted.root / "ImageSets/Main/train.txt", lambda t: t + f"{planted.stem}\n")
    elif planted.kind == "coco":
        planted.json(lambda c: c["images"].append({**planted.coco_image(c), "id": 4711}))
    else:
        path = planted.root / "train.lst"
        line = next(line for line in path.read_text().splitlines() if line.endswith(planted.image.name))
        planted.edit(path, lambda t: t + line + "\n")


def one_name(planted: Planted) -> None:
    """A name like another one's, of a single object."""
    if planted.kind in ("voc", "csv"):
        (planted.root / "classes.txt").unlink()
    planted.object_class(planted.classes[planted.label] + "s")


FAULTS: Dict[str, Tuple[str, Tuple[str, ...], Plant]] = {
    "inverted": ("box-inverted", ALL, lambda p: p.box((60, 60, 20, 20))),
    "no area": ("box-without-area", ("voc", "csv", "lst"), lambda p: p.box((20, 20, 20, 50))),
    "no width": ("box-without-area", ("coco",), lambda p: p.raw(20, 20, 0, 9)),
    "no width in yolo": ("box-without-area", ("yolo",), lambda p: p.raw(0.5, 0.5, 0, 0.2)),
    "letters": ("box-not-numeric", ("voc", "coco", "yolo", "csv"), lambda p: p.box(("a", "b", "c", "d"))),
    "nan": ("box-not-finite", ("voc", "yolo", "csv", "lst"), lambda p: p.raw("nan", 1, 5, 5)),
    "nan in json": ("box-not-finite", ("coco",), lambda p: p.raw(float("nan"), 1, 5, 5)),
    "1e308": ("box-not-finite", ("coco", "yolo", "lst"), lambda p: p.raw(1e308, 1, 5, 5)),
    "no box": (
        "box-missing", ("voc",),
        lambda p: p.edit(p.xml, lambda t: re.sub("<bndbox>.*?</bndbox>", "", t, count=1, flags=re.S)),
    ),
    "no bbox": ("box-missing", ("coco",), lambda p: p.json(lambda c: p.coco_objects(c)[0].pop("bbox"))),
    "three numbers": ("box-missing", ("yolo",), lambda p: p.raw(0.5, 0.5, 0.2)),
    "an empty corner": ("box-missing", ("csv",), lambda p: p.raw(5, 5, "", 9)),
    "far outside": ("box-outside", ALL, lambda p: p.box((500, 500, 560, 560))),
    "partly outside": ("box-clipped", ALL, lambda p: p.box((20, 20, 150, 60))),
    "shares": ("boxes-normalized", PIXELS, lambda p: p.raw(0.1, 0.1, 0.5, 0.6)),
    "pixels": ("boxes-in-pixels", ("yolo", "lst"), lambda p: p.raw(20, 20, 30, 40)),
    "all corners": ("boxes-as-corners", ("coco",), lambda p: p.json(all_corners)),
    "counted from one": ("classes-start-at-one", ("yolo",), all_from_one),
    "polygon": ("polygon-invalid", ("yolo",), lambda p: p.raw(0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.5)),
    "twice": ("box-duplicate", ALL, lambda p: p.second(same_class=True)),
    "two classes": ("box-two-classes", ALL, lambda p: p.second(same_class=False)),
    "tiny": ("box-tiny", ALL, lambda p: p.box((40, 40, 41.5, 60))),
    "whole": ("box-whole-image", ALL, lambda p: p.box((0, 0, SIDE - 1, SIDE - 1))),
    "no such class": (
        "class-unknown", ("coco",),
        lambda p: p.json(lambda c: p.coco_objects(c)[0].update(category_id=77)),
    ),
    "no such number": ("class-unknown", ("yolo",), lambda p: p.edit(p.labels, lambda t: "7" + t)),
    "no such number in a list": (
        "class-unknown", ("lst",), lambda p: p.lst(lambda words: words.__setitem__(5, "77")),
    ),
    "nameless": ("object-without-class", ("voc", "csv"), lambda p: p.object_class("")),
    "astray": (
        "object-without-image", ("coco",),
        lambda p: p.json(lambda c: p.coco_objects(c)[0].update(image_id=4711)),
    ),
    "misspelt": ("class-misspelled", ALL, misspelt),
    "nearly the same": ("class-similar", ("voc", "csv"), one_name),
    "rare": ("class-rare", ("voc", "csv"), one_name),
    "unused": ("class-unused", ALL, lambda p: p.names([*p.classes, "zebra"])),
    "cut short": ("image-unreadable", ALL, lambda p: p.truncated()),
    "no image at all": ("image-unreadable", PIXELS, lambda p: p.image.write_bytes(b"no image")),
    "image gone": ("image-missing", ("voc", "coco", "csv", "lst"), lambda p: p.gone("gone.jpg")),
    "leads out": ("image-outside", ("coco", "csv", "lst"), lambda p: p.gone("../" * 3 + "outside.jpg")),
    "the same image": ("image-duplicate", ALL, lambda p: shutil.copy(p.other, p.image)),
    "measured and learned": ("image-in-two-lists", ALL, lambda p: shutil.copy(p.measured, p.image)),
    "listed in both": (
        "image-in-two-lists", ("voc",),
        lambda p: p.edit(p.root / "ImageSets/Main/val.txt", lambda t: t + f"{p.stem}\n"),
    ),
    "listed twice": ("image-listed-twice", ("voc", "coco", "lst"), listed_twice),
    "turned": ("image-rotated", ALL, lambda p: p.rotated()),
    "turned, boxes not": ("size-swapped", PIXELS, lambda p: p.rotated()),
    "another size": ("size-differs", PIXELS, lambda p: p.size(200, 120)),
    "another ending": (
        "image-wrong-extension", ALL,
        lambda p: p.image.write_bytes(cv2.imencode(".png", cv2.imread(str(p.image)))[1].tobytes()),
    ),
    "no annotation": ("annotation-missing", ("voc",), lambda p: p.xml.unlink()),
    "no labels": ("labels-missing", ("yolo",), lambda p: p.labels.unlink()),
    "no xml": ("annotation-unreadable", ("voc",), lambda p: p.xml.write_text("<annotation")),
    "no text": ("annotation-unreadable", ("yolo",), lambda p: p.labels.write_bytes(b"\xff\xfe\0\1")),
    "no label": ("annotation-unreadable", ("lst",), lambda p: p.lst(lambda w: w.__setitem__(1, "99"))),
    "orphan": (
        "annotation-without-image", ("voc", "yolo"),
        lambda p: shutil.copy(p.annotation, p.annotation.with_name(f"x{p.annotation.suffix}")),
    ),
    "unannotated": (
        "image-unannotated", ("voc", "coco", "csv", "lst"),
        lambda p: cv2.imwrite(str(p.image.parent / "new.png"), np.zeros((SIDE, SIDE, 3), np.uint8)),
    ),
    "unlisted": (
        "image-unlisted", ("voc",),
        lambda p: p.edit(p.root / "ImageSets/Main/train.txt", lambda t: t.replace(f"{p.stem}\n", "")),
    ),
    "nothing there": ("image-without-objects", ALL, lambda p: p.empty()),
    "nameless image": (
        "image-without-name", ("coco",), lambda p: p.json(lambda c: c["images"].append({"id": 4711})),
    ),
    "image without id": (
        "image-without-id", ("coco",), lambda p: p.json(lambda c: c["images"].append({"file_name": "x.jpg"})),
    ),
    "entity bomb": (
        "annotation-unreadable", ("voc",),
        lambda p: p.xml.write_text('<!DOCTYPE a [<!ENTITY b "boom">]><annotation>&b;</annotation>'),
    ),
}  # fmt: skip
