"""Training that starts with smaller images: what is kept, resuming, and the graph at several sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import images
from helpers.runs import assert_same_arrays, stop_before_step, train

from mnssd import zoo
from mnssd.errors import OptionError
from mnssd.graph.fast import fast_block
from mnssd.tasks.detection import DetectionTask
from mnssd.tasks.run import train_detector

OPTIONS: Dict[str, Any] = {
    "size": (128, 96), "early_size": (96, 96), "early_epochs": 2, "batch_size": 12, "epochs": 3,
    "mosaic": 0.5, "ema": 0.0,
}  # fmt: skip


@pytest.mark.slow
def test_run_starts_with_small_images_and_resumes_exactly(
    shapes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: List[Tuple[int, ...]] = []
    losses = DetectionTask.losses

    def recording(task: DetectionTask, batch: Any) -> Any:
        sizes.append(batch.arrays[0].shape[2:])
        return losses(task, batch)

    with monkeypatch.context() as patch:
        patch.setattr(DetectionTask, "losses", recording)
        whole = train(shapes, tmp_path / "whole", **OPTIONS)
    assert sizes == [(96, 96)] * 4 + [(96, 128)] * 2
    assert zoo.load_detector(str(whole / "best.params")).size == (128, 96)
    run = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        stop_before_step(patch, 3)  # in the second epoch of small images
        with pytest.raises(KeyboardInterrupt):
            train(shapes, run, **OPTIONS)
    train_detector({"resume": str(run)})
    assert_same_arrays(run, whole)


@pytest.mark.parametrize("changes", [{"early_size": None}, {"early_epochs": 0}, {"early_epochs": -1}])
def test_early_size_needs_early_epochs(shapes: str, tmp_path: Path, changes: Dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="early_epochs"):
        train(shapes, tmp_path / "run", **{**OPTIONS, **changes})


@pytest.mark.parametrize(
    ("changes", "value"), [({"early_epochs": 3}, "--early-epochs 3"), ({"early_size": (90, 96)}, "90x96")]
)
def test_invalid_early_training_is_refused_before_the_run_folder_exists(
    shapes: str, tmp_path: Path, changes: Dict[str, Any], value: str
) -> None:
    with pytest.raises(OptionError, match=value):
        train(shapes, tmp_path / "run", **{**OPTIONS, **changes})
    assert not (tmp_path / "run").exists()


def test_rewritten_graph_follows_the_input_size() -> None:
    """Static memory is planned again for another size, there and back."""
    net = zoo.get_model("ssd_128_mobilenet_v2_0.25", classes=["cat"])
    zoo.initialize(net)
    net(images(2, 128, 128))
    fast = fast_block(net.heads)
    fast.hybridize(static_alloc=True, static_shape=True)
    for seed, (width, height) in enumerate(((96, 96), (128, 128), (96, 96), (160, 96))):
        x = images(4, width, height, seed=seed)
        with mx.autograd.train_mode():
            plain, rewritten = net.heads(x), fast(x)
        # Only the first map: of one pixel, as the last maps are, the statistics of a batch are unstable.
        first_map = width // 16 * height // 16 * 5
        for expected, output in zip(plain, rewritten):
            assert output.shape == expected.shape
            expected, output = (array.asnumpy()[:, :first_map] for array in (expected, output))
            np.testing.assert_allclose(output, expected, rtol=0, atol=2e-3 * np.abs(expected).max())
