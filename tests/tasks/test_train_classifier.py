"""Classification: whole training runs, and the parts of its task."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import make_image, write_image
from helpers.runs import assert_same_run, read_log

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.errors import MnssdError, OptionError
from mnssd.tasks.classification import class_weights, mix, soften
from mnssd.tasks.run import train_classifier, train_detector
from mnssd.train import loop

TINY: Dict[str, Any] = {
    "dataset": "shapes", "network": "mobilenet_v1", "width": 0.25, "size": (32, 32), "epochs": 2,
    "batch_size": 16, "workers": 0, "lr": 0.05,
}  # fmt: skip


def train(shapes: str, output: Path, **options: Any) -> Path:
    return train_classifier({**TINY, "data_root": shapes, "output": str(output), **options})


def test_eval_cls_reports_the_best_score_of_the_log(
    shapes: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = train(shapes, tmp_path / "run", mixup=0.2, label_smoothing=0.1, class_weights=True)
    rows, printed = read_log(run), capsys.readouterr().out
    best = max(float(row["top1"]) for row in rows)
    assert "mobilenet_v1 x0.25 at 32x32" in printed
    assert f"top-1 {best:.4f}" in printed
    assert 0 <= float(rows[-1]["top1"]) <= float(rows[-1]["top5"]) <= 1
    output = tmp_path / "result.json"
    assert main(["eval-cls", str(run), "--json", str(output)]) == 0
    report = json.loads(output.read_text())
    assert report["top1"] == pytest.approx(best, abs=1e-5)
    assert report["images"] == sum(map(sum, report["confusion"]))


def test_classification_run_cannot_be_resumed_as_detection(shapes: str, tmp_path: Path) -> None:
    run = train(shapes, tmp_path / "run", epochs=1, val_interval=0)
    with pytest.raises(OptionError, match=str(run)):
        train_detector({"resume": str(run)})


@pytest.mark.slow
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_resumed_run_equals_an_uninterrupted_one(
    ema: float, shapes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"ema": ema, "epochs": 3, "val_interval": 1}
    whole, resumed = train(shapes, tmp_path / "whole", **options), tmp_path / "resumed"
    save = loop.save_checkpoint

    def stop_after_the_second_epoch(path: Path, *, progress: Any, **state: Any) -> None:
        save(path, progress=progress, **state)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", stop_after_the_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            train(shapes, resumed, **options)
    train_classifier({"resume": str(resumed)})
    assert_same_run(resumed, whole)


def test_weights_of_a_classifier_initialize_a_detector(shapes: str, tmp_path: Path) -> None:
    run = train(shapes, tmp_path / "classifier", epochs=1)
    options = {
        "dataset": "shapes", "data_root": shapes, "network": "mobilenet_v1", "width": 0.25, "size": (96, 96),
        "epochs": 1, "batch_size": 8, "val_interval": 0, "freeze": "features",
    }  # fmt: skip
    weights = str(run / "best.params")
    detector = zoo.load_detector(
        str(train_detector({**options, "weights": weights, "output": str(tmp_path / "detector")}))
    )
    classifier, _ = zoo.load_classifier(str(run))
    expected = classifier.features[0].weight.data().asnumpy()
    np.testing.assert_array_equal(detector.heads.backbone.features[0].weight.data().asnumpy(), expected)


def test_unreadable_files_of_an_image_folder_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = tmp_path / "images"
    for split, count in (("train", 12), ("val", 4)):
        for label in ("left", "right"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                write_image(folder / f"{i}.png", make_image(i + 50 * (label == "left"), 40, 40))
            (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff and nothing more")
    options = {
        **TINY,
        "dataset": "folder",
        "data_root": str(root),
        "batch_size": 8,
        "val_interval": 1,
        "weights": "none",
    }
    run = train_classifier({**options, "output": str(tmp_path / "run")})
    assert "bad.jpg" in capsys.readouterr().out
    assert read_log(run)[-1]["val_skipped"] == "2"
    assert main(["eval-cls", str(run), "--data-root", str(root)]) == 0
    assert len(re.findall(r"^skipped: \S+bad\.jpg", capsys.readouterr().out, re.M)) == 2


def test_diverging_run_is_stopped(shapes: str, tmp_path: Path) -> None:
    with pytest.raises(MnssdError, match="--clip-gradient"):
        train(shapes, tmp_path / "run", lr=1e9, warmup=0, val_interval=0)


def test_mobilenet_v1_with_relu6(shapes: str, tmp_path: Path) -> None:
    run = train(shapes, tmp_path / "run", network="mobilenet_v1", activation="relu6", epochs=1)
    net, spec = zoo.load_classifier(str(run))
    assert spec.activation == "relu6"
    assert net(mx.nd.zeros((1, 3, 32, 32))).shape == (1, 6)


# ---- parts -------------------------------------------------------------------------------------------------


def test_label_smoothing_spreads_its_share_over_all_classes() -> None:
    targets = soften(np.array([1, 0]), 4, 0.2)
    np.testing.assert_allclose(targets, [[0.05, 0.85, 0.05, 0.05], [0.85, 0.05, 0.05, 0.05]], rtol=1e-6)


def test_mixup_mixes_images_and_targets_alike() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(6)
    images = np.broadcast_to(labels[:, None, None, None], (6, 3, 2, 2)).astype(np.float32).copy()
    original = images.copy()
    mixed, targets = mix(images, np.eye(6, dtype=np.float32), 0.4, rng)
    np.testing.assert_array_equal(images, original)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixed[:, 0, 0, 0], targets @ labels, rtol=1e-5)


def test_class_weights_are_inverse_to_the_root_of_the_frequency() -> None:
    counts = np.array([100, 25, 0])
    weights = class_weights(counts)
    assert weights[1] == pytest.approx(2 * weights[0])
    assert weights[2] == 0
    assert (weights * counts).sum() == pytest.approx(counts.sum())
