"""`SSD.reset_class`: other classes on the same network."""

from __future__ import annotations

from typing import Any, Dict

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import images
from helpers.ssd import CLASSES, detector, numbers

from mnssd import zoo
from mnssd.nn import SSD, MobileNetV1
from mnssd.nn.heads import LitePredictor

NEW = ("horse", "dog", "sheep", "kitten")


@pytest.mark.parametrize(
    ("head", "reuse", "columns"),
    [
        ("ssd", None, {}),
        ("ssdlite", [], {}),
        ("ssdlite", ["dog"], {2: 2}),
        ("ssd", {"kitten": "cat", "dog": "dog"}, {4: 1, 2: 2}),
        ("ssdlite", {3: 0, 0: "cow"}, {4: 1, 1: 3}),
    ],
    ids=["none", "empty", "names", "by name", "by index"],
)
def test_reset_class_keeps_weights(head: str, reuse: Any, columns: Dict[int, int]) -> None:
    """`columns`: old column of each kept column of class scores; the background, 0, is always kept."""
    net = detector("v1", head)
    net.hybridize()
    x = images(2, 96, 96)
    cls_before, box_before = numbers(net.heads(x))
    net(x)
    net.reset_class(NEW, reuse)
    cls_after, box_after = numbers(net.heads(x))
    assert net.classes == NEW
    assert cls_after.shape == (2, len(net.anchors), 5)
    np.testing.assert_allclose(box_after, box_before, rtol=1e-4, atol=1e-4)
    kept = {0: 0, **columns}
    for now, was in kept.items():
        np.testing.assert_allclose(cls_after[..., now], cls_before[..., was], rtol=1e-4, atol=1e-4)
    for now in set(range(5)) - set(kept):  # initialized
        assert min(np.abs(cls_after[..., now] - cls_before[..., was]).max() for was in range(4)) > 0.01
    ids = net(x)[0].asnumpy()
    assert ids.max() <= 3
    # no parameter without an array, no old parameter
    assert all(p._data is not None for p in net.collect_params().values())
    fresh = SSD(MobileNetV1(0.25, 1), NEW, (96, 96), head)
    assert set(fresh._collect_params_with_prefix()) == set(net._collect_params_with_prefix())


def test_reset_class_twice_then_train() -> None:
    net = detector("v1")
    x = images(1, 96, 96)
    before = net.heads(x)[0].asnumpy()
    net.reset_class(NEW, ["dog"])
    net.reset_class(["dog"], ["dog"])
    np.testing.assert_allclose(net.heads(x)[0].asnumpy(), before[..., [0, 2]], rtol=1e-4, atol=1e-4)
    with mx.autograd.record():
        total = net.heads(x)[0].sum()
    total.backward()
    assert all(np.abs(p.weight.grad().asnumpy()).max() > 0 for p in net.heads.class_predictors)


@pytest.mark.parametrize(("head", "initialized"), [("ssd", True), ("ssdlite", True), ("ssdlite", False)])
def test_reset_class_before_the_first_batch(head: str, initialized: bool) -> None:
    net = SSD(MobileNetV1(0.25, 1), CLASSES, (96, 96), head)
    if initialized:
        zoo.initialize(net)
    net.reset_class(NEW, ["dog"])
    if not initialized:
        zoo.initialize(net)
    assert net(images(1, 96, 96))[0].shape == (1, 200, 1)
    final = net.heads.class_predictors[0]
    final = final.project if isinstance(final, LitePredictor) else final
    assert final.weight.shape[0] == 5 * 5  # anchors at a position, classes and background


@pytest.mark.parametrize(
    ("classes", "reuse", "named"),
    [
        (NEW, ["cat"], "'cat'.*horse, dog, sheep, kitten"),
        (NEW, ["sheep"], "'sheep'.*cat, dog, cow"),
        (NEW, {"dog": "horse"}, "'horse'.*cat, dog, cow"),
        (NEW, {4: 0}, "4.*horse"),
        (NEW, {0: -1}, "-1.*cat"),
        (["a", "a"], None, r"\['a', 'a'\]"),
        ([], None, r"\[\]"),
        ("dog", None, "'dog'"),
    ],
)
def test_reset_class_with_invalid_classes(classes: Any, reuse: Any, named: str) -> None:
    net = detector("v1")
    x = images(1, 96, 96)
    before = numbers(net(x))
    with pytest.raises(ValueError, match=named):
        net.reset_class(classes, reuse)
    assert net.classes == CLASSES
    for a, b in zip(before, numbers(net(x))):
        np.testing.assert_array_equal(a, b)
