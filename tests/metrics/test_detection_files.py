"""Detection files: format, exact round trip, invalid input, interruption."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Sequence

import numpy as np
import pytest
from helpers.metrics import UNIT, make_detections, make_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.sample import Detections, Sample
from mnssd.errors import DataError
from mnssd.metrics.detection_files import DetectionWriter, read_detections
from mnssd.metrics.voc import VOCMetric

CLASSES = ("cat", "traffic light", "light")


def write_detections(
    folder: Path, split: str = "val", classes: Sequence[str] = CLASSES, **images: Detections
) -> None:
    with DetectionWriter(folder, split, classes) as writer:
        for image_id, detections in images.items():
            writer.add(image_id, detections)


def write_file(folder: Path, text: str, name: str = "comp4_det_val_cat.txt") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


# ---- format ----


def test_line_format(tmp_path):
    write_detections(tmp_path / "new" / "folder", img_1=make_detections(((0, 1, 10, 20.25), 0, 0.5)))
    text = (tmp_path / "new" / "folder" / "comp4_det_val_cat.txt").read_text()
    assert text == "img_1 0.5 1.0 2.0 11.0 21.25\n"  # pixels are counted from 1


def test_classes_without_detections_have_empty_files(tmp_path):
    write_detections(tmp_path, img=make_detections(((0, 0, 1, 1), 0, 0.5)))
    assert {p.name: p.stat().st_size > 0 for p in tmp_path.iterdir()} == {
        "comp4_det_val_cat.txt": True,
        "comp4_det_val_traffic light.txt": False,
        "comp4_det_val_light.txt": False,
    }


def test_class_name_may_be_the_end_of_another(tmp_path):
    write_file(tmp_path, "img 0.5 1 1 2 2\n", "comp4_det_val_traffic_light.txt")
    table = read_detections(tmp_path, "val", ["light", "traffic_light"], ["img"])
    assert table.detections.labels.tolist() == [1]


def test_white_space_and_number_formats_of_other_programs(tmp_path):
    write_file(tmp_path, "\ufeffimg\t5e-1   1 2.5 11 21\r\n\n  other 1 -3 0 4 5", "comp4_det_val_cat.txt")
    table = read_detections(tmp_path, "val", ["cat"], ["img", "other"])
    assert table.image_ids == ["img", "other"]
    np.testing.assert_array_equal(table.detections.boxes, [[0, 1.5, 10, 20], [-4, -1, 3, 4]])
    np.testing.assert_array_equal(table.detections.scores, [0.5, 1])
    assert table.notes == []


@pytest.mark.parametrize(
    "name", ["comp4_det_2007_test_cat.txt", "comp4_det_test_cat.txt", "comp3_det_test_cat.txt"]
)
def test_file_names_of_the_devkit_are_accepted(tmp_path, name):
    write_file(tmp_path, "img 0.5 1 1 2 2\n", name)
    assert read_detections(tmp_path, "2007_test", ["cat"], ["img"]).image_ids == ["img"]


def test_two_files_for_one_class_are_refused(tmp_path):
    write_file(tmp_path, "", "comp4_det_2007_test_cat.txt")
    write_file(tmp_path, "", "comp4_det_test_cat.txt")
    with pytest.raises(DataError, match=r"2007_test_cat.*det_test_cat"):
        read_detections(tmp_path, "2007_test", ["cat"], ["img"])


def test_class_without_a_file_is_noted_and_has_no_detections(tmp_path):
    table = read_detections(write_file(tmp_path, "img 0.5 1 1 2 2\n"), "val", CLASSES, ["img"])
    assert table.detections.labels.tolist() == [0]
    assert len(table.notes) == 1
    assert "traffic light, light" in table.notes[0]


def test_inverted_boxes_are_counted(tmp_path):
    table = read_detections(
        write_file(tmp_path, "img 0.5 50 50 20 30\nimg 0.5 5 5 20 30\n"), "val", ["cat"], ["img"]
    )
    assert "comp4_det_val_cat.txt: 1 of 2 " in table.notes[0]


def test_empty_files_have_no_detections(tmp_path):
    write_detections(tmp_path, img=make_detections())
    table = read_detections(tmp_path, "val", CLASSES, ["img"])
    assert table.image_ids == []
    assert table.detections.boxes.shape == (0, 4)


# ---- round trip ----

_number = st.floats(-50, 600, width=32)
_boxes = st.tuples(_number, _number, _number, _number)
_rows = st.lists(st.tuples(_boxes, st.sampled_from([0, 1, 2]), st.floats(0, 1, width=32)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(_rows, min_size=1, max_size=4))
def test_files_evaluate_like_the_detections(images):
    named = {f"img{i}": make_detections(*rows) for i, rows in enumerate(images)}
    samples = [
        # Objects are the detections, one pixel larger.
        Sample(name, "", d.boxes + np.float32([0, 0, 1, 1]), d.labels, d.scores > 0.9, (600, 600))
        for name, d in named.items()
    ]
    direct, from_files = VOCMetric(CLASSES, "voc12", 0.7), VOCMetric(CLASSES, "voc12", 0.7)
    for sample in samples:
        direct.add(named[sample.image_id], sample)
        from_files.add_ground_truth(sample)
    with tempfile.TemporaryDirectory() as folder:
        write_detections(Path(folder), **named)
        table = read_detections(folder, "val", CLASSES, list(named))
    from_files.add_detections(table.image_ids, table.detections)
    np.testing.assert_equal(from_files.result().as_dict(), direct.result().as_dict())
    for name in direct.result().curves:
        np.testing.assert_array_equal(
            from_files.result().curves[name].scores, direct.result().curves[name].scores
        )


@settings(max_examples=100, deadline=None)
@given(st.floats(-0.5, 1e5, width=32, allow_subnormal=False), st.floats(0, 1, width=32))
def test_numbers_round_trip_exactly(coordinate, score):
    with tempfile.TemporaryDirectory() as folder:
        write_detections(Path(folder), img=make_detections(((coordinate, 0, 1, 1), 0, score)))
        detections = read_detections(folder, "val", CLASSES, ["img"]).detections
    # The metric computes with x + 1.
    assert detections.boxes[0, 0] + 1 == np.float64(np.float32(coordinate)) + 1
    assert detections.scores[0] == np.float32(score)


def test_scores_keep_float64_precision(tmp_path):
    write_file(tmp_path, "img 0.90000000001 90 90 99 99\nimg 0.90000000002 1 1 10 10\n")
    table = read_detections(tmp_path, "val", ["cat"], ["img"])
    metric = VOCMetric(["cat"])
    metric.add_ground_truth(make_sample("img", (UNIT, 0)))
    metric.add_detections(table.image_ids, table.detections)
    assert metric.result().mean_ap == pytest.approx(1, abs=1e-12)


def test_equal_scores_keep_the_order_of_lines(tmp_path):
    write_file(tmp_path, "b 0.5 1 1 10 10\na 0.5 90 90 99 99\n")
    table = read_detections(tmp_path, "val", ["cat"], ["a", "b"])
    assert table.image_ids == ["b", "a"]


# ---- invalid input ----


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("img 0.5 1 1 2", "5"),
        ("img 0.5 1 1 2 2 2", "7"),
        ("img x 1 1 2 2", "'x'"),
        ("img 0.5 1 1 2 2,0", "'2,0'"),
        ("img nan 1 1 2 2", "'nan'"),
        ("img 0.5 1 1 2 -inf", "'-inf'"),
        ("img 0.5 1 1 2 1e999", "'1e999'"),
        ("000007 0.5 1 1 2 2", "'000007'"),
    ],
)
def test_invalid_line_is_named(tmp_path, line, value):
    write_file(tmp_path, f"img 0.5 1 1 2 2\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_detections(tmp_path, "val", ["cat"], ["img"])
    place, problem = str(caught.value).split(": ", 1)
    assert place == f"{tmp_path / 'comp4_det_val_cat.txt'}:3"
    assert value in problem


def test_binary_file_is_named(tmp_path):
    (tmp_path / "comp4_det_val_cat.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"comp4_det_val_cat\.txt"):
        read_detections(tmp_path, "val", ["cat"], ["img"])


def test_folder_without_the_split_lists_expected_and_present_names(tmp_path):
    write_file(tmp_path, "", "comp4_det_train_cat.txt")
    with pytest.raises(DataError, match=r"comp4_det_val_cat\.txt.*comp4_det_train_cat\.txt"):
        read_detections(tmp_path, "val", CLASSES, ["img"])
    with pytest.raises(DataError, match="nowhere"):
        read_detections(tmp_path / "nowhere", "val", CLASSES, ["img"])


IDS = ["my image", "my%20image", "my%2520image", "100%", "tab\there", " x", "a\nb", "\u2028", "caf\udce9"]


def test_any_image_id_is_one_word_in_the_files_and_is_read_back(tmp_path):
    write_detections(tmp_path, **{image_id: make_detections(((0, 0, 1, 1), 0, 0.5)) for image_id in IDS})
    assert read_detections(tmp_path, "val", CLASSES, IDS).image_ids == IDS
    content = (tmp_path / "comp4_det_val_cat.txt").read_bytes()
    words = [line.split()[0] for line in content.splitlines()]
    assert words[:4] == [b"my%20image", b"my%2520image", b"my%252520image", b"100%"]
    assert words[-1] == b"caf\xe9"


def test_ids_of_other_programs_are_read_as_they_are(tmp_path):
    write_file(tmp_path, "a%20b 0.5 1 1 2 2\n")
    assert read_detections(tmp_path, "val", ["cat"], ["a%20b"]).image_ids == ["a%20b"]


def test_empty_image_id_is_refused(tmp_path):
    with pytest.raises(DataError), DetectionWriter(tmp_path, "val", CLASSES) as writer:
        writer.add("", make_detections(((0, 0, 1, 1), 0, 0.5)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("split", "name"), [("val", "and/or"), ("../up", "cat")])
def test_split_and_class_must_be_valid_in_a_file_name(tmp_path, split, name):
    with pytest.raises(DataError, match=re.escape(repr(name))):
        DetectionWriter(tmp_path, split, [name])


def test_file_instead_of_a_folder_is_refused(tmp_path):
    write_file(tmp_path, "", "taken")
    with pytest.raises(DataError, match="taken"):
        DetectionWriter(tmp_path / "taken", "val", CLASSES)


# ---- interruption ----


def test_interrupted_writer_keeps_the_old_files(tmp_path):
    write_detections(tmp_path, img=make_detections(((0, 0, 1, 1), 0, 0.5)))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted():
        with DetectionWriter(tmp_path, "val", CLASSES) as writer:
            writer.add("img", make_detections(((5, 5, 9, 9), 0, 0.9)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
