"""`predict` and `evaluate`: order of results, prefetching, boxes in pixels of the image, bad images."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple

import cv2
import mxnet as mx
import numpy as np
import pytest
from helpers.devkit import CLASSES, IMAGES

from mnssd.data.dataset import Dataset
from mnssd.data.open import open_dataset
from mnssd.data.sample import Sample
from mnssd.errors import DataError, ImageError, OptionError
from mnssd.inference.predict import Skipped, evaluate, predict


class Output(NamedTuple):
    """An array that is computed asynchronously; records when it is fetched."""

    array: np.ndarray
    number: int
    events: List[str]

    def asnumpy(self) -> np.ndarray:
        self.events.append(f"fetch {self.number}")
        return self.array


class BlobDetector:
    """Detects bright and gray patches by their levels.

    Outputs as of `nn.SSD`: ids, scores, boxes in pixels of its input, padded with -1.
    """

    size = (64, 48)  # width, height
    classes = CLASSES
    rows = 7

    def __init__(self) -> None:
        self.events: List[str] = []
        self.batch_sizes: List[int] = []

    def collect_params(self):
        return {}

    def __call__(self, x: mx.nd.NDArray):
        images = x.asnumpy()
        assert images.shape[1:] == (3, 48, 64)
        assert images.dtype == np.float32
        number = len(self.batch_sizes)
        self.batch_sizes.append(len(images))
        self.events.append(f"launch {number}")
        ids, scores = np.full((2, len(images), self.rows, 1), -1, np.float32)
        boxes = np.full((len(images), self.rows, 4), -1, np.float32)
        levels = (images[:, 0] * 0.229 + 0.485) * 255
        for i, level in enumerate(levels):
            for label, mask in enumerate((level > 190, (level > 64) & (level < 190))):
                # Edges of a bright patch are gray: only solid areas count.
                mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5)))
                if not mask.any():
                    continue
                y, x_ = np.nonzero(mask)
                row = 2 * label + 1  # neither contiguous nor sorted by score
                ids[i, row], scores[i, row] = label, 0.25 + label / 2
                boxes[i, row] = x_.min(), y.min(), x_.max() + 1, y.max() + 1
        return tuple(Output(array, number, self.events) for array in (ids, scores, boxes))


def test_boxes_are_in_pixels_of_the_image(devkit_val):
    results = {s.image_id: d for s, d in predict(BlobDetector(), devkit_val)}
    for name, size, objects in IMAGES:
        detections = results[name]
        expected = sorted(objects, key=lambda o: o[1] == "cat")  # dogs score higher
        assert [CLASSES[label] for label in detections.labels] == [o[1] for o in expected]
        pixel = np.array(size * 2) / np.array(BlobDetector.size * 2)  # of the input, in the original
        for box, (there, _) in zip(detections.boxes, expected):
            assert (np.abs(box - there) <= 1.5 * pixel + 1).all(), name
        assert detections.boxes.dtype == detections.scores.dtype == np.float32
        assert detections.labels.dtype == np.int32
        assert (detections.boxes >= 0).all()
        assert (detections.boxes <= np.array(size * 2) - 1).all()


def test_the_size_of_the_file_is_used_not_that_of_the_annotation(devkit_val):
    correct = devkit_val[1]
    wrong = Sample(
        correct.image_id, correct.image_path, correct.boxes, correct.labels, correct.difficult, (999, 111)
    )
    ((_, a), (_, b)) = (next(predict(BlobDetector(), [sample])) for sample in (correct, wrong))
    np.testing.assert_array_equal(a.boxes, b.boxes)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 16])
def test_samples_keep_their_order_in_batches(devkit_val, batch_size, workers):
    net = BlobDetector()
    order = [sample.image_id for sample, _ in predict(net, devkit_val, batch_size, workers)]
    assert order == [name for name, _, _ in IMAGES]
    full, rest = divmod(len(IMAGES), batch_size)
    assert net.batch_sizes == [batch_size] * full + [rest] * bool(rest)


def test_a_batch_is_launched_before_the_last_is_fetched(devkit_val):
    net = BlobDetector()
    assert len(list(predict(net, devkit_val, batch_size=2))) == 5
    firsts = list(dict.fromkeys(net.events))  # three arrays are fetched per batch
    assert firsts == ["launch 0", "launch 1", "fetch 0", "launch 2", "fetch 1", "fetch 2"]


def test_prefetching_is_bounded(devkit_val):
    taken: List[int] = []

    def endless():
        while True:
            taken.append(1)
            yield devkit_val[len(taken) % 5]

    running = predict(BlobDetector(), endless(), batch_size=2, workers=2)
    for _ in range(10):
        next(running)
    assert len(taken) <= 10 + 2 * 4
    running.close()


def test_no_samples_give_no_detections(devkit_val):
    assert list(predict(BlobDetector(), [])) == []
    result = evaluate(BlobDetector(), Dataset("none", CLASSES, []))
    assert result.images == 0
    assert np.isnan(result.mean_ap)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_raised_or_skipped(devkit_val, workers):
    Path(devkit_val[2].image_path).write_bytes(Path(devkit_val[2].image_path).read_bytes()[:-300])
    with pytest.raises(ImageError, match=r"tall\.jpg"):
        list(predict(BlobDetector(), devkit_val, batch_size=2, workers=workers))
    skipped: List[Skipped] = []
    result = evaluate(
        BlobDetector(), devkit_val, batch_size=2, workers=workers, on_bad_image="skip", skipped=skipped
    )
    assert [s.sample.image_id for s in skipped] == ["tall"]
    assert "tall.jpg" in skipped[0].reason
    assert result.images == 4
    assert result.positives == {"cat": 3, "dog": 1}


def test_the_dataset_must_have_the_classes_of_the_detector(devkit):
    swapped = open_dataset("voc", devkit, "2012_val", ("dog", "cat"), "val")
    with pytest.raises(DataError, match="dog, cat.*cat, dog"):
        evaluate(BlobDetector(), swapped)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": -1}, {"on_bad_image": "ignore"}])
def test_invalid_arguments_are_refused(devkit_val, wrong):
    with pytest.raises(OptionError):
        next(predict(BlobDetector(), devkit_val, **wrong))


def test_evaluate_computes_map(devkit_val):
    result = evaluate(BlobDetector(), devkit_val, "voc12")
    assert result.mean_ap == 1
    assert result.detections == {"cat": 3, "dog": 2}
