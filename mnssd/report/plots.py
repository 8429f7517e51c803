"""Plots of a report: a PNG file each, and for the page an SVG with a text alternative."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .collect import ReportData

# Contrast of at least 4.5 to 1 against white (WCAG 2, success criterion 1.4.3).
_COLORS = ("#1f5fa8", "#b3402a", "#2f7d4f", "#7a4aa0", "#8a6d1b", "#0f7c86", "#a8326e", "#4a4a4a")
_LINE_STYLES = ("-", "--", ":", "-.")
_GRAY = "#9aa3ad"

_LEGEND_INSIDE = 8  # curves; the legend of more is placed below the axes
_LEGEND_WIDTH = 92  # characters per line of a legend below the axes


class Plot(NamedTuple):
    """One plot: file name without suffix, heading, text alternative, and the SVG as a data URL."""

    name: str
    title: str
    text: str
    url: str


Figure = Optional[Tuple[Any, str, str, str]]
"""A matplotlib figure with name, title and text of its `Plot`; None if there is no data."""


def draw_plots(data: ReportData, folder: Path) -> List[Plot]:
    """Draw all plots there is data for, and write them to `folder` as PNG files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from .canvas import AnyScriptCanvas

    plots: List[Plot] = []
    with matplotlib.rc_context(
        {
            "font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
            "grid.color": "#e3e6ea", "axes.axisbelow": True, "svg.fonttype": "path", "figure.dpi": 100,
            "svg.hashsalt": "mnssd", "font.family": "DejaVu Sans",
            "text.parse_math": False,  # class names may have dollars
        }
    ):  # fmt: skip
        for draw in (
            _loss, _map, _learning_rate, _ap_per_class, _precision_recall, _confusion_matrix,
            _objects_per_class, _anchors,
        ):  # fmt: skip
            drawn = draw(data, pyplot)
            if drawn is None:
                continue
            figure, name, title, text = drawn
            AnyScriptCanvas(figure)
            figure.tight_layout()
            figure.savefig(folder / f"{name}.png", dpi=130, metadata={"Software": None})
            svg = io.BytesIO()
            figure.savefig(svg, format="svg", metadata={"Date": None})
            plots.append(Plot(name, title, text, data_url("image/svg+xml", svg.getvalue())))
            pyplot.close(figure)
    return plots


def data_url(media_type: str, content: bytes) -> str:
    """Content of a file as a URL, which makes the page self-contained."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def log_values(log: Sequence[Dict[str, str]], column: str) -> Tuple[List[float], List[float]]:
    """Epochs and values of a column of the log; rows without a finite number are skipped."""
    epochs, values = [], []
    for row in log:
        try:
            value = float(row.get(column) or "")
            epoch = float(row["epoch"])
        except (KeyError, ValueError):
            continue
        if math.isfinite(value):
            epochs.append(epoch)
            values.append(value)
    return epochs, values


def _set_axes(axes: Any, epochs: Sequence[float], **properties: Any) -> None:
    """Set the x axis of a plot over epochs, and further properties."""
    axes.set(xlabel="epoch", xlim=(0, max(epochs) * 1.03), **properties)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _loss(data: ReportData, pyplot: Any) -> Figure:
    names = {"loss": "total", "cls_loss": "classification", "box_loss": "box regression"}
    curves = {label: log_values(data.log, column) for column, label in names.items()}
    curves = {label: curve for label, curve in curves.items() if curve[1]}
    if not curves:
        return None
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6))
    for (label, (epochs, values)), color in zip(curves.items(), _COLORS):
        axes.plot(epochs, values, color=color, label=label, marker="o", markersize=3)
    _set_axes(axes, epochs, ylabel="training loss, epoch mean", ylim=(0, None))
    axes.legend(frameon=False)
    changes = (f"{label} from {values[0]:.2f} to {values[-1]:.2f}" for label, (_, values) in curves.items())
    return figure, "loss", "Training loss", f"Training loss per epoch: {'; '.join(changes)}."


def _map(data: ReportData, pyplot: Any) -> Figure:
    epochs, values = log_values(data.log, "mAP")
    if not values:
        return None
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6))
    per_class = [log_values(data.log, f"AP {name}") for name in data.spec.classes]
    per_class = [curve for curve in per_class if curve[1]]
    for number, curve in enumerate(per_class if len(per_class) <= 20 else []):
        axes.plot(*curve, color=_GRAY, linewidth=0.8, label="" if number else "AP per class")
    axes.plot(epochs, values, color=_COLORS[0], marker="o", linewidth=2, label="mAP")
    _set_axes(axes, epochs, ylabel=f"mAP ({data.options.data.metric.upper()})", ylim=(0, 1))
    axes.legend(frameon=False)
    best = int(np.argmax(values))
    text = f"mAP per epoch: best {values[best]:.3f} in epoch {epochs[best]:g}, last {values[-1]:.3f}."
    return figure, "map", "Validation mAP", text


def _learning_rate(data: ReportData, pyplot: Any) -> Figure:
    epochs, values = log_values(data.log, "lr")
    if not values:
        return None
    figure, axes = pyplot.subplots(figsize=(6.4, 2.8))
    axes.plot(epochs, values, color=_COLORS[2], marker="o", markersize=3)
    _set_axes(axes, epochs, ylabel="learning rate")
    text = f"Learning rate at the end of each epoch: highest {max(values):.2g}, last {values[-1]:.2g}."
    return figure, "learning-rate", "Learning rate", text


def _ap_per_class(data: ReportData, pyplot: Any) -> Figure:
    result = data.results["voc12"]
    names = [name for name in result.classes if not math.isnan(result.ap_per_class[name])]
    names.sort(key=lambda name: result.ap_per_class[name])
    values = [result.ap_per_class[name] for name in names]
    intervals = result.interval_per_class
    lows, highs = ([end(intervals[name]) for name in names] for end in (min, max))
    figure, axes = pyplot.subplots(figsize=(6.4, 1.2 + 0.34 * len(names)))
    axes.barh(names, values, color=_COLORS[0])
    for color, width in (("white", 4), ("black", 1.5)):
        axes.hlines(range(len(names)), lows, highs, color=color, linewidth=width)
    for row, (value, low, high) in enumerate(zip(values, lows, highs)):
        left, right = min(value, low), max(value, high)
        inside = right > 0.88 and left > 0.14
        axes.text(
            left - 0.02 if inside else right + 0.02, row, f"{value:.3f}", va="center",
            ha="right" if inside else "left", color="white" if inside else "black",
        )  # fmt: skip
    axes.set(xlim=(0, 1), xlabel="average precision (VOC12, IoU 0.5), 95 % interval")
    axes.grid(axis="y", visible=False)
    rows = [
        f"{name} {value:.3f} ({low:.3f} to {high:.3f})"
        for name, value, low, high in zip(names, values, lows, highs)
    ]
    best_first = ", ".join(rows[::-1])
    return figure, "ap", "AP per class", f"Average precision and 95 % interval: {best_first}."


def _precision_recall(data: ReportData, pyplot: Any) -> Figure:
    """Curves per class; with more classes than line styles the rarest are gray and not in the legend."""
    result = data.results["voc12"]
    most_common = sorted(result.curves, key=lambda name: -result.positives[name])
    named = set(most_common[: len(_COLORS) * len(_LINE_STYLES)])
    columns = min(4, max(1, _LEGEND_WIDTH // (9 + max(map(len, result.curves)))))
    lines_below = -(-len(named) // columns) if len(named) > _LEGEND_INSIDE else 0
    figure, axes = pyplot.subplots(figsize=(6.4, 4.4 + 0.18 * lines_below))
    for name in most_common[len(named) :]:
        axes.plot(result.curves[name].recall, result.curves[name].precision, color="#b8bec6", linewidth=0.7)
    for number, name in enumerate(name for name in result.curves if name in named):
        curve, color = result.curves[name], _COLORS[number % len(_COLORS)]
        label = f" {name}" if name.startswith("_") else name  # legends leave out labels that begin with _
        axes.plot(
            curve.recall, curve.precision, _LINE_STYLES[number // len(_COLORS)], color=color, label=label
        )
        if name in data.points:
            point = data.points[name]
            axes.plot([point.recall], [point.precision], "o", color=color, markersize=5)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall (dots: best F1)", ylabel="precision")
    below = {"ncol": columns, "loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4}
    axes.legend(frameon=False, fontsize=9, **(below if lines_below else {}))
    best = ", ".join(f"{name} {p.precision:.2f} at recall {p.recall:.2f}" for name, p in data.points.items())
    text = f"Precision-recall curve of each class. Precision at the best F1: {best}."
    return figure, "precision-recall", "Precision-recall curves", text


def _confusion_matrix(data: ReportData, pyplot: Any) -> Figure:
    counts = data.errors.confusion
    side = 1.8 + 0.5 * len(counts)
    figure, axes = pyplot.subplots(figsize=(side + 1, side))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.set_xticks(range(len(counts)), [*data.spec.classes, "missed"], rotation=60, ha="right")
    axes.set_yticks(range(len(counts)), [*data.spec.classes, "background"])
    axes.set(xlabel="predicted", ylabel="ground truth")
    for row, column in np.argwhere(counts).tolist():
        axes.text(
            column, row, str(counts[row, column]), ha="center", va="center", fontsize=9,
            color="white" if share[row, column] > 0.5 else "black",
        )  # fmt: skip
    text = "Confusion matrix with the same numbers as the table in the section Errors."
    return figure, "confusion-matrix", "Confusion matrix", text


def _objects_per_class(data: ReportData, pyplot: Any) -> Figure:
    names = list(data.spec.classes)
    train = [data.train["objects_per_class"][name] for name in names]
    val = [data.val["objects_per_class"][name] for name in names]
    figure, axes = pyplot.subplots(figsize=(6.4, 1.4 + 0.42 * len(names)))
    rows = np.arange(len(names))
    axes.barh(rows - 0.2, train, 0.4, color=_COLORS[0], label="training")
    axes.barh(rows + 0.2, val, 0.4, color=_COLORS[4], label="validation")
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("objects")
    axes.legend(frameon=False)
    counts = ", ".join(f"{name} {a} and {b}" for name, a, b in zip(names, train, val))
    text = f"Objects per class for training and validation: {counts}."
    return figure, "objects-per-class", "Objects per class", text


def _anchors(data: ReportData, pyplot: Any) -> Figure:
    if not len(data.boxes):
        return None
    figure, axes = pyplot.subplots(figsize=(6.4, 5.2))
    widths, heights = data.boxes.T
    axes.scatter(widths, heights, s=7, color=_COLORS[0], alpha=0.35, linewidths=0, label="training boxes")
    shapes = np.unique(data.anchors[:, 2:].round(1), axis=0)
    axes.scatter(shapes[:, 0], shapes[:, 1], marker="x", color=_COLORS[1], label="anchors")
    width, height = data.spec.size
    axes.set(xlim=(0, width * 1.4), ylim=(0, height * 1.4))
    axes.set(xlabel="width, pixels of the network input", ylabel="height, pixels of the network input")
    axes.legend(frameon=False)
    unmatched, iou = data.train.get("boxes_without_anchor"), data.options.data.match_iou
    text = f"Widths and heights of {len(data.boxes)} training boxes and {len(shapes)} anchor shapes."
    if unmatched is not None:
        text += f" {unmatched:.1%} of the boxes have no anchor with an IoU of at least {iou:g}."
    return figure, "anchors", "Box and anchor sizes", text
