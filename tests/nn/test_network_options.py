"""Options of networks: t, custom residuals, factorized heads, the classifier of V1, scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import mxnet as mx
import numpy as np
import pytest
from helpers.graphs import assert_same_block
from helpers.networks import count, fill, images
from mxnet.gluon import nn
from mxnet.gluon.block import HybridBlock

from mnssd import zoo
from mnssd.compress.cost import count_block
from mnssd.errors import OptionError, WeightsError
from mnssd.nn import LinearBottleneck, MobileNetV1, MobileNetV2
from mnssd.runtime.settings import wait_all
from mnssd.weights.published import choose_weights
from mnssd.weights.structure import recognize

# ---- the expansion factor t --------------------------------------------------------------------------------


@pytest.mark.parametrize(("t", "width"), [(1, 0.5), (4, 1.0), (6, 1.0), (6, 0.35)])
def test_expansion_multiplies_the_middle_of_all_bottlenecks_but_the_first(t: int, width: float) -> None:
    blocks = [block for block in MobileNetV2(width, expansion=t).features if hasattr(block, "out")]
    before = [block.out[6]._channels for block in blocks]
    assert [block.out[0]._channels for block in blocks[1:]] == [t * channels for channels in before[:-1]]
    assert blocks[0].out[0]._channels == MobileNetV2(width).features[0]._channels


def test_cost_with_expansion_4() -> None:
    """h * w * d * t (d + k^2 + d') multiply-adds: MobileNetV2 paper, section 3.3."""
    expected = 3 * 9 * 32 * 112**2 + 32 * (32 + 9 + 16) * 112**2  # first convolution, first bottleneck
    side, channels = 112, 16
    stages = ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
    for out_channels, n, stride in stages:
        for i in range(n):
            after, middle = (side // stride if i == 0 else side), 4 * channels
            expected += middle * (channels * side**2 + (9 + out_channels) * after**2)
            side, channels = after, out_channels
    expected += 320 * 1280 * 49 + 1280 * 1000
    net = MobileNetV2(expansion=4)
    assert count_block(net, (1, 3, 224, 224)).multiply_adds == expected
    assert count(net(mx.sym.var("data")), 224, 224)[1] == expected


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("mobilenet_v2", {"expansion": 0}),
        ("mobilenet_v2", {"expansion": 33}),
        ("mobilenet_v2", {"expansion": 4.0}),
        ("mobilenet_v2", {"expansion": True}),
        ("mobilenet_v2", {"expansion": "4"}),
        ("mobilenet_v2", {"t": 4}),
        ("mobilenet_v1", {"expansion": 4}),
        ("mobilenet_v2", {"classifier": "conv"}),
        ("mobilenet_v1", {"classifier": "fc"}),
        ("ssd_96_mobilenet_v1", {"classifier": "conv"}),
        ("mobilenet_v2", {"shortcut": "projection_all"}),
        ("mobilenet_v1_0.5", {"scale": 0.25}),
        ("mobilenet_v1", {"scale": "0.5"}),
        ("mobilenet_v1", {"scale": True}),
        ("mobilenet_v1", {"scale": 0}),
    ],
)
def test_options_are_refused_by_name(network: str, options: Dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(OptionError, match="width" if options == {"scale": 0} else name):
        zoo.get_model(network, **options)


def save(net: Any, path: Path, size: int = 64) -> str:
    net.initialize()
    net(images(1, size, size))
    fill(net)
    wait_all()
    net.save_parameters(str(path))
    return str(path)


def test_expansion_is_deduced_from_a_file(tmp_path: Path) -> None:
    net = MobileNetV2(0.25, 10, expansion=4)
    path = save(net, tmp_path / "t4.params")
    loaded = zoo.get_model("mobilenet_v2_0.25", 10, weights=path)
    x = images(1, 64, 64)
    np.testing.assert_allclose(loaded(x).asnumpy(), net(x).asnumpy(), atol=1e-5)
    assert zoo.get_model("ssd_96_mobilenet_v2_0.25", ["a"], weights=path).heads.backbone.features[4].out[
        0
    ].weight.shape[:2] == (16, 4)
    with pytest.raises(WeightsError, match=r"t4\.params.*--expansion 4"):
        zoo.get_model("mobilenet_v2_0.25", 10, weights=path, expansion=6)
    with pytest.raises(WeightsError, match=r"t4\.params.*--width 0.25.*--expansion 4"):
        zoo.find_variant("mobilenet_v2", 0.5, 10, zoo.ClassifierSpec, None, path, {"expansion": 6})
    assert zoo.find_variant("mobilenet_v2", 0.25, 10, zoo.ClassifierSpec, None, path, {"expansion": 4}) == {}


@pytest.mark.parametrize("expansion", [1, 3, 6, 8])
@pytest.mark.parametrize("width", [0.25, 0.5, 1.0, 1.4])
def test_expansion_is_recognized_at_every_width(expansion: int, width: float) -> None:
    net = MobileNetV2(width, 10, expansion=expansion)
    symbol = net(mx.sym.var("data"))
    shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(1, 3, 32, 32))[0]))
    names = {parameter.name: name for name, parameter in net._collect_params_with_prefix().items()}
    arrays = {names[name]: np.empty(shape, np.int8) for name, shape in shapes.items() if name in names}
    found = recognize(arrays, "mobilenet_v2", width)
    assert found is not None
    assert (found.structure.width, found.structure.options) == (width, {"expansion": expansion})


def test_published_weights_are_for_t_6() -> None:
    options = {"expansion": 4}
    assert choose_weights("imagenet", "mobilenet_v2", 1.0, options=options).weights is None
    assert choose_weights("imagenet", "mobilenet_v2", 1.0, options={"expansion": 6}).weights
    assert choose_weights("mine.params", "mobilenet_v2", 1.0, options=options).weights == "mine.params"
    for name in ("mxnet/mobilenetv2_1.0", "torchvision/mobilenet_v2"):
        with pytest.raises(WeightsError, match=f"{name}.*expansion 4"):
            choose_weights(name, "mobilenet_v2", 1.0, options=options)


def test_a_run_with_another_expansion_is_no_structure(tmp_path: Path) -> None:
    import yaml

    spec = zoo.ClassifierSpec(("a", "b"), width=0.25, expansion=4)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"classifier": spec.as_dict()}))
    assert zoo.read_spec(str(tmp_path / "config.yaml"), zoo.ClassifierSpec) == spec
    arguments = ("mobilenet_v2", 0.25, 2, zoo.ClassifierSpec, str(tmp_path), None)
    assert zoo.find_variant(*arguments, {"expansion": 4}) == {}
    with pytest.raises(WeightsError, match="expansion 4"):
        zoo.find_variant(*arguments, {"expansion": 6})


# ---- custom residuals --------------------------------------------------------------------------------------


class Gate(HybridBlock):
    """A shortcut with parameters: the input through a convolution, and the output scaled."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        with self.name_scope():
            self.pointwise = nn.Conv2D(channels, 1, stride)
            self.scale = self.params.get("scale", shape=(1, channels, 1, 1), init="ones")

    def hybrid_forward(self, F: Any, input_tensor: Any, output_tensor: Any, scale: Any) -> Any:
        return F.broadcast_mul(output_tensor, scale) + self.pointwise(input_tensor)


def swapped(output_tensor: Any, input_tensor: Any) -> Any:
    return output_tensor - 0.5 * input_tensor


RESIDUALS: Dict[str, Any] = {
    "none": (False, lambda x, out: out),
    "input": (True, lambda x, out: out + x),
    "function": (lambda x, out: out + 2 * x, lambda x, out: out + 2 * x),
    "names of slim": (swapped, lambda x, out: out - 0.5 * x),
}


@pytest.mark.parametrize("name", list(RESIDUALS))
def test_residual_of_a_bottleneck(name: str) -> None:
    residual, expected = RESIDUALS[name]
    block = LinearBottleneck(8, 8, 2, 1, residual=residual)
    x = mx.nd.array(np.random.default_rng(0).normal(size=(2, 8, 6, 6)))
    block.initialize()
    block(x)
    fill(block)
    values = expected(x, block.out(x)).asnumpy()
    np.testing.assert_allclose(block(x).asnumpy(), values, rtol=1e-5, atol=1e-5)
    block.hybridize()
    np.testing.assert_allclose(block(x).asnumpy(), values, rtol=1e-5, atol=1e-5)


def residual_network() -> HybridBlock:
    """Bottlenecks with custom residuals: blocks with parameters, at both strides, and a function."""
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(nn.Conv2D(12, 3, 2, 1, use_bias=False), nn.BatchNorm())
        net.add(LinearBottleneck(12, 20, 2, 1, residual=Gate(20, 1)))
        net.add(LinearBottleneck(20, 24, 2, 2, residual=Gate(24, 2)))
        net.add(LinearBottleneck(24, 24, 2, 1, residual=swapped), nn.Conv2D(5, 1))
    return net


@pytest.mark.usefixtures("on_any_processor")
def test_custom_residuals_survive_the_training_passes() -> None:
    assert_same_block(residual_network, images(2, 24, 20), tolerance=2e-4)


def other_parameters() -> Callable[[Any, Any], Any]:
    layer = nn.Conv2D(8, 1)
    return lambda x, out: out + layer(x)


@pytest.mark.parametrize(
    "residual",
    [
        lambda x, out: out + mx.nd.ones((1,)),
        lambda x, out: mx.nd.array(out.asnumpy()),
        lambda x: x,
        lambda x, out: (x, out),
        lambda x, out: mx.sym.concat(x, out, dim=1),
        lambda x, out: mx.sym.Pooling(out, kernel=(2, 2), stride=(2, 2)),
        other_parameters(),
        nn.Conv2D(8, 1),
        "add",
        1,
        None,
    ],
)
def test_unusable_residuals_are_refused(residual: Any) -> None:
    with pytest.raises(ValueError, match="residual"):
        LinearBottleneck(8, 8, 2, 1, residual=residual)


def test_residual_and_another_shortcut_exclude_each_other() -> None:
    for residual in (False, swapped):
        with pytest.raises(ValueError, match="residual.*projection"):
            LinearBottleneck(8, 8, 2, 1, "projection", residual)


# ---- factorized convolutions -------------------------------------------------------------------------------


def test_factorized_heads_have_3x1_and_1x3_convolutions() -> None:
    """3 * K * (M + N) weights in place of 9 * M * N, with K channels in between."""
    heads = zoo.get_model("ssdfactorized_300_mobilenet_v2").heads
    plain = zoo.get_model("ssd_300_mobilenet_v2").heads
    arguments = count_block(heads, (1, 3, 300, 300)), count_block(plain, (1, 3, 300, 300))
    ours, theirs = ({layer.name: layer for layer in costs.layers} for costs in arguments)
    assert not arguments[0].not_counted
    kinds = [layer.kind.split(",")[0] for layer in ours.values() if "x1" in layer.kind or "1x3" in layer.kind]
    assert kinds.count("convolution 3x1 s2x1") == kinds.count("convolution 1x3 s1x2") == 4
    assert kinds.count("convolution 3x1") == kinds.count("convolution 1x3") == 12
    assert [layer.output for layer in theirs.values()][-1] == [layer.output for layer in ours.values()][-1]
    (vertical, _), predictor = heads.class_predictors[0].vertical, heads.class_predictors[0].project
    rows, columns = ours[f"{vertical.name}_fwd"], ours[f"{predictor.name}_fwd"]
    assert rows.multiply_adds == 3 * 576 * 48 * 19 * 19
    assert columns.multiply_adds == 3 * 48 * (5 * 21) * 19 * 19
    assert arguments[0].multiply_adds < arguments[1].multiply_adds


def test_classes_of_factorized_heads_can_be_replaced() -> None:
    net = zoo.get_model("ssdfactorized_96_mobilenet_v2_0.25", ["cat", "dog"])
    zoo.initialize(net)
    x = images(1, 96, 96)
    net.heads(x)
    before = net.heads(x)[0].asnumpy()
    net.reset_class(["cow", "dog", "hen"], reuse_weights=["dog"])
    after = net.heads(x)[0].asnumpy()
    np.testing.assert_allclose(after[..., [0, 2]], before[..., [0, 2]], rtol=1e-4, atol=1e-5)
    assert after.shape[-1] == 4


# ---- the classifier and the scale of V1 --------------------------------------------------------------------


def test_conv_classifier_of_v1() -> None:
    net = MobileNetV1(0.25, 7, classifier="conv")
    net.initialize()
    x = images(2, 64, 64)
    net(x)
    fill(net)
    maps = net.features(x)
    assert maps.shape == (2, 256, 2, 2)
    convolution, norm, _ = net.output[0]
    per_class = mx.nd.relu(norm(convolution(maps)))
    assert per_class.shape == (2, 7, 2, 2)
    dense = net.output[3]
    expected = per_class.mean(axis=(2, 3)).asnumpy() @ dense.weight.data().asnumpy().T
    expected += dense.bias.data().asnumpy()
    np.testing.assert_allclose(net(x).asnumpy(), expected, rtol=1e-4, atol=1e-5)


def test_cost_of_the_conv_classifier() -> None:
    dense, conv = (count_block(MobileNetV1(classifier=c), (1, 3, 224, 224)) for c in ("dense", "conv"))
    assert dense.multiply_adds - 1024 * 1000 == conv.multiply_adds - 1024 * 1000 * 49 - 1000 * 1000
    assert conv.parameters - dense.parameters == 1000 * 1000 + 2 * 1000  # a dense layer; gamma, beta


def test_file_with_the_conv_classifier_makes_its_network(tmp_path: Path) -> None:
    net = MobileNetV1(0.25, 7, classifier="conv")
    path = save(net, tmp_path / "conv.params")
    x = images(1, 64, 64)
    loaded = zoo.get_model("mobilenet_v1_0.25", 7, weights=path)
    np.testing.assert_allclose(loaded(x).asnumpy(), net(x).asnumpy(), atol=1e-5)
    other = zoo.get_model("mobilenet_v1_0.25", 5, weights=path)  # last layers of other classes are new
    assert type(other.output) is nn.Dense
    np.testing.assert_allclose(other.features[:81](x).asnumpy(), net.features(x).asnumpy(), atol=1e-5)


@pytest.mark.parametrize("scale", [0.25, 0.35, 0.5, 0.75, 0.9, 1, 1.4])
@pytest.mark.parametrize("network", ["mobilenet_v1", "mobilenet_v2"])
def test_scale_rounds_as_paddlepaddle(network: str, scale: float) -> None:
    """``int(c * scale)`` channels, at 0.35 and 1.4, too."""
    net = zoo.get_model(network, scale=scale)
    assert net.features[0]._channels == int(32 * scale)
    later = net.features[80 - 2] if network == "mobilenet_v1" else net.features[19].out[6]
    assert later._channels == int((1024 if network == "mobilenet_v1" else 320) * scale)
