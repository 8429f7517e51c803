"""Weights of a run for a network with other classes, or with the same ones in another order."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Sequence

import numpy as np
import pytest
import yaml
from helpers.networks import fill, images

from mnssd.nn import SSD, MobileNetV1, MobileNetV2
from mnssd.runtime.settings import wait_all
from mnssd.weights import load_backbone
from mnssd.weights.class_names import classes_of_run, match_classes, name_among
from mnssd.zoo import get_model

OLD = ("cat", "dog", "no")


def new_detector(classes: Sequence[str], head: str = "ssd") -> SSD:
    net = SSD(MobileNetV2(0.25, 1), list(classes), (96, 96), head)
    net.initialize()
    return net


def saved(folder: Path, block: Any, section: str, classes: Sequence[str] = OLD) -> str:
    """The parameter file of a run with these weights."""
    wait_all()
    path = folder / "best.params"
    block.save_parameters(str(path))
    (folder / "config.yaml").write_text(yaml.safe_dump({section: {"classes": list(classes)}}))
    return str(path)


@pytest.mark.parametrize(
    ("head", "classes"),
    [("ssd", ("no", "cat", "dog")), ("ssdlite", ("dog", "cat")), ("ssd", ("cat", "ox", "no", "dog"))],
)
def test_scores_of_a_detector_follow_the_names(head: str, classes: List[str], tmp_path: Path) -> None:
    """A new class begins with the mean of the others."""
    trained = new_detector(OLD, head)
    x = images(1, 96, 96)
    trained.heads(x)
    fill(trained.heads, 1)
    old_scores, old_boxes = (output.asnumpy() for output in trained.heads(x))
    net = new_detector(classes, head)
    report = load_backbone(net.heads, saved(tmp_path, trained.heads, "detector"), classes)
    assert not report.missing + report.mismatched + report.unused
    scores, boxes = (output.asnumpy() for output in net.heads(x))
    by_name = {name: old_scores[..., 1 + i] for i, name in enumerate(OLD)}
    expected = [
        old_scores[..., 0],
        *(by_name.get(name, np.mean(old_scores[..., 1:], -1)) for name in classes),
    ]
    np.testing.assert_allclose(scores, np.stack(expected, -1), rtol=1e-3, atol=1e-3 * np.abs(scores).max())
    np.testing.assert_array_equal(boxes, old_boxes)


@pytest.mark.parametrize("network", [MobileNetV1, MobileNetV2])
@pytest.mark.parametrize("classes", [("no", "cat", "dog"), ("dog", "ox"), ("dog", "cat", "no", "ox")])
def test_outputs_of_a_classifier_follow_the_names(network: Any, classes: List[str], tmp_path: Path) -> None:
    trained, net = network(0.25, len(OLD)), network(0.25, len(classes))
    x = images(1, 32, 32)
    for block in (trained, net):
        block.initialize()
        block(x)
    fill(trained, 1)
    old = dict(zip(OLD, trained(x).asnumpy()[0]))
    load_backbone(net, saved(tmp_path, trained, "classifier"), classes)
    expected = [old.get(name, np.mean(list(old.values()))) for name in classes]
    np.testing.assert_allclose(net(x).asnumpy()[0], expected, rtol=1e-4, atol=1e-5)


def test_layers_of_other_classes_are_left_out(tmp_path: Path) -> None:
    """So they are if fewer than half of the classes are known; the boxes are loaded."""
    trained = new_detector(OLD)
    trained.heads(images(1, 96, 96))
    fill(trained.heads, 1)
    path = saved(tmp_path, trained.heads, "detector")
    for classes in (("a", "b", "c"), ("a", "b", "cat")):
        report = load_backbone(new_detector(classes).heads, path, classes)
        assert {name.split(".")[0] for name in report.missing} == {"class_predictors"}
        assert "box_predictors.0.weight" in report.loaded


def test_without_a_run_classes_are_matched_by_their_order(tmp_path: Path) -> None:
    trained = get_model("mobilenet_v2_0.25", list(OLD), weights="none")
    x = images(1, 32, 32)
    trained(x)
    path = saved(tmp_path, trained, "classifier")
    shuffled = get_model("mobilenet_v2_0.25", ["dog", "no", "cat"], weights=path)
    np.testing.assert_array_equal(shuffled(x).asnumpy()[0], trained(x).asnumpy()[0, [1, 2, 0]])
    (tmp_path / "config.yaml").write_text("detector: 3")
    net = get_model("mobilenet_v2_0.25", ["dog", "no", "cat"], weights=path)
    np.testing.assert_array_equal(net(x).asnumpy(), trained(x).asnumpy())


def test_classes_of_other_files_are_unknown(tmp_path: Path) -> None:
    path = str(tmp_path / "best.params")
    assert classes_of_run(path) is None
    config = tmp_path / "config.yaml"
    for text in ("", "a: [", "detector: 3", "model: resnet", "classifier:\n  classes: 3\n", "- 1"):
        config.write_text(text)
        assert classes_of_run(path) is None, text
    config.write_text("classifier:\n  classes: [no, 010]\n")
    assert classes_of_run(path) == ("no", "010")


def test_classes_of_coco_and_voc_are_the_same_under_either_name() -> None:
    old, new = ("person", "motorcycle", "tv", "couch"), ("sofa", "person", "motorbike", "ox")
    values = np.arange(10.0).reshape(2, 5, 1, 1, 1).reshape(10, 1, 1, 1)
    name = "class_predictors.0.weight"
    arrays, note = match_classes({name: values}, old, new, [name])
    found = arrays[name].reshape(2, 5)
    np.testing.assert_array_equal(found, [[0, 4, 1, 2, 2.5], [5, 9, 6, 7, 7.5]])
    for name in ("sofa", "motorbike", "ox"):
        assert name in note
    assert name_among("tvmonitor", old) == "tv"
    assert name_among("sofa", ("sofa", "couch")) == "sofa"
    assert name_among("ox", old) is None
