"""A dataset format registered by a plugin, used from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Dict, Iterator

import pytest
from helpers.datasets import assert_same_samples
from helpers.plugins import forgotten_plugins

from mnssd.cli.main import main
from mnssd.data.formats import formats
from mnssd.data.open import open_dataset, recognize
from mnssd.errors import DataError
from mnssd.runtime import plugins

PLUGIN = '''
"""One text file per image, with lines ``class xmin ymin xmax ymax`` in pixels counted from 0."""

from mnssd.data.annotations.annotation import AnnotationError, AnnotationList, BoxObject
from mnssd.data.annotations.paths import ImageFinder
from mnssd.data.formats import Format, formats


class BoxesFormat(Format):
    name = "boxes"
    description = "text files: one object per line, class and corners"
    layout = "folders LIST.boxes with text files"
    contents = "text files of boxes"

    def lists(self, root):
        return {path.stem: path for path in sorted(root.glob("*.boxes"))}

    def read_annotations(self, root, split):
        folder, result = self.place(root, split), AnnotationList()
        finder = ImageFinder(root, [root / "images" / split])
        files = sorted(folder.glob("*.txt"))
        for path in files:
            rows = [line.split() for line in path.read_text().splitlines()]
            objects = [BoxObject(row[0], [float(value) for value in row[1:]]) for row in rows]
            try:
                result.add(path.stem, finder.find_stem(path.stem), str(path), None, objects)
            except AnnotationError as error:
                result.skip(error, str(path))
        result.check_skipped(str(folder), len(files))
        result.declared = tuple((root / "names").read_text().split())
        return result

    def write(self, parts, folder, files):
        for split, dataset in parts.items():
            (folder / f"{split}.boxes").mkdir()
            for sample in dataset:
                rows = zip(sample.labels, sample.boxes.tolist())
                lines = [" ".join(map(str, [dataset.classes[label], *box])) + "\\\\n" for label, box in rows]
                stem = files[split][sample.image_id].rsplit(".", 1)[0]
                (folder / f"{split}.boxes" / f"{stem}.txt").write_text("".join(lines))
            (folder / "names").write_text(" ".join(dataset.classes))
        return []


formats.register("boxes", BoxesFormat())
'''.replace("\\\\n", "\\n")


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[str]:
    """Path of the plugin, which is unloaded after the test."""
    path = tmp_path / "boxes_format.py"
    path.write_text(PLUGIN)
    with forgotten_plugins(formats):
        yield f"--plugin={path}"


@pytest.mark.parametrize("command", ["train-ssd", "eval", "bench", "check-data", "convert-data"])
def test_help_lists_the_format(command: str, plugin: str, capsys: pytest.CaptureFixture) -> None:
    assert main([command, plugin, "--help"]) == 0
    assert "boxes" in capsys.readouterr().out


def test_format_is_written_recognized_checked_and_read(
    plugin: str, converted: Dict[str, Path], tmp_path: Path
) -> None:
    root, back = tmp_path / "toy", tmp_path / "voc"
    assert main(["convert-data", plugin, str(converted["coco"]), str(root), "--format=boxes"]) == 0
    assert recognize(root)[0] is formats["boxes"]
    for role in ("train", "val"):
        expected = open_dataset("coco", converted["coco"], role=role)
        assert_same_samples(open_dataset("auto", root, role=role), expected)
    assert main(["check-data", plugin, str(root), "--size=96", "--no-estimate"]) == 0
    assert main(["convert-data", plugin, str(root), str(back), "--format=voc"]) == 0
    assert_same_samples(open_dataset("voc", back), open_dataset("coco", converted["coco"]))


def test_training_on_the_format(plugin: str, converted: Dict[str, Path], tmp_path: Path) -> None:
    root, run = tmp_path / "toy", tmp_path / "run"
    assert main(["convert-data", plugin, str(converted["coco"]), str(root), "--format=boxes"]) == 0
    small = [
        "--width=0.25",
        "--size=96",
        "--epochs=1",
        "--batch-size=8",
        "--workers=0",
        "--weights=none",
        "--no-report",
    ]
    assert main(["train-ssd", plugin, f"--data-root={root}", f"--output={run}", *small]) == 0
    assert (run / "best.params").exists()


def test_check_data_reports_faults_of_the_format(
    plugin: str, converted: Dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = tmp_path / "toy"
    assert main(["convert-data", plugin, str(converted["coco"]), str(root), "--format=boxes"]) == 0
    shutil.copy(next((root / "images" / "train").iterdir()), root / "images" / "train" / "new.jpg")
    next((root / "images" / "val").iterdir()).unlink()
    assert main(["check-data", plugin, str(root), "--size=96", "--no-estimate", "--no-pixels"]) == 1
    assert "new.jpg" in capsys.readouterr().out


def test_unrecognized_folder_mentions_the_layout_of_the_plugin(plugin: str, tmp_path: Path) -> None:
    plugins.add_plugin(plugin.split("=")[1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="LIST.boxes"):
        open_dataset("auto", tmp_path / "empty")
