"""CSV tables as real tools write them: columns, separators, units, lists and class names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from helpers.datasets import codes
from helpers.detectors import make_image, write_image

from mnssd.data.annotations.table import is_table, read_table
from mnssd.data.dataset import Dataset
from mnssd.data.formats import formats
from mnssd.errors import DataError

CSV = formats["csv"]
WIDTH, HEIGHT = 200, 100

Objects = Dict[str, List[Tuple[str, List[float]]]]

EXPECTED: Objects = {
    "a": [("cat", [20, 10, 79, 49]), ("dog", [100, 50, 139, 89])],
    "b": [("cat", [0, 0, 199, 99])],
    "c": [],
}
"""Boxes of columns 20 to 79 and so on, whose right edges are at 80."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate("abc"):
        write_image(tmp_path / f"{name}.jpg", make_image(seed, WIDTH, HEIGHT))
    return tmp_path


def read(folder: Path, text: str = "", name: str = "train.csv", split: str = "", **options: Any) -> Dataset:
    if text:
        (folder / name).write_text(text, encoding=options.pop("encoding", "utf-8"), newline="")
    return CSV.read(folder, split or next(iter(CSV.lists(folder))), **options)


def objects(dataset: Dataset) -> Objects:
    return {
        sample.image_id: [
            (dataset.classes[label], np.round(box, 3).tolist())
            for label, box in zip(sample.labels, sample.boxes.astype(float))
        ]
        for sample in dataset
    }


HEADERS = "filename,width,height,class,xmin,ymin,xmax,ymax\n"

TABLES: Dict[str, str] = {
    "TensorFlow": HEADERS + "a.jpg,200,100,cat,21,11,80,50\na.jpg,200,100,dog,101,51,140,90\n"
    "b.jpg,200,100,cat,1,1,200,100\nc.jpg,200,100,,,,,\n",
    "keras-retinanet": "a.jpg,20,10,80,50,cat\na.jpg,100,50,140,90,dog\nb.jpg,0,0,200,100,cat\nc.jpg,,,,,\n",
    "keras-retinanet, folders of another machine": "/home/me/data/a.jpg,20,10,80,50,cat\n"
    "D:\\data\\a.jpg,100,50,140,90,dog\nimages/b.jpg,0,0,200,100,cat\nx/c.jpg,,,,,\n",
    "SKU-110K": "a.jpg,20,10,80,50,cat,200,100\na.jpg,100,50,140,90,dog,200,100\n"
    "b.jpg,0,0,200,100,cat,200,100\nc.jpg,,,,,,200,100\n",
    "OpenImages": "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf\n"
    "a,xclick,cat,1,0.1,0.4,0.1,0.5,0,0\na,xclick,dog,1,0.5,0.7,0.5,0.9,0,0\nb,xclick,cat,1,0,1,0,1,0,0\n"
    "c,,,,,,,,,\n",
    "VIA": "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
    "region_attributes\n"
    'a.jpg,9,"{}",2,0,"{""name"":""rect"",""x"":20,""y"":10,""width"":60,""height"":40}","{""kind"":""cat""}"\n'
    'a.jpg,9,"{}",2,1,"{""name"":""polygon"",""all_points_x"":[100,140,120],""all_points_y"":[60,50,90]}",'
    '"{""kind"":""dog""}"\n'
    'b.jpg,9,"{}",1,0,"{""name"":""ellipse"",""cx"":100,""cy"":50,""rx"":100,""ry"":50}","{""kind"":{""cat"":true}}"'
    '\nc.jpg,9,"{}",0,0,"{}","{}"\n',
    "VoTT": '"image","xmin","ymin","xmax","ymax","label"\n"a.jpg",20,10,80,50,"cat"\n'
    '"a.jpg",100,50,140,90,"dog"\n'
    '"b.jpg",0,0,200,100,"cat"\n"c.jpg",,,,,\n',
    "AutoML": "UNASSIGNED,gs://bucket/x/a.jpg,cat,0.1,0.1,,,0.4,0.5,,\n"
    "UNASSIGNED,gs://bucket/x/a.jpg,dog,0.5,0.5,0.7,0.5,0.7,0.9,0.5,0.9\n"
    "UNASSIGNED,gs://bucket/x/b.jpg,cat,0,0,,,1,1,,\nUNASSIGNED,gs://bucket/x/c.jpg,,,,,,,,,\n",
    "AutoML without set": "gs://bucket/a.jpg,cat,0.1,0.1,,,0.4,0.5,,\ngs://bucket/a.jpg,dog,0.5,0.5,,,0.7,0.9,,\n"
    "gs://bucket/b.jpg,cat,0,0,,,1,1,,\ngs://bucket/c.jpg,,,,,,,,,\n",
    "Kaggle": "image_id,width,height,bbox,label\na,200,100,\"[20.0, 10.0, 60.0, 40.0]\",cat\n"
    'a,200,100,"[100, 50, 40, 40]",dog\nb,200,100,"[0, 0, 200, 100]",cat\nc,200,100,,\n',
    "box as corner and size": "label,x,y,width,height,image\ncat,20,10,60,40,a.jpg\ndog,100,50,40,40,a.jpg\n"
    "cat,0,0,200,100,b.jpg\n,,,,,c.jpg\n",
    "w, h of the box and width, height of the image": "image_path,w,h,x,y,width,height,category\n"
    "a.jpg,60,40,20,10,200,100,cat\na.jpg,40,40,100,50,200,100,dog\nb.jpg,200,100,0,0,200,100,cat\n"
    "c.jpg,,,,,200,100,\n",
    "prefixes": "img_name,bbox_xmin,bbox_ymin,bbox_width,bbox_height,class_name\na,20,10,60,40,cat\n"
    "a,100,50,40,40,dog\nb,0,0,200,100,cat\nc,,,,,\n",
    "center": "file,class,x_center,y_center,w,h\na.jpg,cat,50,30,60,40\na.jpg,dog,120,70,40,40\n"
    "b.jpg,cat,100,50,200,100\nc.jpg,,,,,\n",
    "names and numbers of classes": "class_id,class_name,Left,Top,Right,Bottom,File Name\n"
    "0,cat,20,10,80,50,a.jpg\n"
    "1,dog,100,50,140,90,a.jpg\n0,cat,0,0,200,100,b.jpg\n,,,,,,c.jpg\n",
    "x0 to x1": "name,x0,y0,x1,y1,label\na.jpg,20,10,80,50,cat\na.jpg,100,50,140,90,dog\n"
    "b.jpg,0,0,200,100,cat\nc.jpg,,,,,\n",
    "sizes of boxes": "filename,label,width,height,x1,y1,x2,y2\na.jpg,cat,60,40,20,10,80,50\n"
    "a.jpg,dog,40,40,100,50,140,90\nb.jpg,cat,200,100,0,0,200,100\nc.jpg,,,,,,,\n",
    "index and unused columns": ",image,id,x1,y1,x2,y2,label,notes\n0,a.jpg,7,20,10,80,50,cat,x\n"
    "1,a.jpg,8,100,50,140,90,dog,\n2,b.jpg,9,0,0,200,100,cat,\n3,c.jpg,,,,,,,\n",
    "percent-encoded": "image,xmin,ymin,xmax,ymax,label\n%61.jpg,20,10,80,50,cat\na.jpg,100,50,140,90,dog\n"
    "https://host/x/b.jpg?size=1,0,0,200,100,cat\nc.jpg,,,,,\n",
}  # fmt: skip


@pytest.mark.parametrize("tool", list(TABLES))
def test_columns_of_each_tool(tool: str, folder: Path) -> None:
    dataset = read(folder, TABLES[tool])
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
    assert objects(read(folder, text, encoding=encoding)) == EXPECTED


def test_first_line_of_excel_and_blank_lines(folder: Path) -> None:
    text = "sep=;\n\n" + TABLES["TensorFlow"].replace(",", ";").replace("\n", "\n;;;;\n\n")
    assert objects(read(folder, text)) == EXPECTED


def test_decimal_commas(folder: Path) -> None:
    text = "image;xmin;ymin;xmax;ymax;label\na.jpg;20,5;10,25;80,5;50;cat\n"
    assert objects(read(folder, text)) == {"a": [("cat", [20.5, 10.25, 79.5, 49])]}
    shares = "image;xmin;ymin;xmax;ymax;label\na.jpg;0,125;0,250;0,5;0,75;cat\n"
    assert objects(read(folder, shares)) == {"a": [("cat", [25, 25, 99, 74])]}


@pytest.mark.parametrize("separator", [";", ","])
def test_thousands_are_not_taken_for_decimals(separator: str, folder: Path) -> None:
    row = separator.join(["a.jpg", '"1,024"', "500", '"1,200"', "700", "cat"])
    with pytest.raises(DataError, match=r"train\.csv"):
        read(folder, separator.join(["image", "xmin", "ymin", "xmax", "ymax", "label"]) + f"\n{row}\n")


# ---- units -------------------------------------------------------------------------------------------------


def test_shares_are_of_the_images_real_size(folder: Path) -> None:
    rows = "a.jpg,1000,1000,cat,0.1,0.1,0.4,0.5\nb.jpg,1000,1000,cat,0,0,1,1\n"
    dataset = read(folder, HEADERS + rows)
    assert objects(dataset) == {"a": EXPECTED["a"][:1], "b": EXPECTED["b"]}


def test_a_whole_image_among_shares_is_a_share(folder: Path) -> None:
    text = "b.jpg,0,0,1,1,cat\na.jpg,0.1,0.1,0.4,0.5,cat\n"
    assert objects(read(folder, text))["b"] == EXPECTED["b"]


def test_shares_over_the_edge_are_clipped(folder: Path) -> None:
    text = "a.jpg,0.1,0.1,0.4,0.5,cat\na.jpg,0.5,0.5,1.1,1.02,dog\n"
    dataset = read(folder, text)
    assert objects(dataset)["a"][1] == ("dog", [100, 50, 199, 99])
    assert codes(dataset) == {"box-clipped"}


def test_share_and_pixels_in_one_table_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"train\.csv"):
        read(folder, "a.jpg,0.1,0.1,0.4,0.5,cat\na.jpg,100,50,140,90,dog\n")


@pytest.mark.parametrize(
    ("many", "one", "code"),
    [
        ("a.jpg,20,10,80,50,cat\n", "a.jpg,0.1,0.1,0.4,0.5,dog\n", "boxes-normalized"),
        ("a.jpg,0.1,0.1,0.4,0.5,cat\n", "a.jpg,100,50,140,90,dog\n", "boxes-in-pixels"),
    ],
)
def test_single_box_in_another_unit_is_an_error(many: str, one: str, code: str, folder: Path) -> None:
    dataset = read(folder, many * 9 + one)
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
        read(folder, text)


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
    dataset = read(folder, f"image,x1,y1,x2,y2,label\na.jpg,20,10,80,50,cat\na.jpg,{cells}\n")
    assert codes(dataset) == {FAULTS[cells]}
    assert objects(dataset) == {"a": EXPECTED["a"][:1]}


@pytest.mark.parametrize(
    "cells", [",,,,", "NaN,NaN,NaN,NaN,NaN", ",,,,No finding", "0,0,0,0,", "none,none,none,none,"]
)
def test_image_without_objects(cells: str, folder: Path) -> None:
    dataset = read(folder, f"image,x1,y1,x2,y2,label\na.jpg,20,10,80,50,cat\nc.jpg,{cells}\n")
    assert objects(dataset) == {"a": EXPECTED["a"][:1], "c": []}
    assert not dataset.findings


# ---- images ------------------------------------------------------------------------------------------------


def test_missing_image_is_skipped_once(folder: Path) -> None:
    text = "a.jpg,20,10,80,50,cat\ngone.jpg,1,1,9,9,cat\ngone.jpg,1,1,9,9,dog\nb.jpg,0,0,200,100,cat\n"
    dataset = read(folder, text)
    assert [sample.image_id for sample in dataset] == ["a", "b"]
    assert [finding.code for finding in dataset.findings] == ["image-missing"]


def test_names_of_one_image_are_joined(folder: Path) -> None:
    text = "a.jpg,20,10,80,50,cat\n./a.jpg,100,50,140,90,dog\n/data/A.JPG,0,0,10,10,dog\n"
    dataset = read(folder, text)
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
    dataset = read(folder, text)
    assert objects(dataset) == {"a": [("object", [20, 10, 79, 49])], "b": []}
    assert codes(dataset) == {"class-column-missing"}


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
    dataset = read(folder, TABLES["keras-retinanet"], allow_absent=True)
    assert objects(dataset) == EXPECTED
    assert dataset.classes == classes


@pytest.mark.parametrize(
    ("name", "text"), [("classes.csv", "cat,0\ndog,2\n"), ("classes.txt", "cat\n\ndog\n")]
)
def test_numbers_of_classes_become_names(name: str, text: str, folder: Path) -> None:
    (folder / name).write_text(text)
    rows = TABLES["keras-retinanet"].replace("cat", "0").replace("dog", "2")
    assert objects(read(folder, rows)) == EXPECTED
    dataset = read(folder, rows + "a.jpg,1,1,9,9,1\n")
    assert objects(dataset) == EXPECTED
    assert codes(dataset) == {"class-unknown"}


def test_descriptions_of_openimages_classes(folder: Path) -> None:
    rows = TABLES["OpenImages"].replace("cat", "/m/01yrx").replace("dog", "/m/0bt9lr")
    (folder / "class-descriptions-boxable.csv").write_text("/m/01yrx,cat\n/m/0bt9lr,dog\n/m/0x,House, big\n")
    assert set(read(folder, rows).classes) == {"/m/01yrx", "/m/0bt9lr"}  # damaged: three columns
    (folder / "class-descriptions-boxable.csv").write_text(
        "LabelName,DisplayName\n/m/01yrx,cat\n/m/0bt9lr,dog\n"
    )
    dataset = read(folder, rows)
    assert objects(dataset) == EXPECTED
    assert dataset.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("column", "value"), [("IsGroupOf", "1"), ("difficult", "1"), ("iscrowd", "True"), ("difficult", "1.0")]
)
def test_difficult_objects(column: str, value: str, folder: Path) -> None:
    text = f"image,x1,y1,x2,y2,label,{column}\na.jpg,20,10,80,50,cat,{value}\na.jpg,100,50,140,90,dog,0\n"
    (sample,) = read(folder, text)
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
    assert objects(read(folder, row[tool])) == {"a": [(name, [20, 10, 79, 49])]}


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
    good = via_row(RECT, '{"class":"cat","colour":"red"}')
    dataset = read(folder, VIA_HEADER + good + via_row(shape, attributes))
    assert codes(dataset) == {code}
    assert objects(dataset) == {"a": EXPECTED["a"][:1]}


@pytest.mark.parametrize(
    ("attributes", "name"),
    [('{"Class":"cat","n":1}', "cat"), ('{"animal":"cat"}', "cat"), ("{}", "object"), ('{"label":5}', "5")],
)
def test_attribute_with_the_class(attributes: str, name: str, folder: Path) -> None:
    dataset = read(folder, VIA_HEADER + via_row(RECT, attributes))
    assert objects(dataset) == {"a": [(name, [20, 10, 79, 49])]}


def test_unclear_attribute_is_asked_for(folder: Path) -> None:
    with pytest.raises(DataError, match=r"train\.csv.*animal.*colour"):
        read(folder, VIA_HEADER + via_row(RECT, '{"animal":"cat","colour":"red"}'))


def test_unit_is_decided_over_the_whole_table(folder: Path) -> None:
    (folder / "x.csv").write_text("a.jpg,0,0,1,1,cat\n")
    assert not read_table(folder / "x.csv").is_normalized
    (folder / "x.csv").write_text("a.jpg,0,0,1,1,cat\na.jpg,0,0,.5,1,cat\n")
    assert read_table(folder / "x.csv").is_normalized


def classes_of(folder: Path, split: str, classes: Optional[Sequence[str]] = None) -> Tuple[str, ...]:
    return CSV.read(folder, split, classes).classes


def test_class_of_another_list_may_be_requested(folder: Path) -> None:
    (folder / "train.csv").write_text("a.jpg,20,10,80,50,cat\n")
    (folder / "val.csv").write_text("b.jpg,20,10,80,50,dog\n")
    assert classes_of(folder, "train", ["cat", "dog"]) == ("cat", "dog")
    with pytest.raises(DataError, match="bird"):
        classes_of(folder, "train", ["cat", "bird"])
