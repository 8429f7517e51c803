"""Record files with object labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Dict

import numpy as np
import pytest
from helpers.datasets import assert_same_samples

from mnssd.data.formats import formats
from mnssd.data.open import open_dataset
from mnssd.errors import DataError


def test_gluoncv_reads_our_record_files(converted: Dict[str, Path], shapes: str) -> None:
    """Boxes agree to a hundredth of a pixel."""
    from gluoncv.data import RecordFileDetection

    expected = open_dataset("voc", shapes, role="train")
    records = RecordFileDetection(str(converted["recordio"] / "train.rec"))
    assert len(records) == len(expected)
    for number, sample in enumerate(expected):
        image, label = records[number]
        assert (image.shape[1], image.shape[0]) == sample.size
        label = np.asarray(label, np.float32).reshape(-1, 6)
        np.testing.assert_allclose(label[:, :4], sample.boxes, atol=0.01)
        np.testing.assert_array_equal(label[:, 4], sample.labels)


def test_record_files_of_the_gluoncv_tutorial(shapes: str, tmp_path: Path) -> None:
    from mxnet import recordio

    expected, lines = open_dataset("voc", shapes, role="train"), []
    writer = recordio.MXIndexedRecordIO(str(tmp_path / "train.idx"), str(tmp_path / "train.rec"), "w")
    for number, sample in enumerate(expected):
        width, height = sample.size
        rows = np.hstack([sample.labels[:, None], sample.boxes / np.array([width, height] * 2)])
        label = np.array([4, 5, width, height, *rows.ravel()], np.float32)
        lines.append("\t".join([str(number), *map(str, label), f"{sample.image_id}.jpg"]))
        content = Path(sample.image_path).read_bytes()
        writer.write_idx(number, recordio.pack(recordio.IRHeader(0, label, number, 0), content))
    writer.close()
    (tmp_path / "train.lst").write_text("\n".join(lines))
    (tmp_path / "classes.txt").write_text("\n".join(expected.classes))
    assert_same_samples(formats["recordio"].read(tmp_path, "train"), expected)
    (tmp_path / "classes.txt").unlink()
    numbered = formats["recordio"].read(tmp_path, "train")
    assert set(numbered.classes) <= set(map(str, range(len(expected.classes))))


def test_record_files_of_classifiers_are_not_detection_lists(tmp_path: Path) -> None:
    from mxnet import recordio

    writer = recordio.MXRecordIO(str(tmp_path / "train.rec"), "w")
    for number in range(3):
        writer.write(recordio.pack(recordio.IRHeader(0, 1.0, number, 0), b"image"))
    writer.close()
    assert formats["recordio"].lists(tmp_path) == {}


@pytest.mark.parametrize("keep", [10, 100, 5000])
def test_truncated_record_file_is_named(keep: int, converted: Dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(converted["recordio"], tmp_path / "rec")
    path = tmp_path / "rec" / "train.rec"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"train\.rec"):
        open_dataset("recordio", tmp_path / "rec", "train")
