"""Training that begins with small images: what is kept, resuming, and the graph at several sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import images

from mnssd import zoo
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import OptionError
from mnssd.graph.fast import fast_block
from mnssd.tasks.detection import DetectionTask
from mnssd.tasks.run import train_detector
from mnssd.train.checkpoint import read_checkpoint
from mnssd.train.options import resolve_detection

OPTIONS: Dict[str, Any] = {
    "width": 0.25, "size": (160, 128), "early_size": (128, 96), "early_epochs": 2, "epochs": 3,
    "batch_size": 4, "lr": 0.02, "predictor_lr": 1.0, "val_interval": 1, "mosaic": 0.5, "workers": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=9, val=4, size=(128, 128))
    return {"dataset": "shapes", "data_root": str(folder)}


def test_a_run_begins_with_small_images_and_resumes_exactly(
    shapes: Dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: List[Tuple[int, ...]] = []
    losses, end_after = DetectionTask.losses, [0]

    def watched(task: DetectionTask, batch: Any) -> Any:
        if end_after[0] and len(seen) == end_after[0]:
            raise KeyboardInterrupt
        seen.append(batch.arrays[0].shape[2:])
        return losses(task, batch)

    monkeypatch.setattr(DetectionTask, "losses", watched)
    whole = train_detector({**shapes, **OPTIONS, "output": str(tmp_path / "whole")})
    assert seen == [(96, 128)] * 4 + [(128, 160)] * 2
    assert zoo.load_detector(str(whole / "best.params")).size == (160, 128)
    for after in (3, 4):  # in the second epoch of small images, and at the first batch of the others
        seen.clear()
        end_after[0] = after
        output = tmp_path / f"cut{after}"
        with pytest.raises(KeyboardInterrupt):
            train_detector({**shapes, **OPTIONS, "output": str(output)})
        end_after[0] = 0
        train_detector({"resume": str(output)})
        expected, _ = read_checkpoint(whole / "last.ckpt")
        found, progress = read_checkpoint(output / "last.ckpt")
        assert progress.epoch == 3
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            assert np.array_equal(value, found[name]), name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"early_size": None}, "early_size and early_epochs go together"),
        ({"early_epochs": 0}, "early_size and early_epochs go together"),
        ({"early_epochs": -1}, "early_size and early_epochs go together"),
    ],
)
def test_one_without_the_other_is_refused(changes: Dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        resolve_detection({**OPTIONS, **changes}, "options")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"early_epochs": 3}, "--early-epochs 3 leaves none"), ({"early_size": (90, 96)}, "multiple of 32")],
)
def test_what_cannot_be_trained_is_refused_before_training(
    shapes: Dict[str, str], tmp_path: Path, changes: Dict[str, Any], said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        train_detector({**shapes, **OPTIONS, **changes, "output": str(tmp_path / "run")})
    assert not (tmp_path / "run").exists()


def test_the_rewritten_graph_follows_the_size_of_its_input() -> None:
    """Memory that is planned for one size is planned anew for another, there and back."""
    net = zoo.get_model("ssd_128_mobilenet_v2_0.25", classes=["cat"])
    zoo.initialize(net)
    net(images(2, 128, 128))
    fast = fast_block(net.heads)
    fast.hybridize(static_alloc=True, static_shape=True)
    for number, (width, height) in enumerate(((96, 96), (128, 128), (96, 96), (160, 96))):
        x = images(4, width, height, seed=number)
        with mx.autograd.train_mode():
            plain, rewritten = net.heads(x), fast(x)
        finest = width // 16 * height // 16 * 5  # of one pixel, as the last maps are, a batch says little
        for expected, found in zip(plain, rewritten):
            assert found.shape == expected.shape
            expected, found = (array.asnumpy()[:, :finest] for array in (expected, found))
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3 * np.abs(expected).max())
