"""The fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.devkit import CLASSES, make_devkit

import mnssd  # noqa: F401  before any test file imports mxnet, so that the thread settings apply
from mnssd.data.dataset import Dataset
from mnssd.data.open import open_dataset
from mnssd.runtime import processor

AVX512 = processor.channel_block() == 16


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository, or MNSSD_SHARED; without it the test is skipped."""
    folder = Path(os.environ.get("MNSSD_SHARED") or Path(__file__).resolve().parents[1].parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no reference data at {folder} (set MNSSD_SHARED)")
    return folder


@pytest.fixture
def on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewrite graphs even where oneDNN has no fast code for the result."""
    monkeypatch.setattr(processor, "fuses_batchnorm_relu", lambda: True)


@pytest.fixture
def blocks_of_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every machine, so that the counts below are the same everywhere. They are right on every machine."""
    monkeypatch.setattr(processor, "channel_block", lambda: 16)


@pytest.fixture
def blocks_of_eight(blocks_of_sixteen: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right where there is no AVX-512."""
    if AVX512:
        pytest.skip("this processor has AVX-512, where a block has 16 channels")
    monkeypatch.setattr(processor, "channel_block", lambda: 8)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """A VOCdevkit of five images whose objects are plain patches."""
    return make_devkit(tmp_path)


@pytest.fixture
def pictures(devkit: Path) -> Dataset:
    """Its list `val` of 2012."""
    return open_dataset("voc", devkit, "2012_val", CLASSES, "val")


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of the built-in dataset: 24 training and 8 validation images of 96x96."""
    from mnssd.data.shapes.dataset import make_shapes

    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=24, val=8, size=(96, 96))
    return str(folder)


@pytest.fixture(scope="session")
def tiny_run(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a finished detector training; see `helpers.runs.TINY`."""
    from helpers.runs import train

    return train(shapes, tmp_path_factory.mktemp("runs") / "tiny")
