"""Classes in CSV tables: files with their names, texts that look like values, and VIA's attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence, Tuple

import pytest
from helpers.datasets import codes
from helpers.detectors import make_image, write_image
from helpers.tables import CSV, EXPECTED, HEADERS, HEIGHT, TABLES, WIDTH, objects, read_csv

from mnssd.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("abc"):
        write_image(tmp_path / f"{name}.jpg", make_image(seed, WIDTH, HEIGHT))
    return tmp_path


# ---- classes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "classes"),
    [
        ("classes.csv", "dog,0\ncat,1\n", ("dog", "cat")),
        ("class_mapping.csv", "name;id\ndog;3\ncat;7\n", ("dog", "cat")),
        ("class_list.csv", "id,name\n1,cat\n2,dog\n3,bird\n", ("cat", "dog", "bird")),
        ("classes.txt", "dog\n\ncat\n", ("dog", "cat")),
    ],
)
def test_order_of_the_classes(name: str, text: str, classes: Tuple[str, ...], folder: Path) -> None:
    (folder / name).write_text(text)
    dataset = read_csv(folder, TABLES["keras-retinanet"], allow_absent=True)
    assert objects(dataset) == EXPECTED
    assert dataset.classes == classes


@pytest.mark.parametrize(
    ("name", "text"), [("classes.csv", "cat,0\ndog,2\n"), ("classes.txt", "cat\n\ndog\n")]
)
def test_numbers_of_classes_become_names(name: str, text: str, folder: Path) -> None:
    (folder / name).write_text(text)
    rows = TABLES["keras-retinanet"].replace("cat", "0").replace("dog", "2")
    assert objects(read_csv(folder, rows)) == EXPECTED
    dataset = read_csv(folder, rows + "a.jpg,1,1,9,9,1\n")
    assert objects(dataset) == EXPECTED
    assert codes(dataset) == {"class-unknown"}


def test_descriptions_of_openimages_classes(folder: Path) -> None:
    rows = TABLES["OpenImages"].replace("cat", "/m/01yrx").replace("dog", "/m/0bt9lr")
    (folder / "class-descriptions-boxable.csv").write_text("/m/01yrx,cat\n/m/0bt9lr,dog\n/m/0x,House, big\n")
    assert set(read_csv(folder, rows).classes) == {"/m/01yrx", "/m/0bt9lr"}  # damaged: three columns
    (folder / "class-descriptions-boxable.csv").write_text(
        "LabelName,DisplayName\n/m/01yrx,cat\n/m/0bt9lr,dog\n"
    )
    dataset = read_csv(folder, rows)
    assert objects(dataset) == EXPECTED
    assert dataset.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("column", "value"), [("IsGroupOf", "1"), ("difficult", "1"), ("iscrowd", "True"), ("difficult", "1.0")]
)
def test_difficult_objects(column: str, value: str, folder: Path) -> None:
    text = f"image,x1,y1,x2,y2,label,{column}\na.jpg,20,10,80,50,cat,{value}\na.jpg,100,50,140,90,dog,0\n"
    (sample,) = read_csv(folder, text)
    assert sample.difficult.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NA", "NA"), ("null", "null"), ("None", "None"), ("nan", "nan"), ("1", "1"), ("1.0", "1.0"),
        ("True", "True"), ("off", "off"), ("  cat ", "cat"), ('"traffic\nlight"', "traffic light"),
        ("big  cat", "big cat"), ("cafe\u0301", "caf\u00e9"), ("cat\u200b", "cat"), ('"a, b"', "a, b"),
        ("\u732b", "\u732b"), ("007", "007"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tool", ["TensorFlow", "keras-retinanet"])
def test_class_names_stay_text(text: str, name: str, tool: str, folder: Path) -> None:
    row = {
        "TensorFlow": f"{HEADERS}a.jpg,200,100,{text},21,11,80,50\n",
        "keras-retinanet": f"a.jpg,20,10,80,50,{text}\n",
    }
    assert objects(read_csv(folder, row[tool])) == {"a": [(name, [20, 10, 79, 49])]}


# ---- VIA ---------------------------------------------------------------------------------------------------

VIA_HEADER = (
    "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
)


def via_row(shape: str, attributes: str, image: str = "a.jpg") -> str:
    cells = [image, "9", "{}", "1", "0", shape, attributes]
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells) + "\n"


RECT = '{"name":"rect","x":20,"y":10,"width":60,"height":40}'


@pytest.mark.parametrize(
    ("shape", "attributes", "code"),
    [
        ('{"name":"point","cx":5,"cy":5}', '{"class":"cat"}', "box-missing"),
        ('{"name":"rect","x":20}', '{"class":"cat"}', "box-not-numeric"),
        ('{"name":"rect",', '{"class":"cat"}', "box-not-numeric"),
        (RECT, '{"class":""}', "object-without-class"),
        (RECT, '{"class":{"cat":true,"dog":true}}', "object-without-class"),
    ],
)
def test_fault_in_a_region(shape: str, attributes: str, code: str, folder: Path) -> None:
    good = via_row(RECT, '{"class":"cat","color":"red"}')
    dataset = read_csv(folder, VIA_HEADER + good + via_row(shape, attributes))
    assert codes(dataset) == {code}
    assert objects(dataset) == {"a": EXPECTED["a"][:1]}


@pytest.mark.parametrize(
    ("attributes", "name"),
    [('{"Class":"cat","n":1}', "cat"), ('{"animal":"cat"}', "cat"), ("{}", "object"), ('{"label":5}', "5")],
)
def test_attribute_with_the_class(attributes: str, name: str, folder: Path) -> None:
    dataset = read_csv(folder, VIA_HEADER + via_row(RECT, attributes))
    assert objects(dataset) == {"a": [(name, [20, 10, 79, 49])]}


def test_unclear_attribute_is_asked_for(folder: Path) -> None:
    with pytest.raises(DataError, match=r"train\.csv.*animal.*color"):
        read_csv(folder, VIA_HEADER + via_row(RECT, '{"animal":"cat","color":"red"}'))


def classes_of(folder: Path, split: str, classes: Optional[Sequence[str]] = None) -> Tuple[str, ...]:
    return CSV.read(folder, split, classes).classes


def test_class_of_another_list_may_be_requested(folder: Path) -> None:
    (folder / "train.csv").write_text("a.jpg,20,10,80,50,cat\n")
    (folder / "val.csv").write_text("b.jpg,20,10,80,50,dog\n")
    assert classes_of(folder, "train", ["cat", "dog"]) == ("cat", "dog")
    with pytest.raises(DataError, match="bird"):
        classes_of(folder, "train", ["cat", "bird"])
