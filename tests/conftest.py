"""The fixtures that several test files share."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest
from helpers.devkit import CLASSES, make_devkit
from helpers.once import made_once

import mnssd  # noqa: F401  before any test file imports mxnet, so that the thread settings apply
from mnssd.data.dataset import Dataset
from mnssd.data.open import open_dataset
from mnssd.runtime import processor

LONGEST = (
    "docs/test_commands.py", "docs/test_quick_start.py", "distributed/test_distributed.py",
    "cli/test_bad_inputs.py", "validation/test_check_data.py", "graph/test_fast_block.py",
    "export/test_bench_export.py", "bench/test_bench.py",
)  # fmt: skip
"""Test files that take longest. They are run first, so that parallel processes end at about the same time."""

AVX512 = processor.channel_block() == 16


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    order = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(LONGEST)))


def pytest_collection_finish() -> None:
    """Exempt modules and tests from garbage collection, a sixth of a training's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of published weights of its own, without any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNSSD_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def unflushed_files() -> Iterator[None]:
    """Files are not flushed to the disk, which may be slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


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
def devkit_val(devkit: Path) -> Dataset:
    """Images of the list `2012_val` of `devkit`."""
    return open_dataset("voc", devkit, "2012_val", CLASSES, "val")


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of the built-in dataset: 24 training and 8 validation images of 96x96; not to be modified."""
    from mnssd.data.shapes.dataset import make_shapes

    def make(folder: Path) -> None:
        make_shapes(folder / "shapes", train=24, val=8, size=(96, 96))

    return str(made_once(tmp_path_factory, "data", make) / "shapes")


@pytest.fixture(scope="session")
def tiny_run(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a finished detector training, see `helpers.runs.TINY`; not to be modified."""
    from helpers.runs import train

    def make(folder: Path) -> None:
        train(shapes, folder / "tiny")

    return made_once(tmp_path_factory, "runs", make) / "tiny"


@pytest.fixture(scope="session")
def tiny_detector() -> Tuple[Any, Any]:
    """An untrained SSD with varied scores, and its structure; not to be modified."""
    from helpers.detectors import make_net

    return make_net()


@pytest.fixture(scope="session")
def image_files(tmp_path_factory: pytest.TempPathFactory) -> List[str]:
    """Ten images, more than a batch of the parity check."""
    from helpers.detectors import write_images

    return write_images(tmp_path_factory.mktemp("images"), 10)


@pytest.fixture(scope="session")
def tiny_export(
    tiny_detector: Tuple[Any, Any], image_files: List[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Export ``pets`` of `tiny_detector` in the formats of `engine_params`; copy it before changing files."""
    from helpers.engines import UNSUITABLE

    from mnssd.export.options import ExportOptions, parse_formats
    from mnssd.export.write import export_network

    def write(folder: Path) -> None:
        options = ExportOptions([name for name in parse_formats("all") if name not in UNSUITABLE])
        export_network(*tiny_detector, folder / "pets", image_files, "pets", options)

    return made_once(tmp_path_factory, "exports", write) / "pets"
