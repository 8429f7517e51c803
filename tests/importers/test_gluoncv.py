"""Parameter files of GluonCV's SSD networks with MobileNet, which GluonCV makes and runs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import mxnet as mx
import numpy as np
import pytest
from gluoncv.data import COCODetection, VOCDetection
from gluoncv.model_zoo import get_model
from helpers.imports import outcome

import mnssd
from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.image import to_network_input
from mnssd.errors import ImportedFileError
from mnssd.importers.families import family_of
from mnssd.importers.gluoncv_graph import read_network
from mnssd.weights.params import read_params

SMALL = "ssd_300_mobilenet0.25_voc"


def make(name: str, path: Path, **options: Any) -> Any:
    """A network of GluonCV with random weights, saved."""
    net = get_model(name, pretrained_base=False, **options)
    net.initialize()
    net(mx.nd.zeros((1, 3, 96, 96)))
    rng = np.random.default_rng(0)
    for key, parameter in net.collect_params().items():
        if key.endswith(("gamma", "var", "mean", "beta")):
            low = -0.3 if key.endswith(("mean", "beta")) else 0.6
            parameter.set_data(mx.nd.array(rng.uniform(low, low + 0.6, parameter.shape)))
        elif key.endswith("weight"):
            scale = 0.3 if "predictor" in key else 2
            value = rng.normal(0, (scale / np.prod(parameter.shape[1:])) ** 0.5, parameter.shape)
            parameter.set_data(mx.nd.array(value))
    net.save_parameters(str(path))
    return net


def detections(net: Any, image: np.ndarray) -> Tuple[np.ndarray, ...]:
    x = mx.nd.array(image / 255.0 - [0.485, 0.456, 0.406]) / mx.nd.array([0.229, 0.224, 0.225])
    return tuple(part.asnumpy()[0] for part in net(x.transpose((2, 0, 1)).expand_dims(0)))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Any, Path]:
    path = tmp_path_factory.mktemp("gluoncv") / "small.params"
    return make(SMALL, path), path


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        (SMALL, {}, 300),
        pytest.param("ssd_512_mobilenet1.0_custom", {"classes": ["a", "b"]}, 512, marks=pytest.mark.slow),
        pytest.param("ssd_300_mobilenet1.0_lite_coco", {}, 300, marks=pytest.mark.slow),
    ],
)
def test_detector_answers_as_gluoncv(
    name: str, options: Dict[str, Any], size: int, small: Tuple[Any, Path], tmp_path: Path
) -> None:
    path = small[1] if name == SMALL else tmp_path / "net.params"
    net = small[0] if name == SMALL else make(name, path, **options)
    run = mnssd.import_model(path, output=tmp_path / "run")
    own = zoo.load_detector(str(run.path))
    assert own.size == (size, size)
    known = {20: VOCDetection.CLASSES, 80: COCODetection.CLASSES}
    assert own.classes == tuple(known.get(len(net.classes), ("class 1", "class 2")))
    image = np.random.default_rng(1).integers(0, 256, (size, size, 3), dtype=np.uint8)
    net.set_nms(0.45, 400, 100)
    ids, scores, boxes = detections(net, image)
    own_ids, own_scores, own_boxes = (
        part.asnumpy()[0] for part in own(mx.nd.array(to_network_input([image])))
    )
    count = int((scores > 0.02).sum())
    assert count > 10
    np.testing.assert_allclose(own_scores[:count], scores[:count], atol=1e-4)
    np.testing.assert_allclose(own_boxes[:5], boxes[:5], atol=0.05)
    np.testing.assert_array_equal(own_ids[:5], ids[:5])


def test_engine_is_gluoncv(small: Tuple[Any, Path]) -> None:
    net, path = small
    family = family_of(str(path))
    image = np.random.default_rng(2).integers(0, 256, (1, 300, 300, 3), dtype=np.uint8)
    outputs = family.run_engine(str(path), family.read(str(path)), image)
    assert outputs is not None
    x = mx.nd.array((image / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose((0, 3, 1, 2))
    first = net.class_predictors[0](net.features(x)[0]).transpose((0, 2, 3, 1)).reshape((-1, 21)).asnumpy()
    np.testing.assert_allclose(outputs.logits[0, : len(first)], first, atol=1e-5)


Arrays = Dict[str, np.ndarray]

CHANGES: Dict[str, Callable[[Arrays], Arrays]] = {
    "missing convolution": lambda a: {k: v for k, v in a.items() if "conv5_weight" not in k},
    "missing norm": lambda a: {k: v for k, v in a.items() if "batchnorm7_running_mean" not in k},
    "missing predictor": lambda a: {k: v for k, v in a.items() if "class_predictors.5" not in k},
    "one more": lambda a: {**a, "other.weight": np.ones(3, np.float32)},
    "not finite": lambda a: {k: v * np.nan if "conv5_weight" in k else v for k, v in a.items()},
    "negative variance": lambda a: {k: -v if k.endswith("var") else v for k, v in a.items()},
    "anchors elsewhere": lambda a: {k: v + 3 if "anchors" in k else v for k, v in a.items()},
    "a classifier": lambda a: {k: v for k, v in a.items() if "conv" in k and "expand" not in k},
    "nothing": lambda a: {},
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_arrays_are_refused_by_name(change: str, small: Tuple[Any, Path]) -> None:
    arrays = read_params(str(small[1]))
    changed = CHANGES[change](arrays)
    assert changed.keys() != arrays.keys() or any((changed[k] != v).any() for k, v in arrays.items())
    with pytest.raises(ImportedFileError, match=r"^net\.params: "):
        read_network("net.params", changed)


def test_damaged_files_are_refused_by_name(small: Tuple[Any, Path], tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "net.params"
    path.write_bytes(small[1].read_bytes()[:1000])
    assert main(["import", str(path), "--output", str(tmp_path / "run")]) == 1
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def fuzz(data: bytes, path: Path, count: int) -> None:
    rng, outcomes = random.Random(0), set()
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 3, 20))):
            at = rng.choice((rng.randrange(64), rng.randrange(len(changed)), -rng.randrange(1, 9000)))
            changed[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        if rng.random() < 0.1:
            del changed[rng.randrange(len(changed)) :]
        path.write_bytes(changed)
        outcomes.add(outcome(path))
    assert outcomes <= {None, True}
    assert True in outcomes


def test_random_damage_is_refused_or_read(small: Tuple[Any, Path], tmp_path: Path) -> None:
    fuzz(small[1].read_bytes(), tmp_path / "net.params", 20)


@pytest.mark.slow
def test_much_random_damage_is_refused_or_read(small: Tuple[Any, Path], tmp_path: Path) -> None:
    fuzz(small[1].read_bytes(), tmp_path / "net.params", 2000)
