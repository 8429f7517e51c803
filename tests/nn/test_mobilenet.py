"""MobileNetV1 and V2 compared with the Gluon zoo and the published numbers."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import count, fill, images
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock
from mxnet.gluon.model_zoo import vision

from mnssd.nn import RELU6, LinearBottleneck, MobileNetV1, MobileNetV2
from mnssd.nn.backbones import Tap
from mnssd.nn.layers import activation, add_separable, scale_channels
from mnssd.nn.tapped_features import TappedFeatures

# (t, input channels, output channels, stride) of each bottleneck: table 2 of the paper, one line per stage.
BOTTLENECKS = [
    *[(1, 32, 16, 1)],
    *[(6, 16, 24, 2), (6, 24, 24, 1)],
    *[(6, 24, 32, 2), (6, 32, 32, 1), (6, 32, 32, 1)],
    *[(6, 32, 64, 2), (6, 64, 64, 1), (6, 64, 64, 1), (6, 64, 64, 1)],
    *[(6, 64, 96, 1), (6, 96, 96, 1), (6, 96, 96, 1)],
    *[(6, 96, 160, 2), (6, 160, 160, 1), (6, 160, 160, 1)],
    *[(6, 160, 320, 1)],
]

# Parameters and multiply-adds of the Gluon zoo's networks at 224 pixels, in millions.
COST = {
    ("v1", 1.0): (4.232, 568.7),
    ("v1", 0.75): (2.586, 325.4),
    ("v1", 0.5): (1.332, 149.5),
    ("v1", 0.25): (0.470, 41.0),
    ("v2", 1.0): (3.505, 313.6),
    ("v2", 0.75): (2.628, 186.7),
    ("v2", 0.5): (1.965, 92.3),
    ("v2", 0.25): (1.516, 30.5),
}
OURS: Dict[str, Any] = {"v1": MobileNetV1, "v2": MobileNetV2}
ZOO: Dict[str, Any] = {"v1": vision.MobileNet, "v2": vision.MobileNetV2}


def conv_text(channels_in: int, channels: int, kernel: int, stride: int, groups: int = 1) -> str:
    pad = ", padding=(1, 1)" if kernel == 3 else ""
    grouped = f", groups={groups}" if groups > 1 else ""
    shown = channels_in // groups
    size = f"kernel_size=({kernel}, {kernel}), stride=({stride}, {stride})"
    return f"Conv2D({shown} -> {channels}, {size}{pad}{grouped}, bias=False)"


def norm_text(channels: int) -> str:
    fixed = "axis=1, eps=1e-05, momentum=0.9, fix_gamma=False, use_global_stats=False"
    return f"BatchNorm({fixed}, in_channels={channels})"


def block_text(kind: str, children: Dict[str, str]) -> str:
    return f"{kind}({''.join(f'({name}): {text}' for name, text in children.items())})"


def numbered(texts: List[str]) -> Dict[str, str]:
    return {str(index): text for index, text in enumerate(texts)}


def expected_listing() -> str:
    """The repr of MobileNetV2, from `BOTTLENECKS`."""
    features = [conv_text(3, 32, 3, 2), norm_text(32), "RELU6()"]
    for t, c_in, c_out, stride in BOTTLENECKS:
        middle = c_in * t
        layers = [conv_text(c_in, middle, 1, 1), norm_text(middle), "RELU6()"]
        layers += [conv_text(middle, middle, 3, stride, groups=middle), norm_text(middle), "RELU6()"]
        layers += [conv_text(middle, c_out, 1, 1), norm_text(c_out)]
        out = block_text("HybridSequential", numbered(layers))
        features.append(block_text("LinearBottleneck", {"out": out}))
    features += [conv_text(320, 1280, 1, 1), norm_text(1280), "RELU6()"]
    features.append("GlobalAvgPool2D(size=(1, 1), stride=(1, 1), padding=(0, 0), ceil_mode=True)")
    output = [conv_text(0, 1000, 1, 1).replace("0 ->", "None ->", 1), "Flatten"]
    parts = {
        "features": block_text("HybridSequential", numbered(features)),
        "output": block_text("HybridSequential", numbered(output)),
    }
    return block_text("MobileNetV2", parts)


def normalized(text: str) -> str:
    """The text without white space and without what MXNet 1.9.1 adds for global pooling."""
    text = "".join(text.split())
    for addition in (",global_pool=True", ",pool_type=avg", ",layout=NCHW"):
        text = text.replace(addition, "")
    return text


@pytest.fixture(scope="module")
def v2_after_features() -> MobileNetV2:
    net = MobileNetV2()
    net.initialize()
    net.features(mx.nd.zeros((1, 3, 32, 32)))
    return net


def test_v2_repr_matches_the_paper(v2_after_features: MobileNetV2) -> None:
    assert normalized(repr(v2_after_features)) == normalized(expected_listing())


def test_v2_repr_matches_the_reference_listing(v2_after_features: MobileNetV2, shared: Any) -> None:
    listing = (shared / "reference" / "mobilenetv2-listing.txt").read_text()
    assert normalized(repr(v2_after_features)) == normalized(listing)


def test_relu6_has_no_children_and_clips() -> None:
    layer = RELU6()
    assert len(layer._children) == 0
    assert layer(mx.nd.array([-1, 0, 3, 6, 7])).asnumpy().tolist() == [0, 0, 3, 6, 6]


# ---- the Gluon zoo -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1.0, 0.75, 0.5, 0.25])
@pytest.mark.parametrize("family", ["v1", "v2"])
def test_parameters_and_outputs_match_the_zoo(family: str, width: float) -> None:
    ours, zoo = OURS[family](width, classes=10), ZOO[family](width, classes=10)
    x = images(2, 32, 32)
    for net in (ours, zoo):
        net.initialize()
        net(x)

    def own_names(net: Any) -> Dict[str, Any]:
        return {name[len(net.prefix) :]: p.shape for name, p in net.collect_params().items()}

    assert own_names(ours) == own_names(zoo)
    assert list(ours._collect_params_with_prefix()) == list(zoo._collect_params_with_prefix())

    fill(zoo, seed=int(width * 100))
    for mine, theirs in zip(ours.collect_params().values(), zoo.collect_params().values()):
        mine.set_data(theirs.data())
    expected = zoo(x).asnumpy()
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(ours(x).asnumpy(), expected, rtol=1e-5, atol=1e-5)


def test_zoo_constructors_use_these_classes() -> None:
    assert type(vision.mobilenet1_0()) is ZOO["v1"]
    assert type(vision.mobilenet_v2_1_0()) is ZOO["v2"]


def test_imagenet_weights_give_the_outputs_of_the_zoo(shared: Any) -> None:
    path = str(shared / "weights" / "mobilenet_v2_1_0-imagenet.params")
    ours, zoo = MobileNetV2(), vision.mobilenet_v2_1_0()
    ours.load_parameters(path)
    zoo.load_parameters(path)
    x = images(2, 224, 224)
    expected = zoo(x).asnumpy()
    assert expected.std() > 0.5
    np.testing.assert_allclose(ours(x).asnumpy(), expected, atol=1e-5, rtol=1e-5)


# ---- cost and width ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "width"), list(COST))
def test_cost_matches_the_zoo(family: str, width: float) -> None:
    parameters, macs = count(OURS[family](width)(mx.sym.var("data")), 224, 224)
    assert round(parameters / 1e6, 3) == COST[family, width][0]
    assert round(macs / 1e6, 1) == COST[family, width][1]


def test_separable_convolution_cost_matches_the_paper() -> None:
    """MobileNetV1 paper, section 3.1, for 3x3, 3 -> 16: 27 + 48 weights instead of 432."""
    layer = nn.HybridSequential()
    add_separable(layer, 3, 16, stride=1)
    traced = layer(mx.sym.var("data"))
    arguments, _, _ = traced.infer_shape(data=(1, 3, 8, 8))
    named = dict(zip(traced.list_arguments(), arguments))
    weights = [int(np.prod(s)) for name, s in named.items() if name.endswith("weight")]
    assert weights == [27, 48]
    assert count(traced, 8, 8)[1] == (27 + 48) * 64
    assert round((27 + 48) / 432, 2) == 0.17


def test_v1_has_28_layers() -> None:
    """MobileNetV1 paper, section 3.2, counting depthwise and pointwise convolutions separately."""
    names = MobileNetV1()(mx.sym.var("data")).list_arguments()
    assert len([name for name in names if name.endswith("weight")]) == 28


def v2_channels(net: MobileNetV2) -> List[int]:
    """Channels after the first convolution, after each stage and after the last convolution."""
    ends = [net.features[index].out[6] for index in (3, 5, 8, 12, 15, 18, 19)]
    return [layer.weight.shape[0] for layer in (net.features[0], *ends, net.features[20])]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (1.0, [32, 16, 24, 32, 64, 96, 160, 320, 1280]),
        # rounded down, as in the Gluon zoo
        (0.75, [24, 12, 18, 24, 48, 72, 120, 240, 1280]),
        (0.5, [16, 8, 12, 16, 32, 48, 80, 160, 1280]),
        (0.25, [8, 4, 6, 8, 16, 24, 40, 80, 1280]),
        # multiples of 8, as in TensorFlow's release
        (0.35, [16, 8, 8, 16, 24, 32, 56, 112, 1280]),
        (1.4, [48, 24, 32, 48, 88, 136, 224, 448, 1792]),
    ],
)
def test_v2_channels_at_each_width(width: float, expected: List[int]) -> None:
    assert v2_channels(MobileNetV2(width)) == expected


@pytest.mark.parametrize(("width", "macs"), [(0.35, 59), (1.4, 582)])
def test_v2_cost_matches_tensorflow_at_widths_the_zoo_lacks(width: float, macs: int) -> None:
    """Millions of multiply-adds in TensorFlow slim's table, where the first bottleneck has no expansion."""
    first = scale_channels(32, width)
    _, ours = count(MobileNetV2(width)(mx.sym.var("data")), 224, 224)
    assert round((ours - first * first * 112 * 112) / 1e6) == macs


def test_width_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.01.*32"):
        MobileNetV1(0.01)


# ---- options -----------------------------------------------------------------------------------------------


def test_identity_shortcuts_have_stride_1_and_equal_channels() -> None:
    blocks = enumerate(MobileNetV2().features)
    with_input = [index for index, block in blocks if getattr(block, "use_shortcut", False)]
    assert with_input == [5, 7, 8, 10, 11, 12, 14, 15, 17, 18]
    expected = [c_in == c_out and stride == 1 for _, c_in, c_out, stride in BOTTLENECKS]
    assert [index in with_input for index in range(3, 20)] == expected


def test_projection_shortcuts_have_stride_1_and_different_channels() -> None:
    net = MobileNetV2(0.25, shortcut="projection")
    projected = [index for index, block in enumerate(net.features) if hasattr(block, "projection")]
    assert projected == [3, 13, 19]
    net.initialize()
    net(images(1, 64, 64))
    plain = MobileNetV2(0.25)
    extra = set(net._collect_params_with_prefix()) - set(plain._collect_params_with_prefix())
    assert {name.split(".")[1] for name in extra} == {"3", "13", "19"}
    assert all(".projection." in name for name in extra)


@pytest.mark.parametrize(
    ("shortcut", "channels", "stride", "added"),
    [
        ("identity", 8, 1, "input"),
        ("identity", 12, 1, None),
        ("identity", 8, 2, None),
        ("projection", 8, 1, "input"),
        ("projection", 12, 1, "projection"),
        ("projection", 12, 2, None),
        ("projection-all", 8, 1, "input"),
        ("projection-all", 12, 1, "projection"),
        ("projection-all", 8, 2, "projection"),
        ("projection-all", 12, 2, "projection"),
    ],
)
def test_bottleneck_shortcut(shortcut: str, channels: int, stride: int, added: Any) -> None:
    block = LinearBottleneck(8, channels, 6, stride, shortcut)
    x = mx.nd.array(np.random.default_rng(0).normal(size=(2, 8, 10, 10)))
    block.initialize()
    block(x)
    fill(block)
    expected = block.out(x)
    if added == "input":
        expected = expected + x
    elif added == "projection":
        convolution, norm = block.projection
        assert len(block.projection) == 2
        expected = expected + norm(convolution(x))
    np.testing.assert_allclose(block(x).asnumpy(), expected.asnumpy(), rtol=1e-6, atol=1e-6)
    assert expected.asnumpy().min() < 0  # no activation after the projection


def test_projection_all_gives_every_bottleneck_a_shortcut() -> None:
    blocks = [
        block for block in MobileNetV2(0.25, shortcut="projection-all").features if hasattr(block, "out")
    ]
    assert len(blocks) == 17
    assert [block.use_shortcut + block.use_projection for block in blocks] == [1] * 17
    strides = [b.projection[0]._kwargs["stride"] for b in blocks if b.use_projection]
    assert strides.count((2, 2)) == 4
    assert strides.count((1, 1)) == 3


def test_unknown_shortcut_and_activation_are_refused() -> None:
    with pytest.raises(ValueError, match="shortcut.*'add'"):
        MobileNetV2(0.25, shortcut="add")
    with pytest.raises(ValueError, match="activation.*'swish'"):
        MobileNetV1(0.25, activation="swish")
    assert isinstance(activation("relu"), nn.Activation)


def test_v1_activation_does_not_change_parameters() -> None:
    x = images(1, 64, 64) * 10
    outputs = {}
    for name in ("relu", "relu6"):
        net = MobileNetV1(0.25, classes=10, activation=name)
        net.initialize()
        net(x)
        fill(net)
        for parameter in net.collect_params(".*gamma").values():
            parameter.set_data(parameter.data() * 4)
        outputs[name] = net.features[:-2](x).asnumpy()
        shapes = {n[len(net.prefix) :]: p.shape for n, p in net.collect_params().items()}
        outputs[name + " shapes"] = shapes
    assert outputs["relu"].max() > 6
    assert outputs["relu6"].max() == 6
    assert outputs["relu shapes"] == outputs["relu6 shapes"]


# ---- taps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "channels"),
    [
        (MobileNetV1(), (256, 512, 1024)),
        (MobileNetV2(), (32 * 6, 576, 1280)),
        (MobileNetV1(0.5), (128, 256, 512)),
        (MobileNetV2(0.5), (16 * 6, 288, 1280)),
        (MobileNetV2(1.4), (48 * 6, 136 * 6, 1792)),
        (MobileNetV2(1.0, shortcut="projection"), (192, 576, 1280)),
    ],
    ids=["v1", "v2", "v1 0.5", "v2 0.5", "v2 1.4", "v2 projection"],
)
def test_tapped_map_sizes_at_300_pixels(net: Any, channels: Tuple[int, ...]) -> None:
    maps = mx.sym.Group(list(TappedFeatures(net, net.taps)(mx.sym.var("data"))))
    expected = [(1, count, side, side) for count, side in zip(channels, (38, 19, 10))]
    assert maps.infer_shape(data=(1, 3, 300, 300))[1] == expected


@pytest.mark.parametrize("net", [MobileNetV1(0.25), MobileNetV2(0.25)], ids=["v1", "v2"])
def test_taps_return_maps_of_the_classifier(net: Any) -> None:
    net.initialize()
    x = images(2, 96, 64)
    net(x)
    fill(net)
    maps = TappedFeatures(net, net.taps)(x)
    if isinstance(net, MobileNetV1):  # outputs of blocks 5, 11 and 13: 3 layers, then 6 per block
        expected = [net.features[: 3 + 6 * count](x) for count in (5, 11, 13)]
    else:
        expected = [net.features[index].out[:3](net.features[:index](x)) for index in (9, 16)]
        expected.append(net.features[:23](x))
    assert len(maps) == 3
    for found, wanted in zip(maps, expected):
        np.testing.assert_array_equal(found.asnumpy(), wanted.asnumpy())


@pytest.mark.parametrize(
    ("shortcut", "index"),
    [("identity", 17), ("projection", 13), ("projection-all", 16), ("projection-all", 6)],
)
def test_tap_inside_a_block_with_shortcut(shortcut: str, index: int) -> None:
    net = MobileNetV2(0.25, shortcut=shortcut)
    net.initialize()
    x = images(1, 96, 64)
    net(x)
    fill(net)
    taps = (Tap(f"features.{index}.out.2", 16), Tap("features.22", 32))
    first, second = TappedFeatures(net, taps)(x)
    inner = net.features[index].out[:3](net.features[:index](x))
    np.testing.assert_array_equal(first.asnumpy(), inner.asnumpy())
    np.testing.assert_array_equal(second.asnumpy(), net.features[:23](x).asnumpy())


def test_tap_inside_another_block_with_shortcut_is_refused() -> None:
    class Residual(HybridBlock):
        use_shortcut = True

        def __init__(self) -> None:
            super().__init__()
            self.out = nn.HybridSequential()
            self.out.add(nn.Conv2D(3, 1))

    net = HybridBlock()
    net.features = nn.HybridSequential()
    net.features.add(Residual())
    with pytest.raises(ValueError, match=r"features\.0"):
        TappedFeatures(net, (Tap("features.0.out.0", 1),))


def test_hybridized_outputs_are_equal() -> None:
    net = MobileNetV2(0.25, classes=10, shortcut="projection")
    net.initialize()
    x = images(2, 64, 64)
    net(x)
    fill(net)
    plain = net(x).asnumpy()
    net.hybridize(static_alloc=True)
    np.testing.assert_allclose(net(x).asnumpy(), plain, rtol=1e-4, atol=1e-4)
