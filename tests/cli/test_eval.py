"""`mnssd eval`: a network, detection files, dataset formats."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from helpers.devkit import CLASSES, IMAGES

from mnssd import zoo
from mnssd.cli.main import run_command
from mnssd.data.formats import shapes as shapes_format
from mnssd.data.open import default_splits, open_dataset
from mnssd.data.shapes import dataset as shapes
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import DataError, OptionError
from mnssd.inference.predict import evaluate, predict
from mnssd.metrics import voc
from mnssd.runtime.settings import wait_all
from mnssd.tasks.evaluate import EvalOptions, open_for_evaluation
from mnssd.train.options import DetectionTraining
from mnssd.train.run_folder import RunConfig, RunFolder

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def spec() -> zoo.DetectorSpec:
    return zoo.DetectorSpec(CLASSES, "mobilenet_v2", 0.25, (128, 96), head="ssdlite")


@pytest.fixture(scope="module")
def network(spec):
    mx.random.seed(3)
    net = zoo.build_detector(spec)
    zoo.initialize(net)
    net(mx.nd.zeros((1, 3, 96, 128)))  # infers the shapes
    # Spread the scores out, as training does: an untrained network's lie so close together that a
    # difference in the last bit could change their order.
    for predictor in net.heads.class_predictors:
        weight = predictor.project.weight
        weight.set_data(weight.data() * 20)
    return net


@pytest.fixture
def run_folder(tmp_path, devkit, spec, network) -> Path:
    """A run as training leaves it, as far as evaluation needs it."""
    folder = RunFolder.create(str(tmp_path / "run"), "")
    options = {"dataset": "voc", "data_root": str(devkit), "val_splits": "2012_val", "epochs": 1}
    folder.write_config(RunConfig(spec, DetectionTraining.resolve(options)))
    wait_all()
    network.heads.save_parameters(str(folder.best))
    return folder.path


@pytest.mark.slow
def test_batch_size_does_not_change_detections(network, devkit_val):
    by_size = {}
    for batch_size in (1, 3):
        by_size[batch_size] = list(predict(network, devkit_val, batch_size))
    for (sample, a), (_, b) in zip(by_size[1], by_size[3]):
        assert len(a.scores) > 10, sample.image_id
        np.testing.assert_array_equal(a.labels, b.labels)
        np.testing.assert_allclose(a.scores, b.scores, rtol=0, atol=1e-5)
        np.testing.assert_allclose(a.boxes, b.boxes, rtol=0, atol=1e-3)
    maps = [evaluate(network, devkit_val, "voc12", 0.1, batch_size).mean_ap for batch_size in (1, 3, 16)]
    assert maps[0] > 0
    assert maps[1:] == pytest.approx([maps[0]] * 2, abs=1e-12)


def test_evaluation_frees_the_fused_network(network, devkit_val):
    """Gluon's blocks are part of reference cycles; what evaluation made must not wait for the collector."""

    def blocks() -> int:
        return sum(isinstance(thing, mx.gluon.SymbolBlock) for thing in gc.get_objects())

    gc.collect()
    before = blocks()
    gc.disable()
    try:
        evaluate(network, devkit_val)
        assert blocks() == before
        next(predict(network, devkit_val))  # given up before its end
        assert blocks() == before
    finally:
        gc.enable()


def test_a_run_and_its_detection_files_score_the_same(run_folder, tmp_path, capsys):
    files, report = tmp_path / "files", tmp_path / "new" / "result.json"
    arguments = [str(run_folder), "--json", str(report), "--save-detections", str(files)]
    arguments += ["--metric", "voc12", "--iou", "0.1"]
    assert run_command("eval", arguments) == 0
    printed = capsys.readouterr().out
    result = json.loads(report.read_text())
    assert f"mAP (VOC12, IoU 0.1): {result['mAP']:.4f}" in printed
    assert result["images"] == 5
    assert result["classes"] == ["cat", "dog"]
    assert (result["dataset"], result["splits"]) == ("voc", "2012_val")  # the run's own
    names = sorted(path.name for path in files.iterdir())
    assert names == ["comp4_det_2012_val_cat.txt", "comp4_det_2012_val_dog.txt"]
    arguments = ["--detections", str(files), "--data-root", str(run_folder.parent / "VOCdevkit")]
    arguments += ["--splits", "2012_val", "--classes", "cat,dog", "--metric", "voc12", "--iou", "0.1"]
    assert run_command("eval", [*arguments, "--json", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["ap_per_class"] == result["ap_per_class"]
    assert again["detections"] == result["detections"]


def test_coco_metric_prints_voc_and_coco(run_folder, tmp_path, capsys):
    folder, results = str(tmp_path / "files"), []
    data = ["--data-root", str(run_folder.parent / "VOCdevkit"), "--splits", "2012_val", "--metric", "coco"]
    files = ["--detections", folder, "--classes", "cat,dog"]
    for arguments in ([str(run_folder), "--save-detections", folder], files):
        assert run_command("eval", [*arguments, *data, "--json", str(tmp_path / "result.json")]) == 0
        results.append(json.loads((tmp_path / "result.json").read_text()))
        assert results[-1]["metric"] == "voc12"
        printed = capsys.readouterr().out
        assert "mAP (VOC12, IoU 0.5)" in printed
        assert f"{results[-1]['coco']['AP50']:.4f}" in printed
        assert "recall_any_class" in printed
    network, from_files = (result["coco"] for result in results)
    assert network["images"] == 5
    assert network["recall_any_class"] > 0
    for name in ("AP", "AP50", "AR_100", "recall_any_class"):
        assert from_files[name] == pytest.approx(network[name], abs=1e-3)  # files round boxes and scores


def test_flip_changes_detections(run_folder, tmp_path):
    detections = []
    for more in ([], ["--flip"]):
        result, folder = tmp_path / f"result{len(more)}.json", tmp_path / f"files{len(more)}"
        arguments = [str(run_folder), "--json", str(result), "--save-detections", str(folder), *more]
        assert run_command("eval", arguments) == 0
        assert json.loads(result.read_text())["flip"] == bool(more)
        detections.append([file.read_text() for file in sorted(folder.iterdir())])
    assert detections[0] != detections[1]
    assert all(any(texts) for texts in detections)


def test_eval_stops_at_an_unreadable_image(run_folder, devkit, tmp_path, capsys):
    image = devkit / "VOC2012" / "JPEGImages" / "edge.jpg"
    image.write_bytes(image.read_bytes()[:-200])
    target, files = tmp_path / "result.json", tmp_path / "files"
    arguments = [str(run_folder), "--json", str(target), "--save-detections", str(files)]
    assert run_command("eval", arguments) == 1
    captured = capsys.readouterr()
    assert "edge.jpg" in captured.err
    assert "Traceback" not in captured.err
    assert "mAP" not in captured.out
    assert not target.exists()
    assert list(files.iterdir()) == []


def test_missing_run_is_named(tmp_path, devkit, capsys):
    assert run_command("eval", [str(tmp_path / "nothing"), "--data-root", str(devkit)]) == 1
    assert "nothing" in capsys.readouterr().err


# ---- detection files ---------------------------------------------------------------------------------------


@pytest.fixture
def detection_files(tmp_path) -> Path:
    """Detection files with the true boxes of the images, as another detector would write them."""
    folder = tmp_path / "results"
    folder.mkdir()
    for class_name in CLASSES:
        lines = [
            f"{name} 0.9 {box[0] + 1} {box[1] + 1} {box[2] + 1} {box[3] + 1}\n"
            for name, _, objects in IMAGES
            for box, its_class in objects
            if its_class == class_name
        ]
        (folder / f"comp4_det_val_{class_name}.txt").write_text("".join(lines))
    return folder


def evaluate_files(detection_files: Path, devkit: Path, *more: str) -> int:
    data = ["--dataset", "voc", "--data-root", str(devkit), "--splits", "2012_val"]
    return run_command("eval", ["--detections", str(detection_files), *data, *more])


def test_true_boxes_have_a_map_of_one(detection_files, devkit, tmp_path, capsys):
    assert (
        evaluate_files(
            detection_files, devkit, "--classes", "cat,dog", "--json", str(tmp_path / "result.json")
        )
        == 0
    )
    captured = capsys.readouterr()
    assert "mAP (VOC07, IoU 0.5): 1.0000   5 images, 2 classes" in captured.out
    assert ["cat", "1.0000", "3", "3"] in [line.split() for line in captured.out.splitlines()]
    assert "note" not in captured.err
    result = json.loads((tmp_path / "result.json").read_text())
    expected = {
        "metric": "voc07",
        "iou_threshold": 0.5,
        "images": 5,
        "ap_per_class": {"cat": 1.0, "dog": 1.0},
    }
    assert {key: result[key] for key in expected} == expected
    assert result["mAP"] == pytest.approx(1, abs=1e-12)


def test_all_classes_of_the_dataset_are_the_default(detection_files, devkit, tmp_path, capsys):
    (devkit / "VOC2012" / "classes.txt").write_text("aeroplane\ncat\ndog\n")
    assert evaluate_files(detection_files, devkit, "--json", str(tmp_path / "result.json")) == 0
    captured = capsys.readouterr()
    assert "3 classes (1" in captured.out
    assert ["aeroplane", "-", "0", "0"] in [line.split() for line in captured.out.splitlines()]
    assert "aeroplane" in captured.err
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["ap_per_class"]["aeroplane"] is None
    assert result["mAP"] == pytest.approx(1, abs=1e-12)


def test_detection_files_are_evaluated_without_mxnet(detection_files, devkit):
    arguments = ["--detections", str(detection_files), "--data-root", str(devkit), "--splits", "2012_val"]
    code = (
        "import sys; from mnssd.cli.main import run_command; "
        "status = run_command('eval'); print(status, 'mxnet' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 False"


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["--detections", "{files}/nowhere"], 1, "nowhere"),
        (["--data-root", "{files}"], 1, "VOC2012"),
        (["--splits", "2012_test"], 1, "test.txt"),
        (["--classes", "cat,dgo"], 1, "dgo"),
        (["--classes", "cat,,dog"], 2, "cat,,dog"),
        (["--classes", "bird"], 1, "bird"),
        (["--metric", "voc08"], 2, "voc08"),
        (["--iou", "0"], 2, "iou"),
        (["--iou", "half"], 2, "iou"),
        (["--batch-size", "4"], 2, "--batch-size"),
        (["some/run"], 2, "--detections"),
    ],
)
def test_invalid_arguments_are_named(detection_files, devkit, capsys, arguments, status, named):
    assert (
        evaluate_files(detection_files, devkit, *(word.format(files=detection_files) for word in arguments))
        == status
    )
    captured = capsys.readouterr()
    assert named in captured.err
    assert "Traceback" not in captured.err
    assert "mAP" not in captured.out


def test_invalid_line_of_a_detection_file_is_named(detection_files, devkit, capsys):
    with open(detection_files / "comp4_det_val_dog.txt", "a") as file:
        file.write("tall 0.5 1 1 nan 9\n")
    assert evaluate_files(detection_files, devkit) == 1
    assert "comp4_det_val_dog.txt:3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"), [([], "--detections"), (["run", "--detections", "folder"], "--detections")]
)
def test_contradicting_arguments_are_named(capsys, arguments, named):
    assert run_command("eval", arguments) == 2
    assert named in capsys.readouterr().err


def test_metric_choices_are_those_of_voc_and_coco():
    choices = EvalOptions.__dataclass_fields__["metric"].metadata["choices"]
    assert choices == (*voc.VOC_METRICS, "coco")


# ---- datasets ----------------------------------------------------------------------------------------------


def test_dataset_formats_and_their_defaults(devkit, tmp_path, monkeypatch):
    with pytest.raises(OptionError, match="'vco'.*voc"):
        open_dataset("vco")
    monkeypatch.chdir(tmp_path / "VOCdevkit")
    with pytest.raises(DataError, match="data/VOCdevkit"):
        open_dataset("voc", role="val")
    assert default_splits("voc", "train") == "2007_trainval+2012_trainval"
    assert default_splits("voc", "val") == "2007_test"
    assert len(open_dataset("voc", devkit, "2012_train", role="val")) == 1
    with pytest.raises(OptionError, match="--download"):
        open_dataset("shapes", tmp_path, download=True)
    # A detector's classes need not occur, a class that a person names does.
    with pytest.raises(DataError, match="zebra"):
        open_dataset("voc", devkit, "2012_val", ["cat", "zebra"])
    assert open_dataset("voc", devkit, "2012_val", ["cat", "zebra"], allow_absent=True).classes == (
        "cat",
        "zebra",
    )


def test_missing_shapes_are_rendered(tmp_path, monkeypatch):
    calls = []

    def make_few(folder):
        calls.append(folder)
        return make_shapes(folder, train=3, val=2, size=(64, 64))

    monkeypatch.setattr(shapes_format, "make_shapes", make_few)
    folder = tmp_path / "new" / "shapes"
    first = open_dataset("shapes", folder, role="val")
    assert (len(first), len(open_dataset("shapes", folder))) == (2, 3)
    assert first.classes == shapes.SHAPE_CLASSES
    assert open_dataset("shapes", folder, "train", ["circle"], "val").classes == ("circle",)
    assert calls == [folder]


def test_objects_with_another_name_of_the_same_class(devkit, tmp_path, capsys):
    """Of cat and dog, whose annotations are renamed to classes of VOC, for a network with those of COCO."""
    data = tmp_path / "data" / "VOCdevkit"
    shutil.copytree(devkit, data)
    for path in (data / "VOC2012" / "Annotations").iterdir():
        path.write_text(path.read_text().replace(">cat<", ">sofa<").replace(">dog<", ">motorbike<"))
    options = EvalOptions(data_root=str(data), splits="2012_val")
    dataset = open_for_evaluation(options, ["person", "motorcycle", "couch", "tv"], allow_absent=True)
    assert dataset.classes == ("person", "motorcycle", "couch", "tv")
    counts = np.bincount(np.concatenate([sample.labels for sample in dataset]), minlength=4)
    np.testing.assert_array_equal(counts, [0, 2, 3, 0])
    printed = capsys.readouterr().err
    for name in ("motorbike", "couch"):
        assert name in printed
    alone = open_for_evaluation(options, ["motorcycle"], allow_absent=True)
    assert sum(len(sample.labels) for sample in alone) == 2
    kept = open_for_evaluation(options, ["sofa", "motorbike", "couch"], allow_absent=True)
    counts = np.bincount(np.concatenate([sample.labels for sample in kept]), minlength=3)
    np.testing.assert_array_equal(counts, [3, 2, 0])
