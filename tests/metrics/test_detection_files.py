"""Detection files: the round trip is exact, other people's files are read as the devkit reads them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnssd.data.sample import Detections, Sample
from mnssd.errors import DataError
from mnssd.metrics.detection_files import DetectionWriter, read_detections
from mnssd.metrics.voc import VOCMetric

CLASSES = ("cat", "traffic light", "light")


def found(*rows: Tuple) -> Detections:
    """Detections of ``(label, score, xmin, ymin, xmax, ymax)``."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, 2:], table[:, 0].astype(np.int32), table[:, 1])


def write(folder: Path, split: str = "val", classes: Sequence[str] = CLASSES, **images: Detections) -> None:
    with DetectionWriter(folder, split, classes) as writer:
        for image_id, detections in images.items():
            writer.add(image_id, detections)


def put(folder: Path, text: str, name: str = "comp4_det_val_cat.txt") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


# --- the form ------------------------------------------------------------------------------------


def test_the_form_of_a_line(tmp_path):
    write(tmp_path / "new" / "folder", img_1=found((0, 0.5, 0, 1, 10, 20.25)))
    text = (tmp_path / "new" / "folder" / "comp4_det_val_cat.txt").read_text()
    assert text == "img_1 0.5 1.0 2.0 11.0 21.25\n"  # pixels are counted from 1


def test_classes_without_detections_have_empty_files(tmp_path):
    write(tmp_path, img=found((0, 0.5, 0, 0, 1, 1)))
    assert {p.name: p.stat().st_size > 0 for p in tmp_path.iterdir()} == {
        "comp4_det_val_cat.txt": True,
        "comp4_det_val_traffic light.txt": False,
        "comp4_det_val_light.txt": False,
    }


def test_one_class_name_may_end_like_another(tmp_path):
    put(tmp_path, "img 0.5 1 1 2 2\n", "comp4_det_val_traffic_light.txt")
    table = read_detections(tmp_path, "val", ["light", "traffic_light"], ["img"])
    assert table.detections.labels.tolist() == [1]


def test_other_peoples_forms_are_read(tmp_path):
    put(tmp_path, "\ufeffimg\t5e-1   1 2.5 11 21\r\n\n  other 1 -3 0 4 5", "comp4_det_val_cat.txt")
    table = read_detections(tmp_path, "val", ["cat"], ["img", "other"])
    assert table.image_ids == ["img", "other"]
    np.testing.assert_array_equal(table.detections.boxes, [[0, 1.5, 10, 20], [-4, -1, 3, 4]])
    np.testing.assert_array_equal(table.detections.scores, [0.5, 1])
    assert table.notes == []


@pytest.mark.parametrize(
    "name", ["comp4_det_2007_test_cat.txt", "comp4_det_test_cat.txt", "comp3_det_test_cat.txt"]
)
def test_the_devkits_own_names_of_a_split_are_known(tmp_path, name):
    put(tmp_path, "img 0.5 1 1 2 2\n", name)
    assert read_detections(tmp_path, "2007_test", ["cat"], ["img"]).image_ids == ["img"]


def test_two_files_for_one_class_are_refused(tmp_path):
    put(tmp_path, "", "comp4_det_2007_test_cat.txt")
    put(tmp_path, "", "comp4_det_test_cat.txt")
    with pytest.raises(DataError, match=r"2007_test_cat.*det_test_cat"):
        read_detections(tmp_path, "2007_test", ["cat"], ["img"])


def test_a_missing_class_is_noted_and_has_no_detections(tmp_path):
    table = read_detections(put(tmp_path, "img 0.5 1 1 2 2\n"), "val", CLASSES, ["img"])
    assert table.detections.labels.tolist() == [0]
    assert len(table.notes) == 1
    assert "no file for traffic light, light" in table.notes[0]


def test_boxes_that_look_like_width_and_height_are_noted(tmp_path):
    table = read_detections(
        put(tmp_path, "img 0.5 50 50 20 30\nimg 0.5 5 5 20 30\n"), "val", ["cat"], ["img"]
    )
    assert "1 of 2 boxes end before they begin" in table.notes[0]


def test_no_detections_at_all(tmp_path):
    write(tmp_path, img=found())
    table = read_detections(tmp_path, "val", CLASSES, ["img"])
    assert table.image_ids == []
    assert table.detections.boxes.shape == (0, 4)


# --- the round trip ------------------------------------------------------------------------------

_number = st.floats(-50, 600, width=32)
_rows = st.lists(
    st.tuples(st.sampled_from([0, 1, 2]), st.floats(0, 1, width=32), _number, _number, _number, _number),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_rows, min_size=1, max_size=4))
def test_scoring_the_files_is_scoring_the_detections(images):
    named = {f"img{i}": found(*rows) for i, rows in enumerate(images)}
    samples = [
        # The detections themselves are the objects, with one pixel more, so that scores are mixed.
        Sample(name, "", d.boxes + np.float32([0, 0, 1, 1]), d.labels, d.scores > 0.9, (600, 600))
        for name, d in named.items()
    ]
    direct, from_files = VOCMetric(CLASSES, "voc12", 0.7), VOCMetric(CLASSES, "voc12", 0.7)
    for sample in samples:
        direct.add(named[sample.image_id], sample)
        from_files.add_ground_truth(sample)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), **named)
        table = read_detections(folder, "val", CLASSES, list(named))
    from_files.add_detections(table.image_ids, table.detections)
    np.testing.assert_equal(from_files.result().as_dict(), direct.result().as_dict())
    for name in direct.result().curves:
        np.testing.assert_array_equal(
            from_files.result().curves[name].scores, direct.result().curves[name].scores
        )


@settings(max_examples=100, deadline=None)
@given(st.floats(-0.5, 1e5, width=32, allow_subnormal=False), st.floats(0, 1, width=32))
def test_numbers_come_back_to_the_bit(coordinate, score):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), img=found((0, score, coordinate, 0, 1, 1)))
        detections = read_detections(folder, "val", CLASSES, ["img"]).detections
    # 1 + x and the same less 1: what the metric computes with is the former.
    assert detections.boxes[0, 0] + 1 == np.float64(np.float32(coordinate)) + 1
    assert detections.scores[0] == np.float32(score)


def test_scores_that_float32_could_not_tell_apart_keep_their_order(tmp_path):
    put(tmp_path, "img 0.90000000001 90 90 99 99\nimg 0.90000000002 1 1 10 10\n")
    table = read_detections(tmp_path, "val", ["cat"], ["img"])
    there = Sample(
        "img", "", np.float32([[0, 0, 9, 9]]), np.zeros(1, np.int32), np.zeros(1, bool), (100, 100)
    )
    measuring = VOCMetric(["cat"])
    measuring.add_ground_truth(there)
    measuring.add_detections(table.image_ids, table.detections)
    assert measuring.result().mean_ap == pytest.approx(1, abs=1e-12)


def test_equal_scores_keep_the_order_of_the_lines_not_of_the_images(tmp_path):
    put(tmp_path, "b 0.5 1 1 10 10\na 0.5 90 90 99 99\n")
    table = read_detections(tmp_path, "val", ["cat"], ["a", "b"])
    assert table.image_ids == ["b", "a"]


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("img 0.5 1 1 2", "5 fields"),
        ("img 0.5 1 1 2 2 2", "7 fields"),
        ("img x 1 1 2 2", "'x' is no number"),
        ("img 0.5 1 1 2 2,0", "'2,0' is no number"),
        ("img nan 1 1 2 2", "'nan' is not finite"),
        ("img 0.5 1 1 2 -inf", "'-inf' is not finite"),
        ("img 0.5 1 1 2 1e999", "'1e999' is not finite"),
        ("000007 0.5 1 1 2 2", "'000007' is not among the 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, says):
    put(tmp_path, f"img 0.5 1 1 2 2\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_detections(tmp_path, "val", ["cat"], ["img"])
    assert f"{tmp_path / 'comp4_det_val_cat.txt'}:3: " in str(caught.value)
    assert says in str(caught.value)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "comp4_det_val_cat.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"comp4_det_val_cat\.txt"):
        read_detections(tmp_path, "val", ["cat"], ["img"])


def test_a_folder_without_this_split_says_what_is_there(tmp_path):
    put(tmp_path, "", "comp4_det_train_cat.txt")
    with pytest.raises(DataError, match=r"such as comp4_det_val_cat\.txt; there are comp4_det_train_cat"):
        read_detections(tmp_path, "val", CLASSES, ["img"])
    with pytest.raises(DataError, match="no such folder"):
        read_detections(tmp_path / "nowhere", "val", CLASSES, ["img"])


@pytest.mark.parametrize("image_id", ["my image", "tab\there", "", " x"])
def test_an_image_id_with_white_space_is_refused(tmp_path, image_id):
    with pytest.raises(DataError, match="white space"), DetectionWriter(tmp_path, "val", CLASSES) as writer:
        writer.add(image_id, found((0, 0.5, 0, 0, 1, 1)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("split", "name"), [("val", "and/or"), ("../up", "cat")])
def test_names_that_are_no_file_names_are_refused(tmp_path, split, name):
    with pytest.raises(DataError, match="file name"):
        DetectionWriter(tmp_path, split, [name])


def test_a_file_in_the_place_of_the_folder(tmp_path):
    put(tmp_path, "", "taken")
    with pytest.raises(DataError, match="taken is no folder"):
        DetectionWriter(tmp_path / "taken", "val", CLASSES)


# --- whole or not at all -------------------------------------------------------------------------


def test_an_interrupted_run_leaves_the_old_files(tmp_path):
    write(tmp_path, img=found((0, 0.5, 0, 0, 1, 1)))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted():
        with DetectionWriter(tmp_path, "val", CLASSES) as writer:
            writer.add("img", found((0, 0.9, 5, 5, 9, 9)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
