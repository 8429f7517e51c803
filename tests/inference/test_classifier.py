"""A classifier exported, loaded by plain MXNet and by `Classifier`, and called."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any, List, Tuple

import mxnet as mx
import numpy as np
import pytest
import yaml
from helpers.detectors import make_image, make_net, write_images, write_run

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.image import IMAGENET_MEAN, IMAGENET_STD, read_image
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import ExportError, ImageError
from mnssd.export.classifier import ClassifierParityCheck, export_classifier
from mnssd.export.options import Formats
from mnssd.inference.classifier import Classifier
from mnssd.inference.detector import Detector
from mnssd.runtime.settings import wait_all
from mnssd.tasks.run import train_classifier

CLASSES = ("cat", "dog", "cow", "hen")
SIZE = (128, 120)


def make_classifier(network: str, part: float = 1.0) -> Tuple[Any, zoo.ClassifierSpec]:
    """One that has learned nothing but answers differently to different images."""
    spec = zoo.ClassifierSpec(CLASSES, network, 0.25, SIZE, val_crop=part)
    net = zoo.build_classifier(spec)
    mx.random.seed(0)
    zoo.initialize(net)
    net(mx.nd.zeros((1, 3, SIZE[1], SIZE[0])))
    rng = np.random.default_rng(0)
    for name, parameter in sorted(net.collect_params().items()):
        if name.endswith("running_mean"):
            parameter.set_data(mx.nd.array(rng.normal(0, 0.1, parameter.shape)))
        elif name.endswith(("running_var", "gamma")):
            parameter.set_data(mx.nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
    return net, spec


def write_classifier_run(folder: Path, net: Any, spec: zoo.ClassifierSpec) -> Path:
    folder.mkdir()
    config = {"task": "classification", "classifier": spec.as_dict(), "options": {}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    wait_all()
    net.save_parameters(str(folder / "best.params"))
    return folder


def by_hand(net: Any, image: np.ndarray, part: float) -> np.ndarray:
    """Probabilities, written down independently; the image is larger than the input both ways."""
    import cv2

    height, width = image.shape[:2]
    left, top = round(width * (1 - part) / 2), round(height * (1 - part) / 2)
    small = cv2.resize(image[top : height - top, left : width - left], SIZE, interpolation=cv2.INTER_AREA)
    x = (small.astype(np.float64) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    logits = net(mx.nd.array(x.transpose(2, 0, 1)[None])).asnumpy()[0].astype(np.float64)
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> List[str]:
    return write_images(tmp_path_factory.mktemp("pictures"), 5, ".png")


@pytest.mark.parametrize(("network", "part"), [("mobilenet_v1", 1.0), ("mobilenet_v2", 0.875)])
def test_plain_mxnet_and_classifier_answer_as_the_network(
    network: str, part: float, images: List[str], tmp_path: Path
) -> None:
    net, spec = make_classifier(network, part)
    exported = export_classifier(net, spec, tmp_path / "export", images)
    assert [exported.compared[how].images for how in ("plain", "fused")] == [5, 5]  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        symbol, params = (str(path) for path in exported.paths[:2])
        plain = mx.gluon.SymbolBlock.imports(symbol, ["data"], params)
    run = write_classifier_run(tmp_path / "run", net, spec)
    of_run, of_export = Classifier.load(run), Classifier.load(tmp_path / "export")
    for path in images:
        # Up to 280x190, they are not reduced while they are decoded for 128x120: `by_hand` does not do so.
        expected = by_hand(net, read_image(path), part)
        for classifier in (of_run, of_export):
            guesses = classifier(path, top=4)
            assert [g.label for g in guesses] == list(np.argsort(-expected))
            assert [g.name for g in guesses] == [CLASSES[g.label] for g in guesses]
            assert [g.probability for g in guesses] == pytest.approx(
                expected[np.argsort(-expected)], abs=1e-3
            )
    x = np.zeros((2, 3, SIZE[1], SIZE[0]), np.float32)
    expected = mx.nd.softmax(net(mx.nd.array(x))).asnumpy()
    np.testing.assert_allclose(plain(mx.nd.array(x)).asnumpy(), expected, atol=1e-5)
    assert "BatchNorm" not in exported.paths[0].read_text()


@pytest.mark.parametrize("pixels", [False, True])
def test_onnx_runtime_answers_alike(images: List[str], tmp_path: Path, pixels: bool) -> None:
    net, spec = make_classifier("mobilenet_v1" if pixels else "mobilenet_v2", 0.875)
    formats = Formats(("symbol", "onnx"), pixels=pixels)
    exported = export_classifier(net, spec, tmp_path / "cls", images, "cls", formats)
    assert set(exported.compared) == {"plain", "fused", "onnx"}
    ours, theirs = (Classifier.load(tmp_path / "cls", engine=e) for e in ("mxnet", "onnxruntime"))
    for a, b in zip(ours(images, top=4), theirs(images, top=4)):
        assert [guess.label for guess in a] == [guess.label for guess in b]
        assert [g.probability for g in a] == pytest.approx([g.probability for g in b], abs=1e-4)


def test_every_form_of_image_gives_the_same(images: List[str], tmp_path: Path) -> None:
    net, spec = make_classifier("mobilenet_v2")
    classifier = Classifier.load(write_classifier_run(tmp_path / "run", net, spec))
    data, pixels = Path(images[1]).read_bytes(), read_image(images[1])
    first = classifier(images[1])
    assert len(first) == 4  # there are no more classes
    for same in (classifier(Path(images[1])), classifier(data), classifier(pixels)):
        assert [g.name for g in same] == [g.name for g in first]
        assert [g.probability for g in same] == pytest.approx([g.probability for g in first], abs=1e-6)
    many = classifier([*images, data, pixels] * 6, top=1)
    assert [len(guesses) for guesses in many] == [1] * 42
    assert many[1][0].name == first[0].name
    with pytest.raises(ImageError, match="is no image"):
        classifier(pixels[..., :2])
    assert classifier([]) == []


def test_exports_are_not_mixed_up(images: List[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    net, spec = make_classifier("mobilenet_v2")
    export_classifier(net, spec, tmp_path / "cls", images)
    with pytest.raises(ExportError, match="a classifier, not a detector; use mnssd classify"):
        Detector.load(tmp_path / "cls")
    detector, structure = make_net()
    run = write_run(tmp_path / "ssd-run", detector, structure)
    assert main(["export", str(run), "--output", str(tmp_path / "ssd"), "--images", *images]) == 0
    assert json.loads((tmp_path / "ssd" / "ssd-run.json").read_text())["task"] == "detection"
    with pytest.raises(ExportError, match="a detector, not a classifier; use mnssd detect"):
        Classifier.load(tmp_path / "ssd")
    sidecar = tmp_path / "ssd" / "ssd-run.json"
    sidecar.write_text(json.dumps({k: v for k, v in json.loads(sidecar.read_text()).items() if k != "task"}))
    assert Detector.load(tmp_path / "ssd").classes == ("cat", "dog", "cow")  # as exports of 0.1 were


@pytest.mark.parametrize("part", [None, "half", 0, 1.5, [0.5]])
def test_a_sidecar_that_asks_for_something_else_is_refused(
    part: Any, images: List[str], tmp_path: Path
) -> None:
    net, spec = make_classifier("mobilenet_v2")
    export_classifier(net, spec, tmp_path, images[:1])
    path = tmp_path / "classifier.json"
    sidecar = json.loads(path.read_text())
    if part is None:
        del sidecar["input"]["central_part"]
    else:
        sidecar["input"]["central_part"] = part
    path.write_text(json.dumps(sidecar))
    with pytest.raises(ExportError, match="export it again"):
        Classifier.load(tmp_path)


def test_comparison_refuses_what_differs() -> None:
    logits = np.array([[1.0, 2.0, -3.0]])
    probabilities = np.array([[0.3, 0.7, 0.0]])
    compared = ClassifierParityCheck()
    compared.add([logits, probabilities], [logits + 5e-5, probabilities + 5e-5], ["a"])
    assert compared.line().startswith("answers to 1 images agree; largest differences: logits 5.0e-05")
    for theirs in ([logits + 1e-3, probabilities], [logits * np.nan, probabilities],
                   [logits, probabilities + 2e-4], [logits[:, :2], probabilities]):  # fmt: skip
        with pytest.raises(ExportError):
            ClassifierParityCheck().add([logits, probabilities], theirs, ["a"])
    with pytest.raises(ExportError, match="its weights are broken"):
        ClassifierParityCheck().add([logits * np.nan, probabilities], [logits, probabilities], ["a"])
    tie = np.array([[0.5, 0.500001]])
    compared.add([logits[:, :2], tie], [logits[:, :2], tie[:, ::-1]], ["b"])
    assert compared.ambiguous == 1


def test_from_training_to_guesses(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_shapes(tmp_path / "shapes", train=8, val=6, size=(96, 96))
    options = {"dataset": "shapes", "data_root": str(tmp_path / "shapes"), "width": 0.25, "size": (32, 32)}
    run = train_classifier({**options, "epochs": 1, "workers": 0, "output": str(tmp_path / "run")})
    assert main(["export", str(run), "--output", str(tmp_path / "out"), "--compare", "7"]) == 0
    assert "plain: answers to 7 images agree" in capsys.readouterr().out
    picture = str(next((tmp_path / "shapes").rglob("*.jpg")))
    report = tmp_path / "guesses.json"
    command = ["classify", str(tmp_path / "out"), picture, str(tmp_path / "none.jpg"), "--top", "2"]
    assert main([*command, "--json", str(report)]) == 1
    shown = capsys.readouterr()
    assert "none.jpg" in shown.err
    assert "1 of 2 images could not be read" in shown.err
    (answer,) = json.loads(report.read_text())["images"]
    assert answer["image"] == picture
    assert shown.out.startswith(f"{picture}: {answer['guesses'][0]['class']} ")
    assert len(answer["guesses"]) == 2
    assert main(["classify", str(run), picture]) == 0
    assert main(["classify", str(run), picture, "--top", "0"]) == 2
    shutil.rmtree(tmp_path / "shapes")
    capsys.readouterr()
    assert main(["export", str(run), "--output", str(tmp_path / "again")]) == 2
    assert "--images" in capsys.readouterr().err
    make = make_image(3)
    assert [g.probability for g in Classifier.load(run)(make)] == pytest.approx(
        [g.probability for g in Classifier.load(tmp_path / "out")(make)], abs=1e-4
    )
