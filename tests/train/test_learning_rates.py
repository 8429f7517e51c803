"""Learning rates of pretrained parameters and of predictors."""

from __future__ import annotations

import mxnet as mx
import pytest
from helpers.networks import images, values

from mnssd import zoo
from mnssd.train.optimizer import make_trainer
from mnssd.train.options import LoopOptions


def test_learning_rate_of_pretrained_parameters() -> None:
    net = zoo.get_model("ssd_96_mobilenet_v2_0.25", classes=["cat"])
    zoo.initialize(net)
    net(images(1, 96, 96))
    last = net.heads.last_convolutions()
    predictor = last[0].weight
    backbone = list(net.heads.backbone.collect_params().values())
    make_trainer(net.heads, LoopOptions(predictor_lr=4.0, pretrained_lr=0.25), last, [*backbone, predictor])
    multipliers = {id(p): p.lr_mult for p in net.heads.collect_params().values()}
    assert {multipliers[id(p)] for p in backbone} == {0.25}
    assert multipliers[id(predictor)] == 1.0
    assert multipliers[id(last[1].weight)] == 4.0
    assert multipliers[id(net.heads.extras[0][0].weight)] == 1.0


@pytest.mark.parametrize("head", ["ssd", "ssdlite"])
def test_learning_rate_of_predictors(head: str) -> None:
    net = zoo.get_model(f"{head}_96_mobilenet_v2_0.25", classes=["cat"])
    zoo.initialize(net)
    x = images(2, 96, 96)
    net(x)
    options = LoopOptions(lr=0.5, predictor_lr=0.0, momentum=0.0, wd=0.0)
    trainer = make_trainer(net.heads, options, net.heads.last_convolutions())
    names = net.heads._collect_params_with_prefix()
    before = values(net.heads)
    with mx.autograd.record():
        classes, boxes = net.heads(x)
        loss = (classes**2).sum() + (boxes**2).sum()
    loss.backward()
    trainer.step(1)
    after = values(net.heads)
    unchanged = {n for n, p in names.items() if (after[n] == before[n]).all() and p.grad_req != "null"}
    last = {
        n
        for n in unchanged
        if "predictors" in n and n.endswith(("weight", "bias")) and ".depthwise." not in n
    }
    assert len(last) == 24  # six maps, classes and boxes, weight and bias
    assert "extras.0.0.weight" not in unchanged
    if head == "ssdlite":
        assert "class_predictors.0.depthwise.0.weight" not in unchanged
