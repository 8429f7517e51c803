"""Checks of the formats that are written layer by layer: TensorFlow Lite and ncnn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Sequence, Tuple

import numpy as np

from mnssd.export.options import ExportOptions
from mnssd.export.sidecar import describe_file
from mnssd.export.write import export_network
from mnssd.inference.detector import Detector

from .detectors import SIZE, make_image, make_net


def export_small(folder: Path, network: str, formats: Sequence[str]) -> Tuple[Any, Any, Path]:
    """A small detector, its structure, and the folder of its export."""
    net, spec = make_net(1, "ssdlite", network)
    images = [make_image(i, *SIZE) for i in range(4)]
    export_network(net, spec, folder, images, "x", ExportOptions(tuple(formats)))
    return net, spec, folder


def assert_same_detections(
    name: str, head: str, network: str, image_files: List[str], folder: Path, pixels: bool = False
) -> None:
    """Export a detector in the format `name`, and compare its detections with those of MXNet."""
    net, spec = make_net(1, head, network)
    options = ExportOptions(("symbol", name), pixels=pixels)
    parity = export_network(net, spec, folder, image_files[:3], "x", options).parity[name]
    assert parity.as_dict()["detections"] > 50
    assert parity.as_dict()["heads_max_difference"] < 1e-3
    expected, actual = (Detector.load(folder, engine=engine) for engine in ("mxnet", name))
    for ours, theirs in zip(expected(image_files[:3], score=0.3), actual(image_files[:3], score=0.3)):
        assert len(ours) == len(theirs) > 3
        for label, score, box in ours:
            assert any(
                label == other
                and abs(score - other_score) < 1e-3
                and np.abs(np.subtract(box, place)).max() < 0.5
                for other, other_score, place in theirs
            )


def copy_files(folder: Path, target: Path) -> Path:
    """Copy an export, to damage it."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Replace a file of an export, and its checksum."""
    sidecar = json.loads((folder / "x.json").read_text())
    (folder / name).write_bytes(content)
    (kind,) = (kind for kind, entry in sidecar["files"].items() if entry["file"] == name)
    sidecar["files"][kind] = describe_file(folder / name)
    (folder / "x.json").write_text(json.dumps(sidecar))
