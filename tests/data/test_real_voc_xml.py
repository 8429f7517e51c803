"""Content of VOC XML files as people have them: names of images, encodings, objects, damage."""

from __future__ import annotations

import random
from pathlib import Path
from typing import List, Optional

import numpy as np
import pytest
from helpers.voc import CAT, annotation_xml, box_xml
from helpers.voc_files import CAT_BOX, HAT, VOC, images, read_or_refuse, write
from test_fuzz_files import damage

from mnssd.data.annotations.voc_xml import AnnotationError, object_names, read_annotation
from mnssd.data.open import recognize

# ---- names of images ---------------------------------------------------------------------------------------


def named(name: str, extra: str = "") -> str:
    return annotation_xml(CAT).replace("../../etc/passwd", name).replace("</filename>", f"</filename>{extra}")


@pytest.mark.parametrize(
    "name",
    [
        "photo.png",
        "photo",
        "photo.jpg",
        "C:\\me\\photo.png",
        "images/photo.png",
        "/elsewhere/photo.png",
        "PHOTO.PNG",
    ],
)
def test_file_name_in_the_annotation(name: str, tmp_path: Path) -> None:
    write(tmp_path, "Annotations/0001.xml", text=named(name))
    write(tmp_path, "images/photo.png")
    dataset = VOC.read(tmp_path, "all")
    assert images(dataset, tmp_path) == ["images/photo.png"]
    assert dataset[0].boxes.tolist() == [CAT_BOX]
    assert not list(VOC.unreferenced(tmp_path, {"all": dataset}))


def test_path_in_the_annotation(tmp_path: Path) -> None:
    write(tmp_path, "Annotations/0001.xml", text=named("", "<path>D:\\x\\photo.png</path>"))
    write(tmp_path, "images/photo.png")
    assert images(VOC.read(tmp_path, "all"), tmp_path) == ["images/photo.png"]


def test_list_names_images_that_annotations_name(tmp_path: Path) -> None:
    write(tmp_path, "Annotations/0001.xml", text=named("photo.png"))
    write(tmp_path, "JPEGImages/photo.png")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for line in ("photo", "0001", "photo.png"):
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_text(f"{line}\n")
        assert images(VOC.read(tmp_path, "train"), tmp_path) == ["JPEGImages/photo.png"]


@pytest.mark.parametrize(("annotated", "code"), [(False, "filename-differs"), (True, "filename-stale")])
def test_file_name_of_another_image_is_reported(annotated: bool, code: str, tmp_path: Path) -> None:
    write(tmp_path, "a.xml", text=named("b.png"))
    write(tmp_path, "a.png", "b.png", *(["b.xml"] if annotated else []))
    dataset = VOC.read(tmp_path, "all")
    assert [(f.code, Path(f.file).name) for f in dataset.findings] == [(code, "a.xml")]
    assert images(dataset, tmp_path)[0] == "a.png"


def test_annotation_does_not_take_the_image_of_another(tmp_path: Path) -> None:
    write(tmp_path, "a.xml", "b.xml", text=named("b.png"))
    write(tmp_path, "b.png")
    dataset = VOC.read(tmp_path, "all")
    assert images(dataset, tmp_path) == ["b.png"]
    assert [(f.code, Path(f.file).name) for f in dataset.findings] == [("image-missing", "a.xml")]


# ---- encodings ---------------------------------------------------------------------------------------------


def encoded(encoding: str, declared: Optional[str] = None, name: str = "猫", bom: bytes = b"") -> bytes:
    text = annotation_xml(CAT.replace("cat", name))
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    return bom + (head + text).encode(encoding)


@pytest.mark.parametrize(
    "content",
    [
        encoded("utf-8"),
        encoded("utf-8-sig", "utf-8"),
        encoded("utf-16", "utf-16"),
        encoded("utf-16"),
        encoded("utf-16-le", "utf-16"),
        encoded("utf-16-be", "utf-16", bom=b"\xfe\xff"),
        encoded("utf-16", "utf-8"),
        encoded("utf-8", "utf-16"),
        encoded("gbk", "gbk"),
        encoded("gbk", "GB2312"),
        encoded("gb18030", "gb18030"),
        encoded("big5", "big5", "貓"),
        encoded("cp932", "shift_jis"),
        b"\n\n" + encoded("utf-8", "utf-8"),
    ],
)
def test_encodings(content: bytes, tmp_path: Path) -> None:
    write(tmp_path, "a.xml", text=content)
    write(tmp_path, "a.png")
    assert recognize(tmp_path)[0].name == "voc"
    dataset = VOC.read(tmp_path, "all")
    assert dataset.classes[0] in ("猫", "貓")
    assert dataset[0].boxes.tolist() == [CAT_BOX]


@pytest.mark.parametrize("declared", [None, "utf-8"])
def test_unknown_encoding(declared: Optional[str], tmp_path: Path) -> None:
    """Only names of classes and images depend on it."""
    path = tmp_path / "a.xml"
    path.write_bytes(
        encoded("gbk", declared, "cat").replace(b"<size>", "<path>照片</path><size>".encode("gbk"))
    )
    annotation = read_annotation(path)
    assert ([entry.name for entry in annotation.objects], annotation.objects[0].box) == (
        ["cat"],
        tuple(CAT_BOX),
    )
    assert annotation.files == ("../../etc/passwd",)
    path.write_bytes(encoded("gbk", declared, "照片"))
    with pytest.raises(AnnotationError, match="UTF-8"):
        read_annotation(path)


# ---- objects -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inner", "boxes"),
    [
        (
            "<polygon><pt><x>2</x><y>3</y></pt><pt><x>20</x><y>5</y></pt><pt><x>9</x><y>25</y></pt></polygon>",
            [CAT_BOX],
        ),
        ("<polygon><x1>2</x1><y1>3</y1><x2>20</x2><y2>5</y2><x3>9</x3><y3>25</y3></polygon>", [CAT_BOX]),
        ("<segm><box><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>25</ymax></box></segm>", [CAT_BOX]),
        ("<bndbox><ymax>25.0</ymax> <xmax> 20 </xmax><ymin>\n3\n</ymin><xmin>2.</xmin></bndbox>", [CAT_BOX]),
        ('<bndbox xmin="2" ymin="3" xmax="20" ymax="25"/>', [CAT_BOX]),
        ("<BndBox><XMin>2</XMin><YMin>3</YMin><XMax>20</XMax><YMax>25</YMax></BndBox>", [CAT_BOX]),
        (
            "<robndbox><cx>11</cx><cy>14</cy><w>22</w><h>18</h><angle>1.5707963267948966</angle></robndbox>",
            [CAT_BOX],
        ),
        (
            "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>25</ymax></bndbox>"
            "<bndbox><xmin>3</xmin><ymin>3</ymin><xmax>21</xmax><ymax>25</ymax></bndbox>",
            [CAT_BOX, [2, 2, 20, 24]],
        ),
        (
            "<polygon><pt><x>1</x><y>1</y></pt></polygon>"
            "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>25</ymax></bndbox>",
            [CAT_BOX],
        ),
    ],
)  # fmt: skip
def test_boxes_of_objects(inner: str, boxes: List[List[float]], tmp_path: Path) -> None:
    write(tmp_path, "a.xml", text=annotation_xml(f"<object><name> cat\n</name>{inner}</object>"))
    annotation = read_annotation(tmp_path / "a.xml")
    np.testing.assert_allclose([entry.box for entry in annotation.objects], boxes, atol=1e-9)
    assert {entry.name for entry in annotation.objects} == {"cat"}
    assert not annotation.invalid


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        ("<polygon/>", "polygon-invalid"),
        ("<polygon><pt><x>a</x><y>3</y></pt></polygon>", "polygon-invalid"),
        ("<polygon><pt><x>nan</x><y>3</y></pt><pt><x>4</x><y>9</y></pt></polygon>", "box-not-finite"),
        ("<polygon><pt><x>4</x><y>3</y></pt></polygon>", "box-without-area"),
        ("<robndbox><cx>11</cx></robndbox>", "box-not-numeric"),
        ("<pose>Left</pose>", "box-missing"),
        ("<bndbox><x>1</x><y>1</y><w>5</w><h>5</h></bndbox>", "box-not-numeric"),
        ("<bndbox><xmin>20</xmin><ymin>3</ymin><xmax>2</xmax><ymax>25</ymax></bndbox>", "box-inverted"),
        ("<bndbox><xmin>1,5</xmin><ymin>3</ymin><xmax>20</xmax><ymax>25</ymax></bndbox>", "box-not-numeric"),
    ],
)
def test_objects_without_a_box_are_counted(inner: str, code: str, tmp_path: Path) -> None:
    write(tmp_path, "a.xml", text=annotation_xml(CAT, f"\n<object><name>dog</name>{inner}</object>"))
    annotation = read_annotation(tmp_path / "a.xml")
    assert [entry.name for entry in annotation.objects] == ["cat"]
    assert [(finding.code, finding.where) for finding in annotation.invalid] == [(code, "line 2")]


def test_class_names_are_one_line_and_deleted_objects_are_left_out(tmp_path: Path) -> None:
    deleted = CAT.replace("</name>", "</name><deleted>1</deleted>")
    write(tmp_path, "a.xml", text=annotation_xml(CAT.replace("cat", "traffic\n  light"), deleted))
    assert [entry.name for entry in read_annotation(tmp_path / "a.xml").objects] == ["traffic light"]


def test_names_found_without_parsing(tmp_path: Path) -> None:
    part = box_xml("head", 5, 5, 9, 9).replace("object>", "part>")
    text = annotation_xml(CAT, f"<object>{part}<bndbox/><name>dog</name></object>")
    write(tmp_path, "a.xml", text=text.replace("<size>", "<owner><name>Me</name></owner><size>"))
    assert object_names(tmp_path / "a.xml") == {"cat", "dog"}


def test_objects_in_a_container(tmp_path: Path) -> None:
    write(tmp_path, "a.xml", text=annotation_xml(f"<objects>{CAT}{HAT}</objects>"))
    assert [entry.name for entry in read_annotation(tmp_path / "a.xml").objects] == ["cat", "hat"]


# ---- damaged files -----------------------------------------------------------------------------------------


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    rng = random.Random(0)
    write(tmp_path, *[f"Annotations/{n}.xml" for n in "abc"], *[f"images/{n}.png" for n in "abc"])
    (tmp_path / "train.txt").write_text("images/a.png Annotations/a.xml\nb\nc\n")
    contents = [
        encoded(*names) for names in (("utf-16", "utf-16"), ("gbk", "gbk"), ("gbk",), ("utf-8", "utf-16"))
    ]
    outcomes = set()
    for number in range(50):
        for name in rng.sample("abc", 2):
            write(tmp_path, f"Annotations/{name}.xml", text=damage(rng.choice(contents), True, rng))
        if number % 3 == 0:
            (tmp_path / "train.txt").write_bytes(
                damage(b"images/a.png Annotations/a.xml\nb\nc 1\n", True, rng)
            )
        outcomes.add(read_or_refuse(VOC, tmp_path))
    assert outcomes == {"read", "refused"}
