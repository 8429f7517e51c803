"""The input of imported networks, and layouts of heads that are stored with them."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import mxnet as mx
import numpy as np
import pytest

from mnssd import zoo
from mnssd.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mnssd.nn.backbones.mobilenet_v1 import MobileNetV1
from mnssd.nn.head_layouts import LAYOUTS, AnchorLayout, HeadLayout
from mnssd.nn.input_layer import InputLayer, input_layer


def same_convolution(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """3x3 with stride 2 and TensorFlow's SAME padding, written with loops."""
    rows, columns = x.shape[2:]
    result = np.zeros((len(x), len(weight), -(-rows // 2), -(-columns // 2)))
    top, left = (max(2 * (-(-side // 2) - 1) + 3 - side, 0) // 2 for side in (rows, columns))
    for i, j, a, b in np.ndindex(*result.shape[2:], 3, 3):
        y, z = 2 * i + a - top, 2 * j + b - left
        if 0 <= y < rows and 0 <= z < columns:
            result[:, :, i, j] += x[:, :, y, z] @ weight[:, :, a, b].T
    return result


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (9, 6), (6, 9), (1, 2)])
def test_same_padding_equals_symmetric_padding_of_the_turned_image(size: Tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 3, *size)), rng.normal(size=(4, 3, 3, 3))
    turned = InputLayer(True, IMAGENET_MEAN, IMAGENET_STD)(mx.nd.array(x))
    flipped = mx.nd.array(weight[:, :, ::-1, ::-1])
    y = mx.nd.Convolution(
        turned, flipped, no_bias=True, kernel=(3, 3), stride=(2, 2), pad=(1, 1), num_filter=4
    )
    np.testing.assert_allclose(y.asnumpy()[:, :, ::-1, ::-1], same_convolution(x, weight), atol=1e-4)


def test_pixels_are_normalized_as_in_training() -> None:
    layer = InputLayer(False, (0.5, 0.4, 0.3), (0.2, 0.1, 0.5))
    layer.initialize()
    pixels = np.random.default_rng(0).uniform(size=(2, 4, 5, 3))
    x = ((pixels - IMAGENET_MEAN) / IMAGENET_STD).transpose(0, 3, 1, 2)
    expected = ((pixels - (0.5, 0.4, 0.3)) / (0.2, 0.1, 0.5)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(layer(mx.nd.array(x)).asnumpy(), expected, atol=1e-5)


def test_usual_networks_have_no_such_layer() -> None:
    assert input_layer(False, IMAGENET_MEAN, IMAGENET_STD) is None
    assert MobileNetV1(0.25, 3).input is None
    assert MobileNetV1(0.25, 3, rotated=True).input is not None


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5,) * 3), ((0.5,) * 3, (0.5, 0, 0.5))])
def test_other_numbers_are_refused(mean: Tuple[float, ...], std: Tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="pixel_std"):
        InputLayer(False, mean, std)


SHAPES = (((0.1, 0.1), (0.3, 0.15)), *(((0.3, 0.3),),) * 5)
LAYOUT = HeadLayout(
    ((16, 32),) * 4, AnchorLayout((), (), generator="explicit", shapes=SHAPES), scores="sigmoid", kernel=1,
    predictors=("separable", *("plain",) * 5), nms_iou=0.6,
)  # fmt: skip


def sigmoid_detector(**variant: Any) -> zoo.DetectorSpec:
    return zoo.DetectorSpec(("a", "b"), "mobilenet_v1", 0.25, (96, 96), layout=LAYOUT, variant=variant)


def test_layout_is_stored_with_the_structure() -> None:
    spec = sigmoid_detector(rotated=True, pixel_mean=[0.5] * 3, pixel_std=[0.5] * 3)
    assert zoo.DetectorSpec.from_dict(spec.as_dict()) == spec
    assert all(HeadLayout.from_dict(layout.as_dict()) == layout for layout in LAYOUTS.values())
    assert "layout" not in zoo.DetectorSpec(("a",)).as_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"scores": "tanh"}, {"kernel": 5}, {"convolution": "odd"}, {"nms_iou": 0}, {"extras": [[0, 8]] * 4},
        {"extras": [[8, 8]] * 3}, {"predictors": ["plain"]}, {"anchors": 3}, {"unknown": 1},
    ],
)  # fmt: skip
def test_damaged_layouts_are_refused(change: Dict[str, Any]) -> None:
    values = sigmoid_detector().as_dict()
    values["layout"] = {**values["layout"], **change}
    with pytest.raises((ValueError, TypeError)):
        zoo.DetectorSpec.from_dict(values)


def test_anchors_follow_the_turned_maps() -> None:
    plain, turned = (zoo.build_detector(sigmoid_detector(rotated=r)).anchors for r in (False, True))
    first = plain[: 6 * 6 * 2].reshape(6, 6, 2, 4)
    np.testing.assert_array_equal(turned[: 6 * 6 * 2].reshape(6, 6, 2, 4), first[::-1, ::-1])
    np.testing.assert_allclose(first[0, 1], [[24, 8, 9.6, 9.6], [24, 8, 28.8, 14.4]], atol=1e-4)
    assert len(plain) == 6 * 6 * 2 + 9 + 4 + 1 + 1 + 1


def test_scores_are_sigmoids() -> None:
    net = zoo.build_detector(sigmoid_detector())
    zoo.initialize(net)
    x = mx.nd.random.uniform(shape=(1, 3, 96, 96))
    net(x)
    for predictor in net.heads.class_convolutions():
        predictor.bias.set_data(mx.nd.random.normal(shape=predictor.bias.shape))
    ids, scores, _ = (output.asnumpy()[0, :, 0] for output in net(x))
    logits = net.heads(x)[0].asnumpy()[0, :, 1:]
    assert scores[0] == pytest.approx(1 / (1 + np.exp(-logits.max())), abs=1e-6)
    assert ids[0] == logits.max(axis=0).argmax()
