"""Plots with class names in all scripts, as PNG and SVG."""

from __future__ import annotations

import base64
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mnssd.inference.text import TextMask
from mnssd.metrics.bootstrap import Interval
from mnssd.options import Size
from mnssd.report import plots
from mnssd.report.canvas import _rotate

NAMES = ["кошка", "猫", "قطة", "बिल्ली", "a$b$c", "_under"]
PICTURES = {"猫", "قطة", "बिल्ली"}
"""Names that matplotlib cannot draw itself."""


def report_data(names: List[str]) -> Any:
    """What the plots of classes read."""
    curve = SimpleNamespace(recall=np.array([0.1, 0.5]), precision=np.array([1.0, 0.5]))
    counts = {name: row for row, name in enumerate(names)}
    result = SimpleNamespace(
        classes=names, ap_per_class=dict.fromkeys(names, 0.5),
        interval_per_class=dict.fromkeys(names, Interval(0.4, 0.6)), curves=dict.fromkeys(names, curve),
        positives=counts,
    )  # fmt: skip
    confusion = np.ones((len(names) + 1, len(names) + 1), int)
    statistics = {"objects_per_class": counts}
    return SimpleNamespace(
        log=[], spec=SimpleNamespace(classes=names), results={"voc12": result}, points={}, train=statistics,
        val=statistics, errors=SimpleNamespace(confusion=confusion), boxes=[],
    )  # fmt: skip


def test_names_in_all_scripts_are_drawn_without_warnings(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = plots.draw_plots(report_data(NAMES), tmp_path)
    texts = {"ap": 1, "precision-recall": 1, "confusion-matrix": 2, "objects-per-class": 1}
    assert {plot.name for plot in drawn} == set(texts)
    for plot in drawn:
        svg = ElementTree.fromstring(base64.b64decode(plot.url.split(",")[1]))
        images = [element for element in svg.iter() if element.tag.endswith("}image")]
        others = 1 if plot.name == "confusion-matrix" else 0  # the matrix itself
        assert len(images) == len(PICTURES) * texts[plot.name] + others
        with Image.open(tmp_path / f"{plot.name}.png") as image:
            assert np.asarray(image.convert("L")).min() < 50


def test_legends_have_names_that_begin_with_an_underscore() -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = plots._precision_recall(report_data(NAMES), pyplot)[0]  # type: ignore[index]
    shown = [label.get_text().strip() for label in figure.axes[0].get_legend().get_texts()]
    pyplot.close(figure)
    assert shown == NAMES


@pytest.mark.parametrize(
    ("angle", "start"), [(0, (0, 8)), (90, (8, 30)), (180, (30, 2)), (270, (2, 0)), (360, (0, 8))]
)
def test_rotated_text_starts_where_its_baseline_does(angle: float, start: Size) -> None:
    pixels, place = _rotate(TextMask(np.full((10, 30), 255, np.uint8), 8), angle)
    assert pixels.shape == ((10, 30) if angle % 180 == 0 else (30, 10))
    np.testing.assert_allclose(place, start, atol=1e-6)
