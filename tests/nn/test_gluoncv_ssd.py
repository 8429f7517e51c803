"""`SSD.as_gluoncv`: GluonCV's interface, in both modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List

import mxnet as mx
import numpy as np
import pytest
from gluoncv.loss import SSDMultiBoxLoss
from helpers.detectors import CLASSES, SIZE, make_net

from mnssd import zoo
from mnssd.nn.gluoncv_ssd import GluonCVSSD


@pytest.fixture(scope="module")
def net() -> Any:
    return make_net(network="mobilenet_v1")[0]


def images(count: int = 2, size: Any = SIZE) -> Any:
    return mx.nd.array(np.random.default_rng(0).normal(0, 1, (count, 3, size[1], size[0])))


def values(outputs: Any) -> List[np.ndarray]:
    return [part.asnumpy() for part in outputs]


def same(actual: Any, expected: Any) -> None:
    for a, b in zip(values(actual), values(expected)):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("hybrid", [False, True])
def test_answers_in_both_modes_in_turn(net: Any, hybrid: bool) -> None:
    block, x = net.as_gluoncv(), images()
    block.hybridize(hybrid, **({"static_alloc": True, "static_shape": True} if hybrid else {}))
    detected = values(block(x))
    assert [part.shape for part in detected] == [(2, 100, 1), (2, 100, 1), (2, 100, 4)]
    for scope in (mx.autograd.train_mode, mx.autograd.record):
        with scope():
            cls_preds, box_preds, anchors = block(x)
        assert cls_preds.shape == (2, len(net.anchors), len(CLASSES) + 1)
        assert box_preds.shape == (2, len(net.anchors), 4)
        np.testing.assert_array_equal(anchors.asnumpy()[0], net.anchors)
    # Batch statistics are used, but not changed, by a forward pass.
    for before, after in zip(detected, values(block(x))):
        np.testing.assert_array_equal(before, after)
    net.set_nms(0.45, 400, 100)
    for ours, theirs in zip(values(net(x)), detected):
        np.testing.assert_array_equal(ours, theirs)


def test_names_of_gluoncv(net: Any) -> None:
    block = net.as_gluoncv()
    assert list(block.classes) == list(CLASSES)
    assert block.num_classes == len(CLASSES)
    assert set(net.heads.collect_params()) < set(block.collect_params())
    assert isinstance(block, mx.gluon.HybridBlock)


@pytest.mark.parametrize(("post_nms", "rows"), [(7, 7), (100, 100), (-1, 3)])
def test_post_nms(net: Any, post_nms: int, rows: int) -> None:
    block = net.as_gluoncv()
    block.set_nms(post_nms=post_nms)
    expected = rows if rows > 3 else len(CLASSES) * len(net.anchors)
    assert block(images(1))[0].shape == (1, expected, 1)


@pytest.mark.parametrize("nms_thresh", [-1, 0, 1, 2])
def test_without_suppression_all_boxes(net: Any, nms_thresh: float) -> None:
    block, x = net.as_gluoncv(), images(1)
    block.set_nms(nms_thresh)
    ids, scores, boxes = values(block(x))
    assert boxes.shape == (1, len(CLASSES) * len(net.anchors), 4)
    kept = scores[..., 0] > 0
    assert 0 < kept.sum() < kept.size
    assert (ids[..., 0][~kept] == -1).all()
    cls_preds = net.heads(x)[0].asnumpy().astype(np.float64)
    chances = np.exp(cls_preds) / np.exp(cls_preds).sum(-1, keepdims=True)
    expected = chances[0, :, 1:].T.reshape(-1)
    np.testing.assert_allclose(scores[0, :, 0], np.where(expected > 0.01, expected, 0), atol=1e-5)


@pytest.mark.parametrize("size", [(96, 96), (160, 130)])
def test_other_input_sizes(net: Any, size: Any) -> None:
    """Anchors as large as at the network's size, and centers spread over the image."""
    block, x = net.as_gluoncv(), images(1, size)
    boxes = values(block(x))[2]
    assert boxes.shape[1:] == (100, 4)
    with mx.autograd.train_mode():
        cls_preds, _, anchors = block(x)
    assert anchors.shape == (1, cls_preds.shape[1], 4)
    np.testing.assert_array_equal(np.unique(anchors.asnumpy()[0, :5, 2:]), np.unique(net.anchors[:5, 2:]))
    assert np.abs(anchors.asnumpy()[0, :, 0].max() - size[0]) < 16
    assert np.isfinite(boxes).all()


def test_training_step_changes_the_network() -> None:
    net, _ = make_net(network="mobilenet_v1")
    block = net.as_gluoncv()
    trainer = mx.gluon.Trainer(block.collect_params(), "sgd", {"learning_rate": 0.1})
    before, loss_of = net.heads.box_predictors[0].weight.data().asnumpy(), SSDMultiBoxLoss()
    with mx.autograd.record():
        cls_preds, box_preds, _ = block(images())
        classes = mx.nd.ones(cls_preds.shape[:2])
        total, _, _ = loss_of([cls_preds], [box_preds], [classes], [mx.nd.ones_like(box_preds)])
        mx.autograd.backward(total)
    trainer.step(1)
    assert (net.heads.box_predictors[0].weight.data().asnumpy() != before).any()


def test_weights_are_those_of_the_heads(net: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "weights.params")
    net.as_gluoncv().save_parameters(path)
    other = make_net(seed=5, network="mobilenet_v1")[0].as_gluoncv()
    x = images(1)
    assert (other(x)[1].asnumpy() != net.as_gluoncv()(x)[1].asnumpy()).any()
    other.load_parameters(path)
    same(other(x), net.as_gluoncv()(x))
    net.as_gluoncv().save_params(path)
    third = zoo.get_model("ssd_128x96_mobilenet_v1_0.25", classes=CLASSES, weights=path).as_gluoncv()
    same(third(x), net.as_gluoncv()(x))


def test_export_is_the_detector(net: Any, tmp_path: Path) -> None:
    block, x = net.as_gluoncv(), images(1)
    with mx.autograd.record():
        block(x)  # the mode of the last call does not matter
    block.export(str(tmp_path / "net"), 3)
    files = [str(tmp_path / name) for name in ("net-symbol.json", "net-0003.params")]
    same(mx.gluon.SymbolBlock.imports(files[0], ["data"], files[1])(x), block(x))


def test_inside_another_hybrid_block(net: Any) -> None:
    outer = mx.gluon.nn.HybridSequential()
    outer.add(net.as_gluoncv())
    outer.hybridize()
    same(outer(images(1)), net.as_gluoncv()(images(1)))


@pytest.mark.parametrize("reuse", [["cow", "emu"], {1: 2}])
def test_reset_class(reuse: Any) -> None:
    block = make_net(network="mobilenet_v1")[0].as_gluoncv()
    old = block.net.heads.class_predictors[0].weight.data().asnumpy().reshape(5, 4, -1)
    if reuse == ["cow", "emu"]:
        with pytest.warns(UserWarning):  # noqa: PT030
            block.reset_class(["emu", "cow"], reuse_weights=reuse)
    else:
        block.reset_class(["emu", "cow"], reuse_weights=reuse)
    new = block.net.heads.class_predictors[0].weight.data().asnumpy().reshape(5, 3, -1)
    assert block.num_classes == 2
    assert (new[:, 2] == old[:, 3]).all()
    assert block(images(1))[0].shape == (1, 100, 1)


def test_initial_weights_survive_the_scripts_initialize() -> None:
    """GluonCV's train_ssd.py initializes again; Gluon would replace what waits for the first batch."""
    mx.random.seed(1)
    block = zoo.get_model("ssd_96_mobilenet_v1_0.25", classes=["a"]).as_gluoncv()
    weight = block.net.heads.backbone.features[3].weight
    before = weight.data().asnumpy()
    assert 0.3 < before.std() < 0.7  # depthwise 3x3: sqrt(2 / 9)
    with pytest.warns(UserWarning):  # noqa: PT030
        block.initialize()
    np.testing.assert_array_equal(weight.data().asnumpy(), before)


def test_is_made_from_the_network(net: Any) -> None:
    assert isinstance(net.as_gluoncv(), GluonCVSSD)
    assert net.as_gluoncv().net is net


def test_sizes_ratios_and_steps_of_the_paper(net: Any) -> None:
    side = np.sqrt(SIZE[0] * SIZE[1])
    np.testing.assert_allclose(net.sizes, np.array([0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1]) * side)
    assert [len(ratios) for ratios in net.ratios] == [3, 5, 5, 5, 5, 5]
    assert net.steps[0] == 16
    assert net.steps[-1] == (128, 96)
