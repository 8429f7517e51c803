"""`mnssd.save_run`: a detector as a run that is evaluated, exported and trained further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import CLASSES, SIZE, make_image, make_net, network_outputs, write_images

import mnssd
from mnssd import nn, zoo
from mnssd.errors import MnssdError, OptionError
from mnssd.graph.fast import fast_block

IMAGES = np.random.default_rng(0).normal(0, 1, (2, 3, SIZE[1], SIZE[0])).astype(np.float32)


@pytest.mark.parametrize("head", ["ssdlite", "gluoncv_lite_300", "gluoncv_512"])
def test_run_is_the_network(head: str, tmp_path: Path) -> None:
    net, spec = make_net(head=head, network="mobilenet_v1")
    run = mnssd.save_run(net, tmp_path / "run")
    loaded = zoo.load_detector(str(run.path))
    assert zoo.read_spec(str(run.path / "config.yaml"), zoo.DetectorSpec) == spec
    for actual, expected in zip(network_outputs(loaded, IMAGES), network_outputs(net, IMAGES)):
        np.testing.assert_array_equal(actual, expected)


def test_exports_of_a_head_of_gluoncv(tmp_path: Path) -> None:
    """The parity check compares their detections with those of the network."""
    run = mnssd.save_run(
        make_net(head="gluoncv_300", network="mobilenet_v1")[0].as_gluoncv(), tmp_path / "run"
    )
    folder = run.export(["symbol", "onnx"], tmp_path / "export", images=write_images(tmp_path, 2))
    image = make_image(0)
    expected = run.detector()(image)
    for engine in ("mxnet", "onnxruntime"):
        actual = mnssd.Detector.load(folder, engine=engine)(image)
        assert actual.names == expected.names
        np.testing.assert_allclose(actual.boxes, expected.boxes, atol=0.1)


def test_after_other_classes(devkit: Path, tmp_path: Path) -> None:
    net, _ = make_net(network="mobilenet_v1")
    net.reset_class(["dog", "cat"], reuse_weights=["dog", "cat"])
    run = mnssd.save_run(net, tmp_path / "run", data=devkit)
    assert run.detector().classes == ("dog", "cat")
    result: Any = run.evaluate(splits="2012_val")
    assert set(result.voc.ap_per_class) == {"dog", "cat"}


def test_without_data(devkit: Path, tmp_path: Path) -> None:
    """The folder to evaluate on is recognized; without one, there is an error."""
    run = mnssd.save_run(make_net(network="mobilenet_v1")[0], tmp_path / "run")
    result: Any = run.evaluate(devkit, splits="2012_val")
    assert len(result.dataset) == 5
    with pytest.raises(MnssdError):
        run.evaluate()


@pytest.mark.parametrize("kind", ["no weights", "not of the zoo", "not empty", "a classifier"])
def test_refused(kind: str, tmp_path: Path) -> None:
    net: Any = zoo.get_model("ssd_96_mobilenet_v1_0.25", classes=CLASSES)
    if kind == "not empty":
        net, _ = make_net()
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "mine.txt").write_text("kept")
    elif kind == "not of the zoo":
        net = nn.SSD(zoo.build_backbone("mobilenet_v1", 0.25), CLASSES, (96, 96))
    elif kind == "a classifier":
        net = zoo.get_model("mobilenet_v1_0.25", classes=3)
    with pytest.raises(OptionError, match="run"):
        mnssd.save_run(net, tmp_path / "run")
    left = sorted(path.name for path in (tmp_path / "run").glob("*"))
    assert left == (["mine.txt"] if kind == "not empty" else [])


@pytest.mark.parametrize("head", ["gluoncv_512", "gluoncv_lite_300"])
def test_fast_graph_of_a_head_of_gluoncv(head: str) -> None:
    """Its BatchNorm has another epsilon."""
    net, _ = make_net(head=head, network="mobilenet_v1")
    x = mx.nd.array(IMAGES)
    with mx.autograd.train_mode():
        expected, actual = net.heads(x), fast_block(net.heads)(x)
    for a, b in zip(actual, expected):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), atol=2e-4)
