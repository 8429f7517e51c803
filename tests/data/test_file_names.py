"""Names of files are bytes: every writer and reader keeps them, and every command works with them."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Dict, List, Sequence, Set

import numpy as np
import pytest
import yaml
from helpers.file_names import NAMES, image_names, make_dataset, write_image
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnssd.data.annotations.paths import ImageFinder
from mnssd.data.annotations.text_files import read_lines
from mnssd.data.annotations.voc_xml import annotation_text, read_annotation
from mnssd.data.convert import convert
from mnssd.data.dataset import Dataset
from mnssd.data.formats import formats, writable_names
from mnssd.data.image import read_image
from mnssd.data.open import open_dataset
from mnssd.data.sample import Detections
from mnssd.errors import DataError
from mnssd.files import (
    NAME_ERRORS,
    atomic_folder,
    atomic_write,
    encodable,
    escape_name,
    fit_name,
    printable,
    unescape_name,
    write_json,
    write_text,
    write_yaml,
)
from mnssd.inference.drawings import DrawingWriter
from mnssd.inference.output import JsonLines
from mnssd.inference.output import read_lines as read_json_lines
from mnssd.inference.video import Frame
from mnssd.metrics.detection_files import DetectionWriter, read_detections

names = st.one_of(
    st.sampled_from(NAMES),
    st.binary(min_size=1, max_size=30).filter(
        lambda raw: not set(raw) & {0, 47} and raw not in (b".", b"..")
    ),
    st.text(min_size=1, max_size=20).map(lambda text: re.sub("[/\0\ud800-\udfff]", "_", text).encode()),
).map(os.fsdecode)


# ---- single names ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(names)
@example("caf%E9.jpg")
@example("caf\udce9.jpg")
def test_escape_is_reversible_and_removes_what_is_unwanted(name: str) -> None:
    unwanted = re.compile(r"\s|[\ud800-\udfff]|%[0-9A-F]{2}")
    escaped = escape_name(name, unwanted)
    assert unescape_name(escaped) == name
    assert not re.search(r"\s|[\ud800-\udfff]", escaped)
    assert escaped == name or unwanted.search(name)


@settings(max_examples=60, deadline=None)
@given(names)
def test_printed_names_are_on_one_line_in_any_encoding(name: str) -> None:
    assert printable(name).encode("utf-8").decode("utf-8").splitlines() == [printable(name)]
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", printable(name))
    assert encodable(name) == name or re.search("[\udc80-\udcff]", name)


@settings(max_examples=60, deadline=None)
@given(names, st.sampled_from(["", ".jpg", "-12.xml", ".unfinished"]))
def test_fitted_names_are_possible_and_unchanged_if_short(name: str, ending: str) -> None:
    fitted = fit_name(name * 20, ending)
    assert len(os.fsencode(fitted)) <= 255
    assert fitted.endswith(ending)
    assert (name * 20).startswith(fitted[: len(fitted) - len(ending)])
    assert fit_name(name[:40], ending) == name[:40] + ending


@settings(max_examples=60, deadline=None)
@given(names, names)
def test_voc_xml_holds_the_name_of_the_image(name: str, folder: str) -> None:
    text = annotation_text(f"{name}.jpg", (4, 4), ["cat"], [[0, 0, 3, 3]], folder=folder)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a.xml"
        path.write_text(text, encoding="utf-8")
        (stored,) = read_annotation(path).files
    assert f"{name}.jpg" in (stored, unescape_name(stored))


@settings(max_examples=40, deadline=None)
@given(st.lists(names, min_size=1, max_size=4))
def test_json_and_yaml_hold_names(entries: List[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a"
        write_json(path, entries)
        assert json.loads(path.read_text(encoding="ascii")) == entries
        write_yaml(path, entries)
        assert yaml.safe_load(path.read_text(encoding="utf-8")) == entries
        lines = JsonLines(str(Path(place) / "lines"), False)
        for entry in entries:
            lines.add({"image": entry})
        lines.close()
        assert [line["image"] for line in read_json_lines(str(Path(place) / "lines"))] == entries


@settings(max_examples=40, deadline=None)
@given(st.lists(names.map(lambda name: " ".join(name.split()).strip("\ufeff")).filter(bool), max_size=5))
def test_text_files_hold_the_bytes(entries: List[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "list.txt"
        write_text(path, "".join(f"{entry}\n" for entry in ("first", *entries)))
        assert [line for _, line in read_lines(path, "names", errors=NAME_ERRORS)] == ["first", *entries]
        assert path.read_bytes().split(b"\n")[1:-1] == [os.fsencode(entry) for entry in entries]


@settings(max_examples=25, deadline=None)
@given(st.sets(names, min_size=1, max_size=6))
def test_detection_files_hold_any_image_id(ids: Set[str]) -> None:
    found = Detections(np.array([[0, 0, 1, 1]]), np.array([0]), np.array([0.5]))
    with tempfile.TemporaryDirectory() as place:
        with DetectionWriter(place, "val", ["cat"]) as writer:
            for image_id in ids:
                writer.add(image_id, found)
        assert read_detections(place, "val", ["cat"], ids).image_ids == list(ids)


@settings(max_examples=25, deadline=None)
@given(st.sets(names, min_size=1, max_size=6))
def test_images_are_found_by_their_exact_names(entries: Set[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        for entry in entries:
            (Path(place) / f"{entry}.jpg").touch()
        finder = ImageFinder(Path(place), [Path(place)])
        assert [os.path.basename(finder.find(f"{entry}.jpg")) for entry in entries] == [
            f"{entry}.jpg" for entry in entries
        ]


def test_percent_encoded_bytes_are_found(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.jpg").touch()
    assert ImageFinder(tmp_path, [tmp_path]).find("caf%E9.jpg") == str(tmp_path / "caf\udce9.jpg")


def test_longest_names_are_written_and_numbered(tmp_path: Path) -> None:
    longest = "é" * 125 + ".jpeg"
    assert len(longest.encode()) == 255
    for _ in range(2):
        with atomic_folder(tmp_path / longest, replace=True) as folder, atomic_write(
            folder / longest
        ) as file:
            file.write("content")
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [
        Path(longest),
        Path(longest, longest),
    ]
    (tmp_path / "out").mkdir()
    writer, pixels = DrawingWriter(str(tmp_path / "out")), np.zeros((8, 8, 3), np.uint8)
    for number in range(3):
        name = str(tmp_path / str(number) / longest)
        writer.write(Frame(name, name), pixels)
    assert len(list((tmp_path / "out").iterdir())) == 3


# ---- datasets ----------------------------------------------------------------------------------------------


def color_and_box(dataset: Dataset) -> Dict[int, List[List[float]]]:
    """Boxes by the gray level of their image: see `write_image`."""
    return {
        round(float(read_image(sample.image_path).mean())): np.round(sample.boxes, 2).tolist()
        for sample in dataset
    }


@pytest.mark.parametrize("name", writable_names())
@settings(max_examples=2, deadline=None)
@given(stems=st.sets(names.map(lambda name: name[:60]), min_size=3, max_size=8))
@example(stems=set(map(os.fsdecode, NAMES)))
@example(stems={"\udcff\udcfea", "caf\udce9", "caf%E9", "caf%25E9"})
@example(stems={"a\nb", "a\rb", "a_b", "a\\b", " a_b"})
@example(stems={"\u00e9", "e\u0301", "E\u0301"})
def test_converted_datasets_keep_images_and_boxes_together(name: str, stems: Set[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        dataset = make_dataset(Path(place) / "source", sorted(stems))
        target = Path(place) / "target"
        convert({"train": dataset}, target, formats[name], False)
        copy = open_dataset(name, target, "train")
        assert len(copy) == len(dataset)
        assert color_and_box(copy) == color_and_box(dataset)
        assert not copy.findings
        again = Path(place) / "again"
        convert({"train": copy}, again, formats["coco"], False)
        assert color_and_box(open_dataset("coco", again, "train")) == color_and_box(dataset)


@pytest.mark.parametrize("name", [name for name in writable_names() if name != "recordio"])
def test_converted_datasets_keep_the_names_that_are_possible(name: str, tmp_path: Path) -> None:
    stems = [
        "caf\udce9",
        "é",
        "e\u0301a",
        "100%",
        "%41",
        "#x",
        "a&<b>",
        "q\"'",
        "-a",
        "\U0001f600",
        "a;b,c|d",
    ]
    dataset = make_dataset(tmp_path / "source", stems)
    convert({"train": dataset}, tmp_path / "target", formats[name], False)
    assert image_names(open_dataset(name, tmp_path / "target", "train")) == {f"{stem}.png" for stem in stems}


def table(root: Path, names: Sequence[bytes], label: bytes) -> Path:
    """A CSV table as programs write it in Latin-1, beside its images."""
    for number, name in enumerate(names):
        write_image(root / os.fsdecode(name), number)
    rows = [b"filename,class,xmin,ymin,xmax,ymax", *(b"%b,%b,2,2,9,9" % (name, label) for name in names)]
    (root / "train.csv").write_bytes(b"\n".join(rows) + b"\n")
    return root


def test_table_with_bytes_of_latin1_names_the_files_of_these_bytes(tmp_path: Path) -> None:
    raw = [b"caf\xe9.png", b"na\xefve.png", b"plain.png"]
    dataset = open_dataset("csv", table(tmp_path, raw, b"cat"), "train")
    assert image_names(dataset) == set(map(os.fsdecode, raw))


def test_classes_must_be_utf8(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        open_dataset("csv", table(tmp_path, [b"a.png"], b"caf\xe9"), "train")


def test_held_out_part_depends_on_the_bytes(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, [f"{number}\udce9" for number in range(10)])
    rest, held = dataset.hold_out(0.3)
    assert (len(rest), len(held)) == (7, 3)
    assert not image_names(rest) & image_names(held)
