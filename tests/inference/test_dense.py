"""All detections, where the network returns only the best ones: of a run and of exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import CLASSES, make_image, make_net, write_run
from helpers.engines import engine_params

from mnssd.boxes import decode, encode
from mnssd.data.image import to_network_input
from mnssd.data.preprocess import read_for_network, to_detections
from mnssd.inference.dense import DenseDetector
from mnssd.inference.detector import Detector

SCORE = 0.02


def everything(net: Any, image: np.ndarray) -> Any:
    """Detections of the Gluon block with all of its boxes in suppression."""
    pixels, size = read_for_network(image, net.size)
    net.set_nms(net.nms_thresh, -1, -1)
    ids, scores, boxes = (output.asnumpy()[0] for output in net(mx.nd.array(to_network_input([pixels]))))
    net.set_nms()
    return to_detections(ids, scores, boxes, net.size, size, SCORE)


def assert_same(result: Any, expected: Any) -> None:
    assert len(result) == len(expected.labels) > 200
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-4)
    pairs: List[Tuple[Any, Any]] = []
    for side in (result, expected):
        table = np.column_stack([side.labels, side.boxes.round(1), side.scores])
        pairs.append(table[np.lexsort(table.T[::-1])])
    np.testing.assert_allclose(pairs[0], pairs[1], atol=0.11)


@pytest.mark.parametrize("engine", ["run", *engine_params(exact=True)])
def test_all_means_all(engine: str, tiny_detector: Any, tiny_export: Path, tmp_path: Path) -> None:
    net, spec = tiny_detector
    image = make_image(3)
    path = write_run(tmp_path / "run", net, spec) if engine == "run" else tiny_export
    detector = Detector.load(path, "cpu", "auto" if engine == "run" else engine)
    expected = everything(net, image)
    result = detector(image, SCORE)
    assert_same(result, expected)
    assert len(detector(image, SCORE, max_detections=250)) == 250
    for count in (7, 201):
        assert detector(image, SCORE, max_detections=count).names == result.names[:count]
    cats = detector(image, SCORE, classes=["cat"])
    assert cats.names == ["cat"] * result.names.count("cat")


def test_few_detections_need_no_second_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector.load(write_run(tmp_path / "run", *make_net()), "cpu")
    monkeypatch.setattr(DenseDetector, "__call__", None)
    image = make_image(3)
    best = detector(image, max_detections=20)
    assert len(best) == 20
    high = float(best.scores[10])
    assert len(detector(image, high)) == 11


def test_decode_is_the_inverse_of_encode() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (20, 4)).astype(np.float32)
    boxes = np.hstack([corners[:, :2], corners[:, :2] + corners[:, 2:] + 1])
    anchors = rng.uniform(5, 60, (20, 4)).astype(np.float32)
    np.testing.assert_allclose(decode(encode(boxes, anchors), anchors), boxes, rtol=1e-4)


def test_post_nms_of_minus_one_is_all() -> None:
    net, _ = make_net()
    net.set_nms(post_nms=-1)
    assert net.post_nms == len(CLASSES) * len(net.anchors)
    for bad in (-2, 0):
        with pytest.raises(ValueError, match="post_nms"):
            net.set_nms(post_nms=bad)
