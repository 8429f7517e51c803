"""`Classifier` and `mnssd classify`: predictions of runs and exports equal those of the network."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any, List

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import make_classifier, make_image, make_net, write_images, write_run

from mnssd.cli.main import main
from mnssd.data.image import IMAGENET_MEAN, IMAGENET_STD, read_image
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import ExportError, ImageError
from mnssd.export.options import ExportOptions
from mnssd.export.write import export_network
from mnssd.inference.classifier import Classifier
from mnssd.inference.detector import Detector
from mnssd.tasks.run import train_classifier

CLASSES = ("cat", "dog", "cow", "hen")
SIZE = (128, 120)


def reference(net: Any, image: np.ndarray, part: float) -> np.ndarray:
    """Probabilities by a second implementation, for an image larger than the input in both directions."""
    import cv2

    height, width = image.shape[:2]
    left, top = round(width * (1 - part) / 2), round(height * (1 - part) / 2)
    small = cv2.resize(image[top : height - top, left : width - left], SIZE, interpolation=cv2.INTER_AREA)
    x = (small.astype(np.float64) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    logits = net(mx.nd.array(x.transpose(2, 0, 1)[None])).asnumpy()[0].astype(np.float64)
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> List[str]:
    return write_images(tmp_path_factory.mktemp("images"), 5, ".png")


@pytest.mark.parametrize(
    ("network", "part"), [pytest.param("mobilenet_v1", 1.0, marks=pytest.mark.slow), ("mobilenet_v2", 0.875)]
)
def test_plain_mxnet_and_classifier_predict_the_same(
    network: str, part: float, images: List[str], tmp_path: Path
) -> None:
    net, spec = make_classifier(network, part)
    exported = export_network(net, spec, tmp_path / "export", images)
    assert [exported.parity[engine].images for engine in ("plain", "fused")] == [5, 5]  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        symbol, params = (str(path) for path in exported.paths[:2])
        plain = mx.gluon.SymbolBlock.imports(symbol, ["data"], params)
    run = write_run(tmp_path / "run", net, spec)
    from_run, from_export = Classifier.load(run), Classifier.load(tmp_path / "export")
    for path in images:
        # Up to 280x190, they are not reduced while they are decoded for 128x120: `reference` does not do so.
        expected = reference(net, read_image(path), part)
        for classifier in (from_run, from_export):
            predictions = classifier(path, top=4)
            assert [p.label for p in predictions] == list(np.argsort(-expected))
            assert [p.name for p in predictions] == [CLASSES[p.label] for p in predictions]
            assert [p.probability for p in predictions] == pytest.approx(
                expected[np.argsort(-expected)], abs=1e-3
            )
    x = np.zeros((2, 3, SIZE[1], SIZE[0]), np.float32)
    expected = mx.nd.softmax(net(mx.nd.array(x))).asnumpy()
    np.testing.assert_allclose(plain(mx.nd.array(x)).asnumpy(), expected, atol=1e-5)
    assert "BatchNorm" not in exported.paths[0].read_text()


@pytest.mark.parametrize("pixels", [False, True])
def test_onnx_runtime_predicts_the_same(images: List[str], tmp_path: Path, pixels: bool) -> None:
    net, spec = make_classifier("mobilenet_v1" if pixels else "mobilenet_v2", 0.875)
    options = ExportOptions(("symbol", "onnx"), pixels=pixels)
    exported = export_network(net, spec, tmp_path / "cls", images, "cls", options)
    assert set(exported.parity) == {"plain", "fused", "onnx"}
    ours, theirs = (Classifier.load(tmp_path / "cls", engine=e) for e in ("mxnet", "onnxruntime"))
    for a, b in zip(ours(images, top=4), theirs(images, top=4)):
        assert [prediction.label for prediction in a] == [prediction.label for prediction in b]
        assert [p.probability for p in a] == pytest.approx([p.probability for p in b], abs=1e-4)


def test_paths_bytes_and_pixels_give_the_same_predictions(images: List[str], tmp_path: Path) -> None:
    net, spec = make_classifier("mobilenet_v2")
    classifier = Classifier.load(write_run(tmp_path / "run", net, spec))
    data, pixels = Path(images[1]).read_bytes(), read_image(images[1])
    first = classifier(images[1])
    assert len(first) == 4  # all classes
    for same in (classifier(Path(images[1])), classifier(data), classifier(pixels)):
        assert [p.name for p in same] == [p.name for p in first]
        assert [p.probability for p in same] == pytest.approx([p.probability for p in first], abs=1e-6)
    many = classifier([*images, data, pixels] * 6, top=1)
    assert [len(predictions) for predictions in many] == [1] * 42
    assert many[1][0].name == first[0].name
    with pytest.raises(ImageError, match="uint8"):
        classifier(pixels[..., :2])
    assert classifier([]) == []


def test_detectors_and_classifiers_are_not_confused(images: List[str], tmp_path: Path) -> None:
    net, spec = make_classifier("mobilenet_v2")
    export_network(net, spec, tmp_path / "cls", images)
    with pytest.raises(ExportError, match="mnssd classify"):
        Detector.load(tmp_path / "cls")
    detector, structure = make_net()
    run = write_run(tmp_path / "ssd-run", detector, structure)
    assert main(["export", str(run), "--output", str(tmp_path / "ssd"), "--images", *images]) == 0
    assert json.loads((tmp_path / "ssd" / "ssd-run.json").read_text())["task"] == "detection"
    with pytest.raises(ExportError, match="mnssd detect"):
        Classifier.load(tmp_path / "ssd")


@pytest.mark.parametrize("part", [None, "half", 0, 1.5, [0.5]])
def test_an_invalid_central_part_is_refused(part: Any, images: List[str], tmp_path: Path) -> None:
    net, spec = make_classifier("mobilenet_v2")
    export_network(net, spec, tmp_path, images[:1])
    path = tmp_path / "classifier.json"
    sidecar = json.loads(path.read_text())
    if part is None:
        del sidecar["input"]["central_part"]
    else:
        sidecar["input"]["central_part"] = part
    path.write_text(json.dumps(sidecar))
    with pytest.raises(ExportError, match=r"classifier\.json"):
        Classifier.load(tmp_path)


def test_train_export_and_classify(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_shapes(tmp_path / "shapes", train=8, val=6, size=(96, 96))
    options = {"dataset": "shapes", "data_root": str(tmp_path / "shapes"), "width": 0.25, "size": (32, 32)}
    run = train_classifier({**options, "epochs": 1, "workers": 0, "output": str(tmp_path / "run")})
    assert main(["export", str(run), "--output", str(tmp_path / "out"), "--parity-images", "7"]) == 0
    assert "plain: 7 images" in capsys.readouterr().out
    image = str(next((tmp_path / "shapes").rglob("*.jpg")))
    report = tmp_path / "predictions.json"
    command = ["classify", str(tmp_path / "out"), image, str(tmp_path / "none.jpg"), "--top", "2"]
    assert main([*command, "--json", str(report)]) == 1
    printed = capsys.readouterr()
    assert "none.jpg" in printed.err
    assert "1 of 2" in printed.err
    (entry,) = json.loads(report.read_text())["images"]
    assert entry["image"] == image
    assert printed.out.startswith(f"{image}: {entry['predictions'][0]['class']} ")
    assert len(entry["predictions"]) == 2
    assert main(["classify", str(run), image]) == 0
    assert main(["classify", str(run), image, "--top", "0"]) == 2
    shutil.rmtree(tmp_path / "shapes")
    capsys.readouterr()
    assert main(["export", str(run), "--output", str(tmp_path / "again")]) == 2
    assert "--images" in capsys.readouterr().err
    pixels = make_image(3)
    assert [p.probability for p in Classifier.load(run)(pixels)] == pytest.approx(
        [p.probability for p in Classifier.load(tmp_path / "out")(pixels)], abs=1e-4
    )
