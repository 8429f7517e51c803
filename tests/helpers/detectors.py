"""Small untrained networks with varied outputs, images of noise, and run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import cv2
import mxnet as mx
import numpy as np
import yaml

from mnssd import zoo
from mnssd.export.network import ExportedDetector
from mnssd.export.options import ExportOptions
from mnssd.runtime.settings import wait_all

CLASSES = ("cat", "dog", "cow")
SIZE = (128, 96)


def make_net(seed: int = 0, head: str = "ssd", network: str = "mobilenet_v2") -> Tuple[Any, zoo.DetectorSpec]:
    """An SSD whose scores spread over 0 to 1, and its structure."""
    spec = zoo.DetectorSpec(CLASSES, network, 0.25, SIZE, head=head)
    net = zoo.build_detector(spec)
    rng = _randomize(net, SIZE, seed)
    for predictor in net.heads.class_predictors:
        final = getattr(predictor, "project", predictor)
        bias = rng.normal(0, 1, final.bias.shape).reshape(-1, len(CLASSES) + 1)
        bias[:, 0] += 2  # most of an image is background
        final.bias.set_data(mx.nd.array(bias.reshape(-1)))
    return net, spec


def make_classifier(
    network: str = "mobilenet_v2",
    val_crop: float = 1.0,
    classes: Tuple[str, ...] = (*CLASSES, "hen"),
    size: Tuple[int, int] = (128, 120),
) -> Tuple[Any, zoo.ClassifierSpec]:
    """A classifier that predicts different classes for different images, and its structure."""
    spec = zoo.ClassifierSpec(classes, network, 0.25, size, val_crop=val_crop)
    net = zoo.build_classifier(spec)
    _randomize(net, size, 0)
    return net, spec


def random_network(spec: Any) -> Any:
    """A detector or classifier of this structure with varied weights."""
    net = zoo.build_detector(spec) if isinstance(spec, zoo.DetectorSpec) else zoo.build_classifier(spec)
    _randomize(net, spec.size, 0)
    return net


def _randomize(net: Any, size: Tuple[int, int], seed: int) -> np.random.Generator:
    """Initialize weights, and vary statistics and scales, which are 0 or 1 in a fresh network."""
    mx.random.seed(seed)
    zoo.initialize(net)
    net(mx.nd.zeros((1, 3, size[1], size[0])))
    rng = np.random.default_rng(seed)
    for name, parameter in sorted(net.collect_params().items()):
        if name.endswith("running_mean"):
            parameter.set_data(mx.nd.array(rng.normal(0, 0.1, parameter.shape)))
        elif name.endswith(("running_var", "gamma")):
            parameter.set_data(mx.nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
    return rng


def inference_graph(net: Any, spec: Any, raw_heads: bool = False) -> Tuple[Any, Any]:
    """The folded graph of a detector and its arrays, as exports start from them."""
    return ExportedDetector(net, spec, ExportOptions(), []).graph(raw_heads)


def make_image(seed: int, width: int = 200, height: int = 150) -> np.ndarray:
    """Smooth colored noise with a rectangle, RGB."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    corner = (int(rng.integers(0, width)), int(rng.integers(0, height)))
    return np.ascontiguousarray(cv2.rectangle(image, corner, (width // 2, height // 2), (250, 30, 90), -1))


def write_image(path: Path, image: np.ndarray) -> str:
    """Write RGB pixels in the format of the path's ending."""
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return str(path)


def write_images(folder: Path, count: int, ending: str = ".jpg") -> List[str]:
    """Write `count` different images of different sizes."""
    return [
        write_image(folder / f"image{i}{ending}", make_image(i, 160 + 30 * i, 150 + 10 * i))
        for i in range(count)
    ]


def write_video(path: Path, frames: int) -> None:
    """Write a video of 160x120 at 5 frames per second; frame i is ``make_image(20 + i, 160, 120)``."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (160, 120))
    assert writer.isOpened()
    for i in range(frames):
        writer.write(cv2.cvtColor(make_image(20 + i, 160, 120), cv2.COLOR_RGB2BGR))
    writer.release()


def write_run(folder: Path, net: Any, spec: Any, **options: Any) -> Path:
    """Write what inference and export read of a run folder."""
    folder.mkdir()
    detects = isinstance(spec, zoo.DetectorSpec)
    kind, task = ("detector", "detection") if detects else ("classifier", "classification")
    config: Dict[str, Any] = {"task": task, kind: spec.as_dict(), "options": options}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    wait_all()
    (net.heads if detects else net).save_parameters(str(folder / "best.params"))
    return folder


def network_outputs(net: Any, x: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, scores and boxes of the Gluon block itself."""
    ids, scores, boxes = (out.asnumpy() for out in net(mx.nd.array(x)))
    return ids, scores, boxes
