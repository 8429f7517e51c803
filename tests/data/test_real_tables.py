"""CSV tables as real tools write them: columns, separators, units and lists."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Sequence, Tuple

import pytest
from helpers.datasets import codes
from helpers.detectors import make_image, write_image
from helpers.tables import CSV, EXPECTED, HEADERS, HEIGHT, TABLES, WIDTH, objects, read_csv

from mnssd.data.annotations.table import is_table, read_table
from mnssd.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("abc"):
        write_image(tmp_path / f"{name}.jpg", make_image(seed, WIDTH, HEIGHT))
    return tmp_path


@pytest.mark.parametrize("tool", list(TABLES))
def test_columns_of_each_tool(tool: str, folder: Path) -> None:
    dataset = read_csv(folder, TABLES[tool])
    assert objects(dataset) == EXPECTED
    assert dataset.classes == ("cat", "dog")
    assert not dataset.findings
    assert CSV.evidence(folder)


DIALECTS: Dict[str, Tuple[str, str, str]] = {
    "semicolons": (";", "utf-8", "\n"),
    "tabs": ("\t", "utf-8", "\n"),
    "bars": ("|", "utf-8", "\r\n"),
    "comma and space": (", ", "utf-8", "\n"),
    "BOM": (",", "utf-8-sig", "\r\n"),
    "UTF-16": (";", "utf-16", "\r\n"),
    "UTF-16 without BOM": ("\t", "utf-16-le", "\r\n"),
    "UTF-16 big endian": (",", "utf-16-be", "\n"),
    "old Mac": (",", "utf-8", "\r"),
}


@pytest.mark.parametrize("dialect", list(DIALECTS))
@pytest.mark.parametrize("tool", ["TensorFlow", "keras-retinanet", "VoTT"])
def test_separators_and_encodings(dialect: str, tool: str, folder: Path) -> None:
    separator, encoding, end = DIALECTS[dialect]
    text = TABLES[tool].replace(",", separator).replace("\n", end)
    assert objects(read_csv(folder, text, encoding=encoding)) == EXPECTED


def test_first_line_of_excel_and_blank_lines(folder: Path) -> None:
    text = "sep=;\n\n" + TABLES["TensorFlow"].replace(",", ";").replace("\n", "\n;;;;\n\n")
    assert objects(read_csv(folder, text)) == EXPECTED


def test_decimal_commas(folder: Path) -> None:
    text = "image;xmin;ymin;xmax;ymax;label\na.jpg;20,5;10,25;80,5;50;cat\n"
    assert objects(read_csv(folder, text)) == {"a": [("cat", [20.5, 10.25, 79.5, 49])]}
    shares = "image;xmin;ymin;xmax;ymax;label\na.jpg;0,125;0,250;0,5;0,75;cat\n"
    assert objects(read_csv(folder, shares)) == {"a": [("cat", [25, 25, 99, 74])]}


@pytest.mark.parametrize("separator", [";", ","])
def test_thousands_are_not_taken_for_decimals(separator: str, folder: Path) -> None:
    row = separator.join(["a.jpg", '"1,024"', "500", '"1,200"', "700", "cat"])
    with pytest.raises(DataError, match=r"train\.csv"):
        read_csv(folder, separator.join(["image", "xmin", "ymin", "xmax", "ymax", "label"]) + f"\n{row}\n")


# ---- units -------------------------------------------------------------------------------------------------


def test_shares_are_of_the_images_real_size(folder: Path) -> None:
    rows = "a.jpg,1000,1000,cat,0.1,0.1,0.4,0.5\nb.jpg,1000,1000,cat,0,0,1,1\n"
    dataset = read_csv(folder, HEADERS + rows)
    assert objects(dataset) == {"a": EXPECTED["a"][:1], "b": EXPECTED["b"]}


def test_a_whole_image_among_shares_is_a_share(folder: Path) -> None:
    text = "b.jpg,0,0,1,1,cat\na.jpg,0.1,0.1,0.4,0.5,cat\n"
    assert objects(read_csv(folder, text))["b"] == EXPECTED["b"]


def test_shares_over_the_edge_are_clipped(folder: Path) -> None:
    text = "a.jpg,0.1,0.1,0.4,0.5,cat\na.jpg,0.5,0.5,1.1,1.02,dog\n"
    dataset = read_csv(folder, text)
    assert objects(dataset)["a"][1] == ("dog", [100, 50, 199, 99])
    assert codes(dataset) == {"box-clipped"}


def test_share_and_pixels_in_one_table_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"train\.csv"):
        read_csv(folder, "a.jpg,0.1,0.1,0.4,0.5,cat\na.jpg,100,50,140,90,dog\n")


@pytest.mark.parametrize(
    ("many", "one", "code"),
    [
        ("a.jpg,20,10,80,50,cat\n", "a.jpg,0.1,0.1,0.4,0.5,dog\n", "boxes-normalized"),
        ("a.jpg,0.1,0.1,0.4,0.5,cat\n", "a.jpg,100,50,140,90,dog\n", "boxes-in-pixels"),
    ],
)
def test_single_box_in_another_unit_is_an_error(many: str, one: str, code: str, folder: Path) -> None:
    dataset = read_csv(folder, many * 9 + one)
    assert codes(dataset) == {code}
    assert objects(dataset) == {"a": [EXPECTED["a"][0]] * 9}
    assert [finding.where for finding in dataset.findings] == ["line 10"]


@pytest.mark.parametrize(
    "text",
    [
        "image,x,y,w,h,label\n" + "a.jpg,120,60,180,90,cat\n" * 4,  # corners
        "image,x,y,w,h,label\n" + "a.jpg,170,80,60,40,cat\n" * 4,  # centers
        'image_id,bbox,label\n' + 'a,"[120, 60, 180, 90]",cat\n' * 4,
    ],
)  # fmt: skip
def test_corners_or_centers_called_x_and_y_are_refused(text: str, folder: Path) -> None:
    with pytest.raises(DataError, match=r"train\.csv"):
        read_csv(folder, text)


FAULTS: Dict[str, str] = {
    "80,10,20,50,cat": "box-inverted",
    "20,10,20,50,cat": "box-without-area",
    "20,10,21,50,cat": "box-without-area",
    "20,,80,50,cat": "box-missing",
    ",,,,cat": "box-missing",
    "20,10,80,50,": "object-without-class",
    "a,b,c,d,cat": "box-not-numeric",
    "nan,10,80,50,cat": "box-not-finite",
    "500,500,560,560,cat": "box-outside",
}


@pytest.mark.parametrize("cells", list(FAULTS))
def test_fault_in_a_row_is_reported_and_the_rest_is_read(cells: str, folder: Path) -> None:
    dataset = read_csv(folder, f"image,x1,y1,x2,y2,label\na.jpg,20,10,80,50,cat\na.jpg,{cells}\n")
    assert codes(dataset) == {FAULTS[cells]}
    assert objects(dataset) == {"a": EXPECTED["a"][:1]}


@pytest.mark.parametrize(
    "cells", [",,,,", "NaN,NaN,NaN,NaN,NaN", ",,,,No finding", "0,0,0,0,", "none,none,none,none,"]
)
def test_image_without_objects(cells: str, folder: Path) -> None:
    dataset = read_csv(folder, f"image,x1,y1,x2,y2,label\na.jpg,20,10,80,50,cat\nc.jpg,{cells}\n")
    assert objects(dataset) == {"a": EXPECTED["a"][:1], "c": []}
    assert not dataset.findings


def test_unit_is_decided_over_the_whole_table(folder: Path) -> None:
    (folder / "x.csv").write_text("a.jpg,0,0,1,1,cat\n")
    assert not read_table(folder / "x.csv").is_normalized
    (folder / "x.csv").write_text("a.jpg,0,0,1,1,cat\na.jpg,0,0,.5,1,cat\n")
    assert read_table(folder / "x.csv").is_normalized


# ---- images ------------------------------------------------------------------------------------------------


def test_missing_image_is_skipped_once(folder: Path) -> None:
    text = "a.jpg,20,10,80,50,cat\ngone.jpg,1,1,9,9,cat\ngone.jpg,1,1,9,9,dog\nb.jpg,0,0,200,100,cat\n"
    dataset = read_csv(folder, text)
    assert [sample.image_id for sample in dataset] == ["a", "b"]
    assert [finding.code for finding in dataset.findings] == ["image-missing"]


def test_names_of_one_image_are_joined(folder: Path) -> None:
    text = "a.jpg,20,10,80,50,cat\n./a.jpg,100,50,140,90,dog\n/data/A.JPG,0,0,10,10,dog\n"
    dataset = read_csv(folder, text)
    assert objects(dataset) == {"a": [*EXPECTED["a"], ("dog", [0, 0, 9, 9])]}


# ---- lists -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "train", "val"),
    [
        (("annotations_train.csv", "annotations_val.csv", "annotations_test.csv"), "train", "val"),
        (("train_labels.csv", "test_labels.csv"), "train", "test"),
        (("train-annotations-bbox.csv", "validation-annotations-bbox.csv"), "train", "validation"),
        (("Train.CSV", "Valid.csv"), "Train", "Valid"),
        (("training.tsv", "dev.tsv"), "training", "dev"),
        (("animals-export.csv",), "animals:train", "animals:val"),
    ],
)
def test_roles_of_files(names: Sequence[str], train: str, val: str, folder: Path) -> None:
    for name in names:
        (folder / name).write_text(TABLES["VoTT"])
    assert (CSV.default_splits(folder, "train"), CSV.default_splits(folder, "val")) == (train, val)


@pytest.mark.parametrize(
    ("header", "values", "train", "val"),
    [
        ("", ("TRAIN", "VALIDATION", "TEST"), "train", "validation"),
        ("", ("TRAIN", "TEST", "UNASSIGNED"), "train", "test"),
        ("set", ("train", "val", "test"), "train", "val"),
        ("Split", ("Training", "Testing", ""), "training", "testing"),
        ("ml_use", ("validation", "training", "training"), "training", "validation"),
    ],
)
def test_column_that_tells_the_lists_apart(
    header: str, values: Sequence[str], train: str, val: str, folder: Path
) -> None:
    images = zip("abc", values)
    if header:
        text = f"image,x1,y1,x2,y2,label,{header}\n"
        text += "".join(f"{name}.jpg,20,10,80,50,cat,{value}\n" for name, value in images)
    else:
        text = "".join(f"{value},gs://x/{name}.jpg,cat,0.1,0.1,,,0.4,0.5,,\n" for name, value in images)
    (folder / "all.csv").write_text(text)
    assert (CSV.default_splits(folder, "train"), CSV.default_splits(folder, "val")) == (train, val)
    for name in CSV.lists(folder):
        expected = [i for i, value in zip("abc", values) if (value.lower() or "unassigned") == name]
        assert [sample.image_id for sample in CSV.read(folder, name)] == expected


def test_column_of_lists_in_several_tables(folder: Path) -> None:
    header = "image,x1,y1,x2,y2,label,split\n"
    (folder / "train.csv").write_text(header + "a.jpg,20,10,80,50,cat,train\n")
    (folder / "val.csv").write_text(header + "b.jpg,0,0,200,100,cat,valid\n")
    (folder / "more.csv").write_text(header + "c.jpg,0,0,200,100,cat,test\na.jpg,1,1,9,9,cat,train\n")
    assert set(CSV.lists(folder)) == {"train", "val", "more_test", "more_train"}
    assert [sample.image_id for sample in CSV.read(folder, "more_test")] == ["c"]


def test_other_files_are_no_lists(folder: Path) -> None:
    texts = {
        "classes.csv": "cat,0\ndog,1\n", "test.csv": "image_id,width,height\na,200,100\n",
        "sample_submission.csv": "image_id,PredictionString\na,\n", "results.csv": "epoch,loss\n1,0.5\n",
        "train.csv": TABLES["Kaggle"], "empty.csv": "", "log.csv": "1,2,3,4,5,6\n",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    assert list(CSV.lists(folder)) == ["train"]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("image,x1,y1,x2,y2,species", "species"),  # which column has the class?
        ("image,left,upper,x2,y2,label", "upper"),
        ("image,x,y,label", "label"),
        ("filename,bboxes,class", "bboxes"),
    ],
)
def test_unknown_columns_are_named(header: str, found: str, folder: Path) -> None:
    (folder / "train.csv").write_text(header + "\na.jpg" + ",20" * header.count(",") + "\n")
    assert is_table(folder / "train.csv")
    assert not CSV.evidence(folder)
    assert CSV.weak_evidence(folder)
    with pytest.raises(DataError, match=rf"train\.csv.*{found}"):
        CSV.read(folder, "train")


def test_table_of_one_class(folder: Path) -> None:
    """Kaggle's wheat heads: no column for the class."""
    text = 'image_id,width,height,bbox,source\na,200,100,"[20, 10, 60, 40]",x\nb,200,100,,x\n'
    dataset = read_csv(folder, text)
    assert objects(dataset) == {"a": [("object", [20, 10, 79, 49])], "b": []}
    assert codes(dataset) == {"class-column-missing"}
