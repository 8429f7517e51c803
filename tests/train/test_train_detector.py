"""Training: schedule, checkpoint, run folder, and small runs of the whole, on the real engine."""

import csv
from dataclasses import asdict

import numpy as np
import pytest

from mnssd.data.sample import Sample
from mnssd.data.shapes.dataset import make_shapes
from mnssd.data.transforms import AugmentOptions
from mnssd.errors import DataError, MnssdError, OptionError
from mnssd.tasks.run import train_detector
from mnssd.train.checkpoint import FIRST_LINE, read_checkpoint
from mnssd.train.logger import to_csv
from mnssd.options import parse_size
from mnssd.train.options import LoopOptions, resolve_detection
from mnssd.train.run_folder import RunFolder
from mnssd.train.schedule import learning_rate


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=24, val=8, size=(128, 128))
    return folder


TINY = {
    "dataset": "shapes",
    "network": "mobilenet_v2",
    "width": 0.25,
    "size": (96, 96),
    "epochs": 2,
    "batch_size": 8,
    "lr": 0.02,
    "predictor_lr": 1.0,
    "val_interval": 1,
    "workers": 1,
}


def train(shapes, output, **changes):
    return train_detector({**TINY, "data_root": str(shapes), "output": str(output), **changes})


# ---- schedule and options ----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["cosine", "step"])
@pytest.mark.parametrize(
    ("epochs", "steps", "warmup"), [(1, 1, 0.0), (1, 1, 1.0), (10, 7, 1.0), (3, 5, 0.5), (2, 4, 9.0)]
)
def test_learning_rate_rises_then_falls_and_is_never_zero(schedule, epochs, steps, warmup):
    options = LoopOptions(epochs=epochs, schedule=schedule, warmup=warmup, lr=0.4)
    rates = np.array([learning_rate(options, step, steps) for step in range(epochs * steps)])
    assert (rates > 0).all()
    assert rates.max() <= 0.4 + 1e-12
    top = int(rates.argmax())
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) <= 1e-12).all()


def test_step_schedule_divides_by_ten_twice():
    options = LoopOptions(epochs=24, schedule="step", warmup=0, lr=1.0)
    rates = [learning_rate(options, step, 10) for step in (0, 159, 160, 199, 200, 239)]
    assert np.allclose(rates, [1, 1, 0.1, 0.1, 0.01, 0.01])


def test_size_is_a_number_or_width_by_height():
    assert parse_size("300") == (300, 300)
    assert parse_size("480x320") == (480, 320)
    with pytest.raises(ValueError, match="480by320"):
        parse_size("480by320")


def test_data_set_defaults_stand_between_the_given_and_the_general():
    options = resolve_detection({}, "test")
    detection, augment, loop = options.data, options.augment, options.loop
    assert detection.dataset == "shapes"
    assert detection.size != (300, 300)
    assert augment.hue != AugmentOptions().hue
    assert loop.predictor_lr < 1
    options = resolve_detection({"dataset": "voc", "lr": 0.5}, "test")
    detection, augment, loop = options.data, options.augment, options.loop
    assert augment == AugmentOptions()
    assert detection.size == (300, 300)
    assert loop.lr == 0.5


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"batchsize": 1}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"lr": float("nan")}, "lr"),
        ({"freeze": "("}, "freeze"),
        ({"dataset": "vocc"}, "vocc"),
        ({"overfit": -1}, "overfit"),
        ({"expand_ratio": 0.5}, "expand_ratio"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(values, word):
    with pytest.raises(OptionError, match=word):
        resolve_detection(values, "test")


# ---- run folder and files ----------------------------------------------------------------------------------


def test_a_taken_output_is_refused_and_a_default_name_is_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = RunFolder.create("", "ssd"), RunFolder.create("", "ssd")
    first.unlock()
    assert (first.path.name, second.path.name) == ("ssd", "ssd-2")
    (first.path / "something").write_text("x")
    with pytest.raises(OptionError, match="--resume"):
        RunFolder.create(str(first.path), "ssd")


def test_csv_has_the_columns_of_all_rows():
    rows = list(
        csv.DictReader(to_csv([{"epoch": 1, "loss": 2}, {"epoch": 2, "loss": 1, "mAP": 0.5}]).splitlines())
    )
    assert rows[0] == {"epoch": "1", "loss": "2", "mAP": ""}
    assert rows[1]["mAP"] == "0.5"


# ---- whole runs --------------------------------------------------------------------------------------------


def weights_of(run):
    arrays, progress = read_checkpoint(run / "last.ckpt")
    return arrays, progress


def test_a_run_leaves_everything_and_resume_continues_exactly(shapes, tmp_path, monkeypatch):
    whole = train(shapes, tmp_path / "whole")
    files = {"config.yaml", "log.csv", "best.params", "last.ckpt", "previous.ckpt"}
    assert {p.name for p in whole.iterdir()} == files
    rows = list(csv.DictReader((whole / "log.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row["loss"]) > 0 and 0 <= float(row["mAP"]) <= 1 for row in rows)

    # The same run, ended by a failure in its second epoch, and resumed.
    import mnssd.train.loop as loop

    real, calls = loop.learning_rate, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop, "learning_rate", failing)
    with pytest.raises(KeyboardInterrupt):
        train(shapes, tmp_path / "cut")
    monkeypatch.setattr(loop, "learning_rate", real)
    cut = train_detector({"resume": str(tmp_path / "cut")})
    expected, _ = weights_of(whole)
    found, progress = weights_of(cut)
    assert progress.epoch == 2
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.array_equal(value, found[name]), name


def test_resume_refuses_other_options_and_damaged_checkpoints(shapes, tmp_path):
    run = train(shapes, tmp_path / "run", epochs=1)
    with pytest.raises(OptionError, match="--lr"):
        train_detector({"resume": str(run), "lr": 0.5})
    content = (run / "last.ckpt").read_bytes()
    for damaged in (
        content[:-1],
        content[:3000],
        b"",
        b"something else",
        content.replace(b"weights", b"wEights", 1),
    ):
        for name in ("last.ckpt", "previous.ckpt"):
            (run / name).write_bytes(damaged)
        with pytest.raises(MnssdError, match=r"previous\.ckpt"):
            train_detector({"resume": str(run)})
    assert content.startswith(FIRST_LINE)
    with pytest.raises(MnssdError, match="nowhere"):
        train_detector({"resume": str(tmp_path / "nowhere")})


def test_seed_decides_and_fast_graph_learns_alike(shapes, tmp_path):
    one = weights_of(train(shapes, tmp_path / "a", epochs=1, val_interval=0, seed=1))
    same = weights_of(train(shapes, tmp_path / "b", epochs=1, val_interval=0, seed=1, workers=3))
    other = weights_of(train(shapes, tmp_path / "c", epochs=1, val_interval=0, seed=2))
    plain = weights_of(train(shapes, tmp_path / "d", epochs=1, val_interval=0, seed=1, fast_graph=False))
    assert all(np.array_equal(one[0][name], same[0][name]) for name in one[0])
    assert not all(np.array_equal(one[0][name], other[0][name]) for name in one[0])
    assert np.isclose(one[1].history[0]["loss"], plain[1].history[0]["loss"], rtol=0.05)


def test_cached_images_change_nothing(shapes, tmp_path, capsys):
    def log(name, **changes):
        with open(train(shapes, tmp_path / name, **changes) / "log.csv", newline="") as file:
            return [(row["loss"], row["mAP"]) for row in csv.DictReader(file)]

    plain, cache = log("plain"), str(tmp_path / "cache")
    assert log("filling", cache_images=cache) == plain
    assert log("filled", cache_images=cache) == plain
    assert f"decoded images are kept in {cache}" in capsys.readouterr().out
    assert len(list((tmp_path / "cache").rglob("*.rgb"))) == 24


def test_frozen_parameters_and_statistics_stay(shapes, tmp_path):
    start, _ = weights_of(train(shapes, tmp_path / "start", epochs=1, val_interval=0))
    best = str(tmp_path / "start" / "best.params")
    # Crops, so that objects of every size occur: a predictor whose anchors match none would not move either.
    crops = asdict(AugmentOptions(color_probability=0.0))
    pattern = r"backbone\.features\."
    changes = {"epochs": 1, "val_interval": 0, "weights": best, "freeze": pattern, **crops}
    frozen, _ = weights_of(train(shapes, tmp_path / "frozen", **changes))
    for name, value in start.items():
        if name.startswith("weights/"):
            stays = "backbone.features." in name
            assert np.array_equal(value, frozen[name]) == stays, name
    with pytest.raises(OptionError, match="no parameter"):
        train(shapes, tmp_path / "none", freeze="nothing_is_called_this")


def test_overfit_learns_a_few_images_by_heart(shapes, tmp_path):
    run = train(
        shapes, tmp_path / "overfit", overfit=4, epochs=100, batch_size=4, lr=0.01, val_interval=100, warmup=4
    )
    _, progress = weights_of(run)
    losses = [row["loss"] for row in progress.history]
    assert losses[-1] < losses[0] / 4
    assert progress.best_score > 0.5


def test_unreadable_images_are_skipped_and_reported(shapes, tmp_path, capsys):
    import shutil

    folder = tmp_path / "shapes"
    shutil.copytree(shapes, folder)
    pictures = sorted((folder / "JPEGImages").glob("train*"))
    pictures[0].write_bytes(pictures[0].read_bytes()[:2000])
    train(folder, tmp_path / "run", epochs=1, val_interval=0)
    printed = capsys.readouterr().out
    assert "1 images could not be used" in printed
    assert pictures[0].name in printed


def test_a_loss_that_is_not_finite_stops_with_the_samples(shapes, tmp_path):
    with pytest.raises(MnssdError, match=r"not finite.*--clip-gradient"):
        train(shapes, tmp_path / "run", lr=1e12, epochs=3, val_interval=0, warmup=0)


def test_weights_that_are_not_finite_stop_the_run_before_they_are_saved(tmp_path):
    from mxnet.gluon import nn

    from mnssd.train.checkpoint import save_weights
    from mnssd.train.loop import check_finite

    block = nn.Dense(2, in_units=3)
    block.initialize()
    run = RunFolder(tmp_path)
    check_finite(block, run, 0)
    save_weights(run.best, block)
    before = run.best.read_bytes()
    block.weight.set_data(block.weight.data() * float("nan"))
    with pytest.raises(MnssdError, match="weight is not finite after epoch 3"):
        check_finite(block, run, 2)
    with pytest.raises(MnssdError, match=r"nowhere/best\.params"):
        save_weights(tmp_path / "nowhere" / "best.params", block)
    assert run.best.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["best.params"]


def test_an_image_of_another_size_than_annotated_is_refused_and_boxes_follow_a_reduced_image(tmp_path):
    import cv2

    from mnssd.tasks.detection_samples import read_sample

    path = str(tmp_path / "big.jpg")
    picture = np.zeros((1000, 1203, 3), np.uint8)
    picture[400:800, 200:1000] = 255
    cv2.imwrite(path, picture)
    box = np.array([[200, 400, 999, 799]], np.float32)

    def sample(width, height):
        return Sample("big", path, box, np.zeros(1, np.int32), np.zeros(1, bool), (width, height))

    image, boxes = read_sample(sample(1203, 1000), (96, 96))
    assert image.shape[0] < 200
    xmin, ymin, xmax, ymax = boxes[0].round().astype(int)
    assert image[ymin + 2 : ymax - 2, xmin + 2 : xmax - 2].min() > 200
    assert image[: ymin - 1].max() < 60
    for wrong in ((1000, 1203), (600, 500)):
        with pytest.raises(DataError, match="big.jpg"):
            read_sample(sample(*wrong), (96, 96))
