"""Parameter files of GluonCV's SSD networks with MobileNet: equal outputs, classes by name, other anchors."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import mxnet as mx
import numpy as np
import pytest
from gluoncv.data import COCODetection, VOCDetection
from gluoncv.model_zoo import get_model, get_model_list
from gluoncv.model_zoo.ssd import get_ssd
from helpers.detectors import make_image

from mnssd import zoo
from mnssd.errors import MnssdError
from mnssd.nn.gluoncv_models import GLUONCV_MODELS
from mnssd.weights import load_backbone

SMALL = "ssd_300_mobilenet0.25"


def randomize(net: Any, classes: int) -> None:
    """Weights and statistics that spread the scores over 0 to 1."""
    net.initialize()
    net(mx.nd.zeros((1, 3, 96, 96)))
    rng = np.random.default_rng(0)
    for name, parameter in net.collect_params().items():
        shape = parameter.shape
        if name.endswith("mean"):
            value = rng.normal(0, 0.1, shape)
        elif name.endswith(("var", "gamma")):
            value = rng.uniform(0.5, 1.5, shape)
        elif "predictor" in name and name.endswith("weight"):
            value = rng.normal(0, (0.3 / np.prod(shape[1:])) ** 0.5, shape)
        elif name.endswith("weight"):
            value = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        elif name.endswith("bias"):
            value = rng.normal(0, 0.5, shape)
        else:
            continue
        parameter.set_data(mx.nd.array(value))


def theirs(name: str, **options: Any) -> Any:
    net = get_model(name, pretrained_base=False, **options)
    randomize(net, len(net.classes))
    return net


def photograph(size: Tuple[int, int] = (128, 96)) -> Any:
    image = mx.nd.array(make_image(1, *size), dtype="uint8")
    image = mx.nd.image.normalize(mx.nd.image.to_tensor(image), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return image.expand_dims(0)


def assert_same_outputs(ours: Any, net: Any, x: Any) -> None:
    for nms in ({}, {"nms_thresh": -1.0}):
        ours.set_nms(**nms)
        net.set_nms(**nms)
        expected, actual = net(x), ours(x)
        assert (expected[1].asnumpy() > 0.02).sum() > 20
        for a, b in zip(actual, expected):
            assert a.shape == b.shape
            np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), atol=1e-4)
    with mx.autograd.train_mode():
        for a, b in zip(ours(x), net(x)):
            np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), atol=1e-4)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tuple[Any, str]:
    net = theirs(f"{SMALL}_voc")
    path = str(tmp_path_factory.mktemp("gluoncv") / "small.params")
    net.save_parameters(path)
    return net, path


def test_all_mobilenets_of_gluoncv_are_known() -> None:
    names = {n for n in get_model_list() if n.startswith("ssd_") and "mobilenet" in n}
    assert names == {*GLUONCV_MODELS, "ssd_512_mobilenet1.0_voc_int8"}
    assert set(GLUONCV_MODELS) <= set(zoo.list_models())


@pytest.mark.parametrize(
    "name",
    ["ssd_512_mobilenet1.0_custom", pytest.param("ssd_300_mobilenet1.0_lite_coco", marks=pytest.mark.slow)],
)
def test_same_outputs(name: str, tmp_path: Path) -> None:
    options: Dict[str, Any] = {"classes": ["a", "b"]} if name.endswith("custom") else {}
    net = theirs(name, **options)
    path = str(tmp_path / "net.params")
    net.save_parameters(path)
    ours = zoo.get_model(name, weights=path, **options)
    assert list(ours.classes) == list(net.classes)
    assert_same_outputs(ours.as_gluoncv(), net, photograph())


def test_same_outputs_at_the_size_of_the_network(small: Tuple[Any, str]) -> None:
    net, path = small
    ours = zoo.get_model(f"{SMALL}_voc", weights=path)
    assert ours.classes == VOCDetection.CLASSES
    assert_same_outputs(ours.as_gluoncv(), net, photograph((300, 300)))
    assert ours.steps == [8, 16, 32, 64, 100, 300]
    assert ours.sizes == [21, 45, 99, 153, 207, 261, 315]


@pytest.mark.parametrize("kind", ["export", "collect_params", "as_gluoncv"])
def test_other_ways_to_save_and_load(kind: str, small: Tuple[Any, str], tmp_path: Path) -> None:
    net, path = small
    if kind == "export":
        net.hybridize()
        net(photograph())
        net.export(str(tmp_path / "net"))
        path = str(tmp_path / "net-0000.params")
    elif kind == "collect_params":
        path = str(tmp_path / "net.params")
        net.collect_params().save(path)
    if kind == "as_gluoncv":
        ours = zoo.get_model(f"{SMALL}_voc").as_gluoncv()
        ours.load_parameters(path)
    else:
        ours = zoo.get_model(f"{SMALL}_voc", weights=path).as_gluoncv()
    net.hybridize(False)
    assert_same_outputs(ours, net, photograph())


def test_classes_are_matched_by_name(small: Tuple[Any, str]) -> None:
    net, path = small
    ours = zoo.get_model(f"{SMALL}_voc", classes=["dog", "cat", "person"], weights=path)
    x = photograph()
    expected = net.class_predictors[0](net.features(x)[0]).asnumpy().reshape(4, 21, -1)
    actual = ours.heads.class_predictors[0](ours.heads.feature_maps(x)[0]).asnumpy().reshape(4, 4, -1)
    columns = [0, *(1 + VOCDetection.CLASSES.index(name) for name in ours.classes)]
    np.testing.assert_allclose(actual, expected[:, columns], atol=1e-4)


def test_a_file_of_another_number_of_classes_is_not_matched(tmp_path: Path, caplog: Any) -> None:
    """Six classes have 42 outputs on maps with six anchors, which 20 + 1 divides."""
    net = theirs(f"{SMALL}_custom", classes=list("abcdef"))
    path = str(tmp_path / "six.params")
    net.save_parameters(path)
    with caplog.at_level(logging.WARNING, "mnssd"):
        ours = zoo.get_model(f"{SMALL}_voc", weights=path)
    assert caplog.records
    assert "class_predictors.0.weight" in caplog.text
    assert ours.heads.class_predictors[1].weight.shape[0] == 6 * 21


@pytest.mark.parametrize(
    ("sizes", "steps"),
    [
        ([30, 60, 110, 160, 210, 260, 310], [8, 16, 32, 64, 100, 300]),
        pytest.param([21, 45, 99, 153, 207, 261, 315], [16, 32, 64, 100, 150, 300], marks=pytest.mark.slow),
    ],
)
def test_other_anchors_are_noticed(
    sizes: List[float], steps: Sequence[int], tmp_path: Path, caplog: Any
) -> None:
    """A network of the same shapes that was trained with other anchors: its predictors would be wrong."""
    ratios = [[1, 2, 0.5]] + [[1, 2, 0.5, 3, 1.0 / 3]] * 3 + [[1, 2, 0.5]] * 2
    net = get_ssd(
        "mobilenet0.25", 300, ["relu22_fwd", "relu26_fwd"], [256, 256, 128, 128], sizes, ratios, list(steps),
        classes=["a"], dataset="", pretrained_base=False,
    )  # fmt: skip
    randomize(net, 1)
    path = str(tmp_path / "net.params")
    net.save_parameters(path)
    with caplog.at_level(logging.WARNING, "mnssd"):
        ours = zoo.get_model(f"{SMALL}_custom", classes=["a"], weights=path)
    assert "class_predictors.0.weight" in caplog.text
    weight = net.box_predictors[0].predictor.weight.data().asnumpy()
    ours(mx.nd.zeros((1, 3, 300, 300)))
    assert (ours.heads.box_predictors[0].weight.data().asnumpy() != weight).any()
    with pytest.raises(ValueError, match=r"net\.params"):
        zoo.get_model(f"{SMALL}_custom", classes=["a"]).as_gluoncv().load_parameters(path)


def test_backbone_for_a_head_of_ours(small: Tuple[Any, str]) -> None:
    net, path = small
    ours = zoo.get_model("ssd_96_mobilenet_v1_0.25", classes=["a"])
    zoo.initialize(ours)
    report = load_backbone(ours.heads, path, ["a"])
    assert any("gluoncv_300" in note for note in report.notes)
    assert not any("predictors" in name for name in report.loaded)
    maps = ours.heads.backbone(photograph())
    np.testing.assert_allclose(maps[1].asnumpy(), net.features(photograph())[1].asnumpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ssd_512_mobilenet1.0_custom", {}),
        ("ssd_512_resnet50_v1_voc", {}),
        ("ssd_512_mobilenet1.0_voc_int8", {}),
        ("ssd_300_mobilenet1.0_lite_voc", {}),
        ("ssd_512_mobilenet1.0_voc", {"classes": 20}),
    ],
)
def test_refused_names(name: str, options: Dict[str, Any]) -> None:
    with pytest.raises(MnssdError, match=name):
        zoo.get_model(name, **options)


def test_default_classes() -> None:
    assert GLUONCV_MODELS["ssd_300_mobilenet0.25_coco"].classes() == tuple(COCODetection.CLASSES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("anchor_generators.0.anchors", np.zeros(7, np.float32)),
        ("box_predictors.0.predictor.weight", np.zeros((3, 1), np.float32)),
        ("class_predictors.0.predictor.weight", np.zeros(1, np.float32)),
    ],
)
def test_arrays_of_odd_shapes(name: str, value: np.ndarray, small: Tuple[Any, str], tmp_path: Path) -> None:
    arrays = {**mx.nd.load(small[1]), name: mx.nd.array(value)}
    path = str(tmp_path / "odd.params")
    mx.nd.save(path, arrays)
    net = zoo.get_model(f"{SMALL}_voc")
    zoo.initialize(net)
    report = load_backbone(net.heads, path, net.classes, VOCDetection.CLASSES)
    assert report.missing or report.mismatched
