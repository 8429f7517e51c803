"""OpenVINO IR: the detector of the reference data, and damaged copies of it."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.imports import outcome

import mnssd
from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.image import to_network_input
from mnssd.importers.families import family_of

NAME = "person-vehicle-bike-detection-2000-fp16"


@pytest.fixture(scope="module")
def original(shared: Path) -> Path:
    return shared / "import" / f"{NAME}.xml"


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """The XML in a folder of its own, beside a link to its weights."""
    path = tmp_path / "net.xml"
    shutil.copyfile(original, path)
    path.with_suffix(".bin").symlink_to(original.with_suffix(".bin"))
    return path


@pytest.fixture(scope="module")
def run(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "labels.txt").write_text("vehicle\nperson\nbike\n", encoding="utf-8")
    return mnssd.import_model(original, folder / "labels.txt", folder / "run").path


def test_structure(run: Path) -> None:
    net = zoo.load_detector(str(run))
    assert net.classes == ("vehicle", "person", "bike")
    assert (net.spec.network, net.spec.width, net.size) == ("mobilenet_v2", 1.0, (256, 256))
    assert net.map_sizes() == [(16, 16), (8, 8)]
    assert len(net.anchors) == 16 * 16 * 4 + 8 * 8 * 5
    # Widths and heights of the XML; centers at half a step.
    np.testing.assert_allclose(net.anchors[0], (8, 8, 7.16418, 12.2863), atol=1e-4)
    np.testing.assert_allclose(net.anchors[-1], (240, 240, 150.333, 146.429), atol=1e-3)


def test_background_comes_first(run: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    net = zoo.load_detector(str(run))
    logits = net.heads(mx.nd.array(to_network_input(list(image))))[0].asnumpy()[0]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert scores[:, 0].mean() > 0.9  # the background, the file's last column, is first here


def test_engine_agrees(original: Path, run: Path) -> None:
    pytest.importorskip("openvino")
    image = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    family = family_of(str(original))
    outputs = family.run_engine(str(original), family.read(str(original)), image)
    assert outputs is not None
    net = zoo.load_detector(str(run))
    logits, boxes = (o.asnumpy() for o in net.heads(mx.nd.array(to_network_input(list(image)))))
    np.testing.assert_allclose(logits, outputs.logits[..., [3, 0, 1, 2]], atol=1e-3)
    np.testing.assert_allclose(boxes, outputs.boxes, atol=1e-3)


def replaced(pattern: str, new: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, new, text, count=1)


CHANGES: Dict[str, Callable[[str], str]] = {
    "entity": lambda text: '<!DOCTYPE net [<!ENTITY a "b">]>' + text,
    "truncated": lambda text: text[: len(text) // 2],
    "no layers": lambda text: "<net name='a'><layers/></net>",
    "unknown layer": replaced(r'type="ReLU"', 'type="Mish"'),
    "offset": replaced(r'offset="0"', 'offset="999999999"'),
    "size": replaced(r'size="\d+"', 'size="-4"'),
    "shape": replaced(r'shape="32, ?3, ?3, ?3"', 'shape="32,3,3,9999999999"'),
    "edge": replaced(r'from-layer="0"', 'from-layer="99999"'),
    "cycle": replaced(r'from-layer="0"', 'from-layer="493"'),
    "limits": replaced(r'max="6"', 'max="4"'),
    "dilation": replaced(r'dilations="1, ?1"', 'dilations="2,2"'),
    "anchors": replaced(r'clip="false"', 'clip="true"'),
    "no detections": replaced(r'type="DetectionOutput"', 'type="Result"'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_files_are_refused_by_name(change: str, copy: Path, capsys: Any) -> None:
    text = copy.read_text(encoding="utf-8")
    changed = CHANGES[change](text)
    assert changed != text
    copy.write_text(changed, encoding="utf-8")
    output = copy.parent / "run"
    assert main(["import", str(copy), "--output", str(output)]) == 1
    assert str(copy) in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("size", [None, 0, 1000])
def test_weights_beside_it_are_missing_or_short(size: Any, copy: Path, capsys: Any) -> None:
    place = copy.with_suffix(".bin")
    place.unlink()
    if size is not None:
        place.write_bytes(bytes(size))
    assert main(["import", str(copy), "--output", str(copy.parent / "run")]) == 1
    assert copy.stem in capsys.readouterr().err


@pytest.mark.parametrize(
    "count", [30, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_random_damage_is_refused_or_read(count: int, copy: Path) -> None:
    text, rng, outcomes = copy.read_text(encoding="utf-8"), random.Random(count), []
    places = [match.span() for match in re.finditer(r'(?<=")[^"<>]*(?=")', text)]
    for _ in range(count):
        parts: Tuple[int, int] = rng.choice(places)
        value = rng.choice(("-1", "0", "1", "3", "9" * 20, "x", "", "1,1", "1e400", "nan"))
        copy.write_text(text[: parts[0]] + value + text[parts[1] :], encoding="utf-8")
        outcomes.append(outcome(copy))
    assert set(outcomes) <= {None, True}  # read, or refused by name
    assert True in outcomes
