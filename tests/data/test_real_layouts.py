"""The layouts of benchmarks/real_datasets.py: boxes as known, and damage that is read or refused."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import pytest
from test_fuzz_files import damage

from mnssd.data.image_files import is_image_file
from mnssd.data.open import open_dataset, recognize
from mnssd.errors import DataError, OptionError

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))
real: Any = importlib.import_module("real_datasets")
SCENE = real.layouts.make_scene()
READ = tuple(layout for layout in real.LAYOUTS if layout.lists)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Path]:
    """Each layout in a folder, by name."""
    root = tmp_path_factory.mktemp("layouts")
    for number, layout in enumerate(real.LAYOUTS):
        (root / str(number)).mkdir()
        layout.write(SCENE, root / str(number))
    return {layout.name: root / str(number) for number, layout in enumerate(real.LAYOUTS)}


@pytest.mark.parametrize("layout", READ, ids=[layout.name for layout in READ])
def test_boxes_of_the_layout(layout: Any, folders: Dict[str, Path]) -> None:
    folder = folders[layout.name]
    dataset_format, _ = recognize(folder)
    assert real.difference(real.read_boxes(dataset_format, folder), real.known_boxes(SCENE, layout)) == ""
    assert real.misplaced(dataset_format, folder, SCENE) == ""


@pytest.mark.parametrize("name", [layout.name for layout in real.LAYOUTS if not layout.lists])
def test_folder_without_a_dataset_is_refused(name: str, folders: Dict[str, Path]) -> None:
    with pytest.raises(DataError, match=folders[name].name):
        recognize(folders[name])


@pytest.mark.parametrize(
    "count", [100, pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_damaged_files_are_read_or_refused(count: int, folders: Dict[str, Path], tmp_path: Path) -> None:
    rng, results = random.Random(0), [0, 0]
    copies: Dict[str, Tuple[Path, list]] = {}
    for _ in range(count):
        name = rng.choice(READ).name
        if name not in copies:
            root = tmp_path / str(len(copies))
            shutil.copytree(folders[name], root)
            files = [path for path in sorted(root.rglob("*")) if path.is_file()]
            copies[name] = root, [path for path in files if not is_image_file(path)]
        root, files = copies[name]
        path = rng.choice(files)
        content = path.read_bytes()
        path.write_bytes(damage(content, path.suffix != ".rec", rng))
        results[is_usable(root)] += 1
        path.write_bytes(content)
    assert min(results) > count / 50


def is_usable(root: Path) -> bool:
    """Read a dataset: whether it is not refused; its boxes are finite, its images in the folder."""
    try:
        dataset = open_dataset("auto", root, None, None, "train")
    except (DataError, OptionError):
        return False
    for sample in dataset:
        assert np.isfinite(sample.boxes).all()
        assert os.path.realpath(sample.image_path).startswith(os.path.realpath(root))
    return True
