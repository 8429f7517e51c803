"""A backbone registered by a plugin, used from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator

import mxnet as mx
import numpy as np
import pytest
from helpers.networks import images
from helpers.plugins import forgotten_plugins
from mxnet.gluon import nn

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.errors import OptionError
from mnssd.nn.backbones import Backbone, Tap, backbones
from mnssd.nn.heads import SSDHeads
from mnssd.runtime import plugins

PLUGIN = '''
"""A five-layer network with Swish activations, whose operators no built-in backbone has."""

from mnssd.nn.backbones import Backbone, Tap, backbones


def build(width, classes):
    from mxnet.gluon import nn
    from mxnet.gluon.block import HybridBlock

    class ToyNet(HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.features = nn.HybridSequential()
                for channels in (8, 16, 24, 32, 48):
                    layer = nn.HybridSequential()
                    layer.add(nn.Conv2D(int(channels * width), 3, 2, 1), nn.BatchNorm(), nn.Swish())
                    self.features.add(layer)
                self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
                self.output = nn.Dense(classes)

        def hybrid_forward(self, F, x):
            return self.output(self.features(x))

    return ToyNet()


backbones.register(
    "toynet",
    Backbone(
        "toynet",
        build,
        (Tap("features.3", 16), Tap("features.4", 32)),
        widths=(1.0, 0.5),
        published={(1.0, 96): 12.5},
    ),
)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[str]:
    """Path of the plugin; it is forgotten after the test."""
    path = tmp_path / "toynet.py"
    path.write_text(PLUGIN)
    with forgotten_plugins(backbones):
        yield str(path)


@pytest.mark.parametrize("command", ["train-ssd", "train-cls", "summary", "compare", "bench"])
def test_help_lists_the_backbone(command: str, plugin: str, capsys: pytest.CaptureFixture) -> None:
    assert main([command, "--plugin", plugin, "--help"]) == 0
    assert "toynet" in capsys.readouterr().out


def test_networks_are_built_by_name(plugin: str) -> None:
    plugins.add_plugin(plugin)
    assert "ssdlite_320_toynet_0.5" in zoo.list_models("*toynet*")
    net = zoo.get_model("ssd_96_toynet_0.5", ["cat"])
    assert net.map_sizes()[:2] == [(6, 6), (3, 3)]
    assert zoo.get_model("toynet", 7)(mx.sym.var("data")).infer_shape(data=(1, 3, 64, 64))[1] == [(1, 7)]
    with pytest.raises(OptionError, match=r"shortcut.*toynet.*projection"):
        zoo.build_backbone("toynet", shortcut="projection")
    with pytest.raises(OptionError, match="activation"):
        zoo.get_model("toynet", activation="relu6")


def test_summary_and_compare_accept_the_backbone(plugin: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["summary", "--plugin", plugin, "ssd_96_toynet_0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["multiply_adds"] > 0
    arguments = ["--networks", "toynet", "--widths", "1", "--sizes", "96,64", "--seconds", "0", "--markdown"]
    assert main(["compare", "--plugin", plugin, *arguments]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| toynet | 1 | ")]
    assert [row.split("|")[-2].strip() for row in rows] == ["12.5", ""]


def test_backbone_is_trained_evaluated_exported_and_pruned(plugin: str, shapes: str, tmp_path: Path) -> None:
    run, exported = tmp_path / "run", tmp_path / "export"
    training = [
        "--network", "toynet", "--data-root", shapes, "--dataset", "shapes", "--size", "96", "--epochs", "1",
        "--batch-size", "8", "--workers", "1", "--no-report", "--output", str(run),
    ]  # fmt: skip
    assert main(["train-ssd", "--plugin", plugin, *training]) == 0
    assert zoo.load_detector(str(run)).classes
    assert main(["eval", str(run)]) == 0
    assert main(["export", str(run), "--output", str(exported)]) == 0
    image = next(Path(shapes).rglob("*.jpg"))
    assert main(["detect", str(exported), str(image)]) == 0
    assert main(["prune", str(run), "--keep", "0.8", "--epochs", "0"]) == 0


# ---- what a backbone must provide --------------------------------------------------------------------------


def chain() -> Any:
    """A block with strides 2, 4, 8, 16 and 32."""
    net = nn.HybridSequential()
    net.features = nn.HybridSequential()
    for _ in range(5):
        net.features.add(nn.Conv2D(4, 3, 2, 1))
    return net


@pytest.mark.parametrize(
    ("taps", "named"),
    [
        ((Tap("features.3", 16),), "1"),
        ((Tap("features.3", 8), Tap("features.4", 32)), r"features\.3.*8.*16"),
        ((Tap("features.4", 32), Tap("features.3", 16)), r"features\.4.*features\.3"),
        ((Tap("features.3", 16), Tap("features.5", 64)), r"features\.5"),
        ((Tap("features.3.out.0", 16), Tap("features.4", 32)), r"features\.3\.out\.0"),
        ((Tap("output", 16), Tap("features.4", 32)), "output"),
    ],
    ids=["one map", "wrong stride", "wrong order", "missing layer", "missing chain", "not in features"],
)
def test_invalid_taps_are_named(taps: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        SSDHeads(chain(), taps, 2, "ssd")


def test_maps_are_those_of_the_tapped_layers() -> None:
    net = chain()
    heads = SSDHeads(net, (Tap("features.3", 16), Tap("features.4", 32)), 2, "ssd")
    heads.initialize()
    x = images(1, 96, 96)
    expected = [net.features[:4](x).asnumpy(), net.features(x).asnumpy()]
    for feature_map, value in zip(heads.feature_maps(x), expected):
        np.testing.assert_array_equal(feature_map.asnumpy(), value)


def test_taken_name_is_refused() -> None:
    with pytest.raises(OptionError, match="mobilenet_v2"):
        backbones.register("mobilenet_v2", Backbone("mobilenet_v2", chain, ()))
