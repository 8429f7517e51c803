"""`mnssd.boxes`: IoU in both conventions, SSD encoding, clipping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mnssd.boxes import STDS, clip, corners, encode, iou


def box(*edges: float) -> np.ndarray:
    return np.array(edges, np.float64)


@pytest.mark.parametrize(
    ("a", "b", "offset", "expected"),
    [
        ((0, 0, 9, 9), (0, 0, 9, 4), 1, 0.5),
        ((0, 0, 9, 9), (0, 0, 9, 9), 1, 1.0),
        ((0, 0, 9, 9), (9, 9, 18, 18), 1, 1 / 199),  # inclusive boxes share the corner pixel
        ((0, 0, 9, 9), (9, 9, 18, 18), 0, 0.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 0, 1 / 3),
        ((0, 0, 10, 10), (20, 20, 30, 30), 0, 0.0),
        ((0, 0, 10, 10), (8, 8, 2, 2), 0, 0.0),  # inverted
        ((5, 5, 5, 5), (5, 5, 5, 5), 0, 0.0),  # no area
    ],
)
def test_iou_of_two_boxes(a: tuple, b: tuple, offset: float, expected: float) -> None:
    assert float(iou(box(*a), box(*b), offset)) == expected
    assert float(iou(box(*b), box(*a), offset)) == expected


def test_iou_broadcasts_to_all_pairs() -> None:
    a, b = np.zeros((3, 4)), np.zeros((5, 4))
    a[:, 2:], b[:, 2:] = 10, 20
    assert iou(a[:, None], b).tolist() == [[0.25] * 5] * 3
    assert iou(a[:, None], b[:0]).shape == (3, 0)
    assert iou(a.astype(np.float32)[:, None], b.astype(np.float32)).dtype == np.float32


def test_iou_does_not_change_its_arguments() -> None:
    a, b = np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 0, 5, 5]])
    iou(a, b, 1)
    assert a.tolist() == [[0, 0, 10, 10]]
    assert b.tolist() == [[0, 0, 5, 5]]


def test_encode_equals_hand_computed_offsets() -> None:
    offsets = encode(np.array([[10, 20, 30, 60]], np.float32), np.array([[25, 30, 10, 20]], np.float32))
    # Center (20, 40), size (20, 40): (-5/10/.1, 10/20/.1, ln 2/.2, ln 2/.2).
    np.testing.assert_allclose(offsets, [[-5, 5, np.log(2) / 0.2, np.log(2) / 0.2]], rtol=1e-6)


def centers(count: int) -> st.SearchStrategy:
    return arrays.arrays(np.float32, (count, 4), elements=st.floats(5, 500, width=32))


@settings(max_examples=40, deadline=None)
@given(centers(7), centers(7))
def test_network_decoder_inverts_encode(anchors: np.ndarray, others: np.ndarray) -> None:
    mx = pytest.importorskip("mxnet")
    from gluoncv.nn.coder import NormalizedBoxCenterDecoder

    boxes = corners(others)
    offsets = encode(boxes, anchors)
    assert offsets.dtype == np.float32
    decode = NormalizedBoxCenterDecoder(STDS)
    decoded = decode(mx.nd.array(offsets[None]), mx.nd.array(anchors[None]))[0].asnumpy()
    np.testing.assert_allclose(decoded, boxes, atol=0.02)


def test_clip_keeps_boxes_in_the_image() -> None:
    clipped = clip(np.array([[-5, 2.5, 400, 700]]), (320, 240))
    assert clipped.tolist() == [[0, 2.5, 319, 239]]
    assert clipped.dtype == np.float32
