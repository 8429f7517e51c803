"""Training passes: outputs, gradients and statistics stay the same, and only matching patterns change."""

from __future__ import annotations

from typing import Any, Callable, Dict, Sequence, Tuple

import mxnet as mx
import pytest
from helpers.graphs import assert_same_block, bottlenecks, initialized, norm, sequential, stack
from helpers.networks import images
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from mnssd.graph import TRAINING_PASSES, Graph
from mnssd.graph.batchnorm_relu import fuse_batchnorm_relu, fuse_batchnorm_relu6
from mnssd.graph.channels import pad_channels, pad_outputs
from mnssd.nn import RELU6, LinearBottleneck, MobileNetV2
from mnssd.nn.layers import add_conv

PASSES = dict(TRAINING_PASSES)
pytestmark = pytest.mark.usefixtures("blocks_of_sixteen", "on_any_processor")


class Clip(HybridBlock):
    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.clip(x, self.low, self.high)


class ReadTwice(HybridBlock):
    """A BatchNorm whose output is read by the activation and by an addition."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.conv, self.norm, self.act = nn.Conv2D(24, 3), nn.BatchNorm(), RELU6()

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        normed = self.norm(self.conv(x))
        return self.act(normed) + normed


class Shared(HybridBlock):
    """A convolution, BatchNorm and activation used twice, as in a head shared by feature maps."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        with self.name_scope():
            self.stem, self.conv, self.norm, self.act = (
                nn.Conv2D(24, 1),
                nn.Conv2D(24, 1),
                nn.BatchNorm(),
                RELU6(),
            )
            self.last = nn.Conv2D(3, 1) if last else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.stem(x)
        for _ in range(2):
            x = self.act(self.norm(self.conv(x)))
        return self.last(x) if self.last else x


class Pieces(HybridBlock):
    """Reads channels by index, so none can be added."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.concat(
            F.slice_axis(x, axis=1, begin=0, end=3), F.slice_axis(x, axis=1, begin=-3, end=None), dim=1
        )


class Predictors(HybridBlock):
    """Two convolutions of one feature map, as in a detector."""

    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.classes, self.boxes = (nn.Conv2D(count, 3, padding=1, in_channels=3) for count in (21, 12))

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.concat(*(F.transpose(p(x), (0, 2, 3, 1)) for p in (self.classes, self.boxes)), dim=3)


# ---- single passes, and all passes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("factory", "counts"),
    [
        # convolutions with padded channels; joined; padded and sliced; ReLU6; ReLU
        (lambda: stack("relu6"), (4, 0, 1, 3, 0)),
        (lambda: stack("relu"), (4, 0, 1, 0, 3)),
        (lambda: stack("relu6", 16, 32, 48), (0, 0, 0, 3, 0)),
        (lambda: stack("relu", 16, 32, 48), (0, 0, 0, 0, 3)),
        (bottlenecks, (12, 0, 1, 7, 0)),
        (Predictors, (0, 1, 1, 0, 0)),
    ],
    ids=["relu6", "relu", "full blocks relu6", "full blocks relu", "bottlenecks", "predictors"],
)
def test_all_passes_keep_outputs_and_gradients(factory: Any, counts: Sequence[int]) -> None:
    fast = assert_same_block(factory, images(4, 32, 32))
    assert fast.rewritten == dict(zip(PASSES, counts))


@pytest.mark.parametrize("only", list(PASSES))
@pytest.mark.parametrize("act", ["relu6", "relu"])
def test_each_pass_keeps_outputs_and_gradients(only: str, act: str) -> None:
    # odd channel counts for padding, full blocks for fusion
    factory = (lambda: stack(act)) if only.startswith("pad") else (lambda: stack(act, 16, 32, 48))
    factory = Predictors if only == "join predictors" else factory
    fast = assert_same_block(factory, images(4, 32, 32), [(only, PASSES[only])])
    applies = (
        only.startswith(("pad", "join"))
        or only == {"relu6": "BatchNorm + ReLU6", "relu": "BatchNorm + ReLU"}[act]
    )
    assert (fast.rewritten[only] > 0) is applies


@pytest.mark.usefixtures("blocks_of_eight")
@pytest.mark.parametrize(
    ("factory", "counts"),
    [
        (lambda: stack("relu6"), (2, 0, 1, 3, 0)),
        (lambda: stack("relu"), (2, 0, 1, 0, 3)),
        (lambda: stack("relu6", 8, 24, 40), (0, 0, 0, 3, 0)),
        (bottlenecks, (8, 0, 1, 7, 0)),
    ],
    ids=["relu6", "relu", "full blocks", "bottlenecks"],
)
def test_all_passes_keep_outputs_and_gradients_with_blocks_of_eight(
    factory: Any, counts: Sequence[int]
) -> None:
    fast = assert_same_block(factory, images(4, 32, 32))
    assert fast.rewritten == dict(zip(PASSES, counts))


TAILS: Dict[str, Callable[[int], Any]] = {
    "depthwise": lambda c: nn.Conv2D(c, 3, 1, 1, groups=c, use_bias=False),
    "depthwise, BatchNorm": lambda c: layers(lambda net: add_conv(net, c, kernel=3, pad=1, groups=c)),
    "pointwise, BatchNorm": lambda c: layers(lambda net: add_conv(net, c)),
    "bottleneck": lambda c: LinearBottleneck(c, c, 3, 1),
}


def layers(fill_in: Callable[[Any], None]) -> HybridBlock:
    net = nn.HybridSequential()
    with net.name_scope():
        fill_in(net)
    return net


@pytest.mark.parametrize("blocks", ["blocks_of_sixteen", "blocks_of_eight"])
@pytest.mark.parametrize("channels", [8, 12, 20, 24])
@pytest.mark.parametrize("tail", list(TAILS))
def test_gradients_of_unpadded_outputs(
    channels: int, tail: str, blocks: str, request: pytest.FixtureRequest
) -> None:
    """Output channels cannot be padded, so tensors have plain and blocked layouts."""
    request.getfixturevalue(blocks)

    def factory() -> HybridBlock:
        head = layers(lambda net: add_conv(net, channels, kernel=3, stride=2, pad=1))
        return sequential(head, TAILS[tail](channels))

    assert_same_block(factory, images(4, 32, 32))


def fuse_both(graph: Graph) -> Tuple[int, int]:
    return fuse_batchnorm_relu6(graph), fuse_batchnorm_relu(graph)


def graph_of(factory: Callable[[], Any]) -> Graph:
    block = initialized(factory, images(1, 32, 32))
    return Graph(block(mx.sym.var("data")), {name: p.shape for name, p in block.collect_params().items()})


@pytest.mark.parametrize(
    ("name", "after", "counts"),
    [
        ("clip at 5", lambda: [norm(), Clip(0, 5)], (0, 0)),
        ("clip from -1", lambda: [norm(), Clip(-1, 6)], (0, 0)),
        ("another activation", lambda: [norm(), nn.Activation("softrelu")], (0, 0)),
        ("two readers", lambda: [ReadTwice()], (0, 0)),
        ("no BatchNorm", lambda: [RELU6(), nn.Conv2D(16, 1), nn.Activation("relu")], (0, 0)),
        ("pooling between", lambda: [norm(), nn.MaxPool2D(), RELU6()], (0, 0)),
        ("pooling before", lambda: [nn.MaxPool2D(), norm(), RELU6()], (0, 0)),
        ("an odd channel", lambda: [nn.Conv2D(17, 1), norm(), RELU6()], (0, 0)),
        ("an odd channel in", lambda: [nn.Conv2D(17, 1), nn.Conv2D(16, 1), norm(), RELU6()], (0, 0)),
        # the rewriting negates gamma, which the operator ignores if it is fixed
        ("gamma fixed, ReLU6", lambda: [norm(scale=False), RELU6()], (0, 0)),
        ("gamma fixed, ReLU", lambda: [norm(scale=False), nn.Activation("relu")], (0, 1)),
        ("statistics fixed", lambda: [norm(use_global_stats=True), RELU6()], (1, 0)),
        ("ReLU6 of ReLU6", lambda: [norm(), RELU6(), RELU6()], (1, 0)),
    ],
)
def test_fusion_of_matching_patterns_only(name: str, after: Any, counts: Tuple[int, int]) -> None:
    def factory() -> HybridBlock:
        return sequential(nn.Conv2D(16, 3), *after(), nn.Conv2D(16, 1))

    assert fuse_both(graph_of(factory)) == counts
    assert_same_block(
        factory, images(4, 32, 32), [("relu6", fuse_batchnorm_relu6), ("relu", fuse_batchnorm_relu)]
    )


def test_norm_over_another_axis_is_unchanged() -> None:
    """Not run: MXNet cannot train one."""
    graph = graph_of(lambda: sequential(nn.Conv2D(12, 3), norm(axis=2), RELU6(), nn.Conv2D(4, 1)))
    assert pad_channels(graph) == 0
    assert fuse_both(graph) == (0, 0)


@pytest.mark.parametrize(
    ("name", "inside", "count"),
    [
        ("full blocks", lambda: [nn.Conv2D(16, 3), norm(), nn.Conv2D(32, 1)], 0),
        ("an output", lambda: [nn.Conv2D(12, 3), norm(), RELU6()], 0),
        ("before a dense layer", lambda: [nn.Conv2D(12, 3), norm(), nn.Flatten(), nn.Dense(3)], 0),
        ("read by index", lambda: [nn.Conv2D(12, 3), norm(), Pieces(), nn.Conv2D(4, 1)], 0),
        ("groups of 2", lambda: [nn.Conv2D(12, 3), nn.Conv2D(12, 3, groups=6), nn.Conv2D(4, 1)], 0),
        (
            "two filters per channel",
            lambda: [nn.Conv2D(6, 3), nn.Conv2D(12, 3, groups=6), nn.Conv2D(4, 1)],
            0,
        ),
        ("as many groups as filters", lambda: [nn.Conv2D(8, 3), nn.Conv2D(4, 3, groups=4), RELU6()], 0),
        ("inside", lambda: [nn.Conv2D(12, 3), norm(), nn.MaxPool2D(), nn.Conv2D(4, 1)], 2),
        ("gamma fixed", lambda: [nn.Conv2D(12, 3), norm(scale=False), nn.Conv2D(4, 1)], 2),
        ("not zero for zero", lambda: [nn.Conv2D(12, 3), nn.Activation("sigmoid"), nn.Conv2D(4, 1)], 2),
        ("depthwise with bias", lambda: [nn.Conv2D(12, 3), nn.Conv2D(12, 3, groups=12), nn.Conv2D(4, 1)], 3),
    ],
)
def test_padding_of_inner_channels_only(name: str, inside: Any, count: int) -> None:
    fast = assert_same_block(lambda: sequential(*inside()), images(4, 32, 32), [("pad", pad_channels)])
    assert fast.rewritten["pad"] == count


@pytest.mark.parametrize("padded", [False, True])
def test_layers_used_twice(padded: bool) -> None:
    """Shared running statistics are one variable, whether one use is padded or both are."""
    fast = assert_same_block(lambda: Shared(last=padded), images(4, 16, 16))
    assert fast.rewritten["pad channels"] == (4 if padded else 3)


def test_graph_without_patterns_is_unchanged() -> None:
    x = images(1, 32, 32)
    block = initialized(lambda: sequential(nn.Conv2D(16, 3), Clip(0, 5), nn.Conv2D(32, 1)), x)
    shapes = {name: parameter.shape for name, parameter in block.collect_params().items()}
    graph = Graph(block(mx.sym.var("data")), shapes)
    before = graph.symbol().tojson()
    assert [rewrite(graph) for _, rewrite in TRAINING_PASSES] == [0] * len(TRAINING_PASSES)
    assert graph.symbol().tojson() == before
    assert not graph.constants
    assert not graph.padded_statistics


def test_padded_channels_are_full_blocks() -> None:
    x = images(2, 64, 64)
    block = initialized(lambda: MobileNetV2(0.35, 10), x)
    shapes = {name: parameter.shape for name, parameter in block.collect_params().items()}
    graph = Graph(block(mx.sym.var("data")), shapes)
    pad_channels(graph)
    filters = [int(node.attrs["num_filter"]) for node in graph.nodes() if node.op == "Convolution"]
    assert [count for count in filters if count % 16] == [10]  # the classifier
    assert pad_outputs(graph) == 1
