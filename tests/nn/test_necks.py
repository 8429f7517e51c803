"""Necks between the feature maps of a backbone and the predictors."""

from __future__ import annotations

from typing import Any, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import fill

from mnssd import zoo
from mnssd.compress.cost import count_block
from mnssd.nn import SSD, MobileNetV2
from mnssd.nn.backbones import Tap
from mnssd.nn.head_layouts import LAYOUTS, HeadLayout
from mnssd.nn.necks import PyramidNeck


def filled_neck(maps: List[Any]) -> PyramidNeck:
    neck = PyramidNeck([m.shape[1] for m in maps], 8)
    neck.initialize()
    neck(*maps)
    fill(neck)
    return neck


def feature_maps(sides: Tuple[Tuple[int, int], ...]) -> List[Any]:
    generator = np.random.default_rng(3)
    return [mx.nd.array(generator.normal(size=(2, 4 + 3 * index, *side))) for index, side in enumerate(sides)]


@pytest.mark.parametrize(
    "sides", [((12, 8), (6, 4), (3, 2)), ((13, 9), (7, 5), (4, 3)), ((5, 1), (3, 1)), ((1, 1),)]
)
def test_sums_of_the_pyramid(sides: Tuple[Tuple[int, int], ...]) -> None:
    """Against sums computed position by position from the outputs of the 1x1 convolutions."""
    maps = feature_maps(sides)
    neck = filled_neck(maps)
    sums = [lateral(x).asnumpy() for lateral, x in zip(neck.laterals, maps)]
    for index in reversed(range(len(sums) - 1)):
        _, _, rows, columns = sums[index].shape
        for row in range(rows):
            for column in range(columns):
                sums[index][:, :, row, column] += sums[index + 1][:, :, row // 2, column // 2]
    for found, output, total in zip(neck(*maps), neck.outputs, sums):
        assert found.shape == (2, 8, *total.shape[2:])
        np.testing.assert_allclose(
            found.asnumpy(), output(mx.nd.array(total)).asnumpy(), rtol=1e-4, atol=1e-4
        )


def test_a_finer_output_depends_on_coarser_maps_only_through_the_sum() -> None:
    maps = feature_maps(((12, 8), (6, 4), (3, 2)))
    neck = filled_neck(maps)
    before = [output.asnumpy() for output in neck(*maps)]
    maps[0] = maps[0] + 1
    after = [output.asnumpy() for output in neck(*maps)]
    assert [np.array_equal(a, b) for a, b in zip(before, after)] == [False, True, True]
    maps[2] = maps[2] + 1
    assert not any(np.array_equal(a, b.asnumpy()) for a, b in zip(after, neck(*maps)))


def test_maps_and_cost_at_300_pixels() -> None:
    """A map of stride 8; less cost than the plain head's 1,083 million multiply-adds."""
    net = zoo.get_model("ssdfpn_300_mobilenet_v2")
    assert count_block(net.heads, (1, 3, 300, 300)).multiply_adds == pytest.approx(737e6, rel=0.001)
    assert net.map_sizes() == [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (2, 2)]
    assert net.sizes == pytest.approx([30, 60, 105, 150, 210, 270, 300])
    assert len(net.anchors) == 38 * 38 * 5 + 6 * (19 * 19 + 10 * 10 + 5 * 5 + 3 * 3 + 2 * 2)
    assert net.anchors[:, 2:].min() == 15


def test_layout_survives_yaml() -> None:
    layout = LAYOUTS["ssdfpn"]
    assert HeadLayout.from_dict(layout.as_dict()) == layout


@pytest.mark.parametrize("change", [{"neck": -1}, {"neck": 10**6}, {"strides": (16, 32)}, {"strides": ()}])
def test_damaged_layouts_are_refused(change: Any) -> None:
    with pytest.raises(ValueError, match="."):
        HeadLayout.from_dict({**LAYOUTS["ssdfpn"].as_dict(), **change})


def test_a_backbone_without_the_stride_is_refused() -> None:
    taps = (Tap("features.16.out.2", 16), Tap("features.22", 32))
    with pytest.raises(ValueError, match="8, 16, 32.*16, 32"):
        SSD(MobileNetV2(0.25, 1), ["a"], (96, 96), "ssdfpn", taps)
    SSD(MobileNetV2(0.25, 1), ["a"], (96, 96), "ssdlite", taps)
