"""Datasets in COCO's and YOLO's formats, and VOC's XML without lists: the same samples and training."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import pytest
from helpers.detectors import make_image, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fuzz_files import damaged

from mnssd.cli.main import main
from mnssd.data.convert import convert
from mnssd.data.dataset import Dataset
from mnssd.data.formats import READ_ONLY, formats, writable_names
from mnssd.data.formats.coco import read_coco, write_coco
from mnssd.data.formats.csv import read_csv
from mnssd.data.formats.recordio import read_rec
from mnssd.data.formats.yolo import read_yolo
from mnssd.data.image import read_bytes
from mnssd.data.open import open_dataset, recognize
from mnssd.data.sample import Sample
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import DataError, OptionError
from mnssd.train.checkpoint import read_checkpoint
from mnssd.train.options import resolve_detection

FORMATS = writable_names()

TINY = {"width": 0.25, "size": (96, 96), "epochs": 1, "batch_size": 8, "val_interval": 0, "lr": 0.01}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=16, val=6, size=(96, 96))
    return folder


@pytest.fixture(scope="module")
def converted(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """The same dataset in each format."""
    folder = tmp_path_factory.mktemp("converted")
    for kind in FORMATS:
        assert main(["convert-data", str(shapes), str(folder / kind), "--format", kind]) == 0
    return {kind: folder / kind for kind in FORMATS}


def check_same(found: Dataset, expected: Dataset) -> None:
    assert found.classes == expected.classes
    assert [s.image_id for s in found] == [s.image_id for s in expected]
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.size == other.size
        assert read_bytes(one.image_path) == read_bytes(other.image_path)


# ---- the same in every format ------------------------------------------------------------------------------


def test_read_only_formats_are_those_without_a_writer() -> None:
    assert tuple(entry.name for entry in formats if not entry.writable) == READ_ONLY


@pytest.mark.parametrize("kind", FORMATS)
def test_converted_it_has_the_same_samples(kind: str, shapes: Path, converted: Dict[str, Path]) -> None:
    assert recognize(converted[kind])[0].name == kind
    for role in ("train", "val"):
        expected = open_dataset("voc", shapes, role=role, allow_absent=True)
        found = open_dataset("auto", converted[kind], role=role, allow_absent=True)
        check_same(found, expected)
        assert f"read as {kind}" in found.notes[0]
        assert not any("clipped" in note for note in found.notes)


def test_there_and_back_again(converted: Dict[str, Path], shapes: Path, tmp_path: Path) -> None:
    for kind in [kind for kind in FORMATS if kind != "voc"]:
        assert (
            main(["convert-data", str(converted[kind]), str(tmp_path / kind), "--format", "voc", "--link"])
            == 0
        )
        for role in ("train", "val"):
            check_same(
                open_dataset("voc", tmp_path / kind, role=role), open_dataset("voc", shapes, role=role)
            )


def test_training_is_the_same_to_the_bit(converted: Dict[str, Path], tmp_path: Path) -> None:
    weights: List[Dict[str, np.ndarray]] = []
    small = ["--width=0.25", "--size=96", "--epochs=1", "--batch-size=8", "--val-interval=0", "--workers=0"]
    for kind in FORMATS:
        run = tmp_path / kind
        assert main(["train-ssd", "--data-root", str(converted[kind]), "--output", str(run), *small]) == 0
        weights.append(read_checkpoint(run / "last.ckpt")[0])
    for other in weights[1:]:
        assert all(np.array_equal(value, other[name]) for name, value in weights[0].items())


def test_a_run_finds_its_data_again(
    converted: Dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = str(tmp_path / "run")
    root = str(converted["coco"])
    small = ["--width=0.25", "--size=96", "--epochs=1", "--batch-size=8", "--workers=0"]
    assert main(["train-ssd", "--data-root", root, "--output", run, *small]) == 0
    said = capsys.readouterr().out
    assert "read as coco, for it holds COCO's JSON (lists: train, val)" in said
    assert "measuring on coco val: 6" in said
    assert main(["eval", run]) == 0
    assert "coco val" in capsys.readouterr().out
    assert main(["export", run, "--output", str(tmp_path / "export")]) == 0


@given(
    st.lists(
        st.tuples(*[st.floats(0, 300, width=32) for _ in range(4)], st.integers(0, 2), st.booleans()),
        max_size=6,
    ),
    st.integers(50, 400),
    st.integers(50, 400),
)
@settings(max_examples=60, deadline=None)
def test_boxes_go_round(rows: List[Any], width: int, height: int) -> None:
    """Any boxes of more than a pixel inside their image."""
    import tempfile

    boxes = []
    for x, y, w, h, label, flag in rows:
        left, top = min(x, width - 3), min(y, height - 3)
        right, bottom = min(left + 1 + w, width - 1), min(top + 1 + h, height - 1)
        if right - left > 0.01 and bottom - top > 0.01:
            boxes.append((left, top, right, bottom, label, flag))
    table = np.array(boxes, np.float32).reshape(-1, 6)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "set"
        image = write_image(Path(temporary) / "a.png", np.zeros((height, width, 3), np.uint8))
        sample = Sample(
            "a", image, table[:, :4], table[:, 4].astype(np.int32), table[:, 5] > 0, (width, height)
        )
        dataset = Dataset("random", ("one", "two", "three"), [sample])
        readers = {"coco": read_coco, "yolo": read_yolo, "csv": read_csv, "recordio": read_rec}
        for kind, read in readers.items():
            shutil.rmtree(root, ignore_errors=True)
            convert({"train": dataset}, root, formats[kind], False)
            (found,) = read(root, "train")
            np.testing.assert_allclose(found.boxes, sample.boxes, atol=0.01)
            np.testing.assert_array_equal(found.labels, sample.labels)
            if kind != "yolo":
                np.testing.assert_array_equal(found.difficult, sample.difficult)


# ---- other layouts -----------------------------------------------------------------------------------------


def test_xml_beside_images_is_parted_by_names(shapes: Path, tmp_path: Path) -> None:
    for path in [*(shapes / "Annotations").iterdir(), *(shapes / "JPEGImages").iterdir()]:
        shutil.copy(path, tmp_path)
    assert recognize(tmp_path)[0].name == "voc"
    train, val = (open_dataset("auto", tmp_path, role=role) for role in ("train", "val"))
    assert (len(train), len(val)) == (20, 2)
    assert not {s.image_id for s in train} & {s.image_id for s in val}
    assert "train is all:train" in train.notes[0]
    again = open_dataset("auto", tmp_path, role="val")
    assert [s.image_id for s in again] == [s.image_id for s in val]


def test_one_json_beside_images(converted: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(converted["coco"] / "annotations" / "instances_train.json", tmp_path / "labels.json")
    shutil.copytree(converted["coco"] / "images" / "train", tmp_path / "images")
    train, val = (open_dataset("auto", tmp_path, role=role) for role in ("train", "val"))
    assert (len(train), len(val)) == (14, 2)


def test_a_folder_of_each_list(converted: Dict[str, Path], shapes: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(converted["coco"] / "images" / split, tmp_path / "coco" / split)
        source = converted["coco"] / "annotations" / f"instances_{split}.json"
        shutil.copy(source, tmp_path / "coco" / split / "_annotations.coco.json")
        shutil.copytree(converted["yolo"] / "images" / split, tmp_path / "yolo" / split / "images")
        shutil.copytree(converted["yolo"] / "labels" / split, tmp_path / "yolo" / split / "labels")
    names = open_dataset("voc", shapes).classes
    (tmp_path / "yolo" / "data.yaml").write_text(
        f"train: ../train/images\nval: ../val/images\nnc: {len(names)}\nnames: {json.dumps(list(names))}\n"
    )
    for kind in ("coco", "yolo"):
        assert recognize(tmp_path / kind)[0].name == kind
        assert len(open_dataset("auto", tmp_path / kind)) == 16
        assert len(open_dataset("auto", tmp_path / kind, splits="train+val")) == 22


def test_yolo_with_a_list_of_classes_and_one_of_images(converted: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(converted["yolo"] / "images" / "train", tmp_path / "images")
    shutil.copytree(converted["yolo"] / "labels" / "train", tmp_path / "labels")
    names = open_dataset("yolo", converted["yolo"]).classes
    (tmp_path / "classes.txt").write_text("\n".join(names))
    assert list(formats["yolo"].lists(tmp_path)) == ["all"]
    assert len(open_dataset("auto", tmp_path)) == 14
    images = sorted(path.name for path in (tmp_path / "images").iterdir())
    (tmp_path / "train.txt").write_text("".join(f"./images/{name}\n" for name in images[:5]))
    (tmp_path / "data.yaml").write_text(f"train: train.txt\nnames: {json.dumps(dict(enumerate(names)))}\n")
    assert len(open_dataset("yolo", tmp_path, "train")) == 5


def test_data_root_alone_means_whatever_it_is() -> None:
    assert resolve_detection({"data_root": "somewhere"}, "x").data.dataset == "auto"
    assert resolve_detection({}, "x").data.dataset == "shapes"
    assert resolve_detection({"data_root": "somewhere", "dataset": "voc"}, "x").data.dataset == "voc"


def test_what_is_none_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Looked for: VOC2007"):
        open_dataset("auto", tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        open_dataset("auto", tmp_path / "nothing")
    write_image(tmp_path / "a.jpg", make_image(0))
    (tmp_path / "notes.json").write_text('{"images": 3}')
    with pytest.raises(DataError, match="not COCO's format"):
        open_dataset("auto", tmp_path)


def test_a_folder_that_holds_something_is_not_converted_into(converted: Dict[str, Path]) -> None:
    with pytest.raises(OptionError, match="holds something already"):
        convert({}, converted["voc"], formats["coco"], False)


# ---- faults ------------------------------------------------------------------------------------------------

Change = Callable[[Dict[str, Any]], None]


def first(content: Dict[str, Any], **changes: Any) -> None:
    content["annotations"][0].update(changes)


COCO_FAULTS: Dict[str, Any] = {
    "no such category": (lambda c: first(c, category_id=77), "category 77 that is not listed"),
    "no such image": (lambda c: first(c, image_id=777), "777 that is not listed"),
    "nan": (lambda c: first(c, bbox=[float("nan"), 1, 5, 5]), "four numbers"),
    "huge": (lambda c: first(c, bbox=[1e308, 1, 5, 5]), "four numbers"),
    "three numbers": (lambda c: first(c, bbox=[1, 1, 5]), "four numbers"),
    "texts": (lambda c: first(c, bbox=["1", "1", "5", "5"]), "four numbers"),
    "inverted": (lambda c: first(c, bbox=[30, 30, -5, 5]), "no area"),
    "no box": (lambda c: c["annotations"][0].pop("bbox"), "four numbers"),
    "not an object": (lambda c: c["annotations"].__setitem__(0, 5), "without an image"),
    "far outside": (lambda c: first(c, bbox=[5000, 5000, 9, 9]), "without area inside their images"),
    "image outside": (lambda c: c["images"][0].update(file_name="../../outside.jpg"), "leads out of"),
    "image absolute": (lambda c: c["images"][0].update(file_name="OUTSIDE"), "leads out of"),
    "image gone": (lambda c: c["images"][0].update(file_name="gone.jpg"), "there is no image"),
    "image twice": (lambda c: c["images"].append(c["images"][0]), "listed twice"),
    "image nameless": (lambda c: c["images"].append({"id": 99}), "without a file name"),
}


@pytest.fixture
def coco(converted: Dict[str, Path], tmp_path: Path) -> Path:
    shutil.copytree(converted["coco"], tmp_path / "inner" / "coco")
    write_image(tmp_path / "outside.jpg", make_image(0))
    return tmp_path / "inner" / "coco"


@pytest.mark.parametrize("fault", list(COCO_FAULTS))
def test_faults_in_coco_are_told_and_the_rest_is_read(fault: str, coco: Path) -> None:
    change, said = COCO_FAULTS[fault]
    path = coco / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    whole = len(read_coco(coco, "train"))
    change(content)
    text = json.dumps(content).replace("OUTSIDE", str(coco.parents[1] / "outside.jpg"))
    if "../../outside" in text:  # from wherever it is looked for
        text = text.replace("../../outside.jpg", "../../../outside.jpg")
        shutil.copy(coco.parents[1] / "outside.jpg", coco.parent / "outside.jpg")
    path.write_text(text)
    found = read_coco(coco, "train")
    assert any(said in note for note in found.notes), found.notes
    assert len(found) == whole - fault.startswith(("image outside", "image absolute", "image gone"))


def test_each_clipped_box_is_told_by_itself(coco: Path) -> None:
    path = coco / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    one = content["annotations"][0]
    for number, right in enumerate((150, 180)):
        box = {**one, "id": 1000 + number, "bbox": [50, 50, right - 50, 20]}
        content["annotations"].append(box)
    path.write_text(json.dumps(content))
    notes = [note for note in read_coco(coco, "train").notes if "partly outside" in note]
    assert len(notes) == 1
    assert "partly outside their images, clipped: 2 (" in notes[0]
    assert [part.count("by ") for part in notes[0].split(";")] == [1, 1]


def test_links_do_not_lead_out(coco: Path) -> None:
    target = next((coco / "images" / "train").iterdir())
    target.unlink()
    os.symlink(coco.parents[1] / "outside.jpg", target)
    assert any("leads out of" in note for note in read_coco(coco, "train").notes)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("9 0.5 0.5 0.2 0.2", "class 9, but classes are 0 to"),
        ("-1 0.5 0.5 0.2 0.2", "class -1"),
        ("0.5 0.5 0.5 0.2 0.2", "class 0.5"),
        ("0 0.5 0.5 0.2", "not a class and four finite numbers"),
        ("0 nan 0.5 0.2 0.2", "not a class and four finite numbers"),
        ("0 1e308 0.5 0.2 0.2", "not a class and four finite numbers"),
        ("cat 0.5 0.5 0.2 0.2", "not numbers"),
        ("0 0.5 0.5 0 0.2", "without area"),
        ("0 7 7 0.2 0.2", "without area inside their images"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.5", "odd number"),
    ],
)
def test_faults_in_yolo_are_told(line: str, said: str, converted: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(converted["yolo"], tmp_path / "yolo")
    path = sorted((tmp_path / "yolo" / "labels" / "train").iterdir())[3]
    boxes = len(read_yolo(tmp_path / "yolo", "train")[3].boxes)
    path.write_text(f"{path.read_text()}\n{line}\n")
    found = read_yolo(tmp_path / "yolo", "train")
    assert any(said in note and path.name in note for note in found.notes), found.notes
    assert len(found[3].boxes) == boxes


def test_polygons_and_scores_behind_boxes(converted: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(converted["yolo"], tmp_path / "yolo")
    path = sorted((tmp_path / "yolo" / "labels" / "train").iterdir())[0]
    path.write_text("1 0.25 0.25 0.75 0.25 0.5 0.75\n2 0.5 0.5 0.5 0.5 0.93\n")
    sample = read_yolo(tmp_path / "yolo", "train")[0]
    np.testing.assert_allclose(sample.boxes, [[24, 24, 71, 71], [24, 24, 71, 71]], atol=0.01)
    path.unlink()
    found = read_yolo(tmp_path / "yolo", "train")
    assert len(found[0].boxes) == 0
    assert any("taken as without objects" in note for note in found.notes)


# ---- damage ------------------------------------------------------------------------------------------------


def fuzz(converted: Dict[str, Path], folder: Path, count: int) -> None:
    """Damaged files of every format: a dataset, or an error that names its folder; nothing is written."""
    rng = random.Random(0)
    places = {
        "coco": "annotations/instances_train.json", "yolo": "data.yaml", "voc": "ImageSets/Main/train.txt",
        "csv": "train.csv", "recordio": "train.rec",
    }  # fmt: skip
    refused = read = 0
    for number in range(count):
        kind = rng.choice(FORMATS)
        root = folder / kind
        if not root.exists():
            shutil.copytree(converted[kind], root)
        names = [places[kind]]
        inner = {"yolo": "labels/train", "voc": "Annotations"}.get(kind)
        if inner and rng.random() < 0.7:
            names = [str(path.relative_to(root)) for path in rng.sample(sorted((root / inner).iterdir()), 3)]
        kept = {name: (root / name).read_bytes() for name in names}
        for name in names:
            (root / name).write_bytes(damaged(kept[name], not name.endswith(".rec"), rng))
        before = sorted(str(path) for path in folder.rglob("*"))
        try:
            dataset: Optional[Dataset] = open_dataset(kind, root, "train")
        except (DataError, OptionError) as error:
            dataset, said = None, str(error)
        if dataset is None:
            assert kind in said, (number, said)
            refused += 1
        else:
            for sample in dataset:
                assert np.isfinite(sample.boxes).all()
                assert os.path.realpath(sample.image_path).startswith(os.path.realpath(root))
            read += 1
        assert sorted(str(path) for path in folder.rglob("*")) == before
        for name, content in kept.items():
            (root / name).write_bytes(content)
    assert refused > count / 20
    assert read > count / 20


def test_three_hundred_damaged_annotations(converted: Dict[str, Path], tmp_path: Path) -> None:
    fuzz(converted, tmp_path, 300)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_damaged_annotations(converted: Dict[str, Path], tmp_path: Path) -> None:
    fuzz(converted, tmp_path, 10_000)


def test_writing_keeps_what_was_there_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("before")
    bad = Sample("a", "a.jpg", np.array([[np.nan] * 4]), np.zeros(1, np.int32), np.zeros(1, bool), (5, 5))
    with pytest.raises(ValueError, match="JSON"):
        write_coco(Dataset("x", ("a",), [bad]), path, {"a": "a.jpg"})
    assert path.read_text() == "before"


# ---- record files and GluonCV ------------------------------------------------------------------------------


def test_gluoncv_reads_our_record_files_and_we_its_own(
    converted: Dict[str, Path], shapes: Path, tmp_path: Path
) -> None:
    """The same boxes to a hundredth of a pixel, both ways; its own written as its tutorial does."""
    from gluoncv.data import RecordFileDetection
    from mxnet import recordio

    ours = open_dataset("voc", shapes, role="train")
    theirs = RecordFileDetection(str(converted["recordio"] / "train.rec"))
    assert len(theirs) == len(ours)
    for number, sample in enumerate(ours):
        image, label = theirs[number]
        assert (image.shape[1], image.shape[0]) == sample.size
        label = np.asarray(label, np.float32).reshape(-1, 6)
        np.testing.assert_allclose(label[:, :4], sample.boxes, atol=0.01)
        np.testing.assert_array_equal(label[:, 4], sample.labels)

    lines = []
    writer = recordio.MXIndexedRecordIO(str(tmp_path / "train.idx"), str(tmp_path / "train.rec"), "w")
    for number, sample in enumerate(ours):
        width, height = sample.size
        rows = np.hstack([sample.labels[:, None], sample.boxes / np.array([width, height] * 2)])
        label = np.array([4, 5, width, height, *rows.ravel()], np.float32)
        lines.append("\t".join([str(number), *map(str, label), f"{sample.image_id}.jpg"]))
        content = Path(sample.image_path).read_bytes()
        writer.write_idx(number, recordio.pack(recordio.IRHeader(0, label, number, 0), content))
    writer.close()
    (tmp_path / "train.lst").write_text("\n".join(lines))
    (tmp_path / "classes.txt").write_text("\n".join(ours.classes))
    check_same(read_rec(tmp_path, "train"), ours)
    (tmp_path / "classes.txt").unlink()
    numbered = read_rec(tmp_path, "train")
    assert set(numbered.classes) <= set(map(str, range(len(ours.classes))))


def test_record_files_for_classifiers_are_none_for_detectors(tmp_path: Path) -> None:
    from mxnet import recordio

    writer = recordio.MXRecordIO(str(tmp_path / "train.rec"), "w")
    for number in range(3):
        writer.write(recordio.pack(recordio.IRHeader(0, 1.0, number, 0), b"image"))
    writer.close()
    assert formats["recordio"].lists(tmp_path) == {}


@pytest.mark.parametrize("keep", [10, 100, 5000])
def test_a_record_file_cut_short_is_an_error(keep: int, converted: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(converted["recordio"], tmp_path / "rec")
    path = tmp_path / "rec" / "train.rec"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"train\.rec"):
        open_dataset("recordio", tmp_path / "rec", "train")
