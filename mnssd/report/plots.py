"""The images of a report, by matplotlib: each as a PNG file and, for the page, as SVG with a text for those
who do not see it."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from .collect import ReportData

COLORS = ("#1f5fa8", "#b3402a", "#2f7d4f", "#7a4aa0", "#8a6d1b", "#0f7c86", "#a8326e", "#4a4a4a")
"""All of at least 4.5 to 1 against white (WCAG 2, contrast)."""

LEGEND_INSIDE = 8
"""Curves that a plot of precision names within its axes; the names of more stand below them. Where there are
more than colours and styles can tell apart, those of the rarest classes are grey and without a name."""

LEGEND_WIDTH = 92
"""Letters in a line of names below the axes."""


class Plot(NamedTuple):
    """One image: its file's name without ending, heading, a text in place of it, and SVG as a data URL."""

    name: str
    title: str
    text: str
    url: str


def draw_plots(material: ReportData, folder: Path) -> List[Plot]:
    """Draw everything there is data for; the PNG files go into `folder`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    made: List[Plot] = []
    with matplotlib.rc_context(
        {
            "font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
            "grid.color": "#e3e6ea", "axes.axisbelow": True, "svg.fonttype": "path", "figure.dpi": 100,
            "svg.hashsalt": "mnssd",
        }
    ):  # fmt: skip
        for draw in (_losses, _scores, _rates, _aps, _curves, _confusion, _classes, _anchors):
            drawn = draw(material, pyplot)
            if drawn is not None:
                figure, name, title, text = drawn
                made.append(_save(figure, name, title, text, folder))
                pyplot.close(figure)
    return made


Drawn = Tuple[Any, str, str, str]


def _save(figure: Any, name: str, title: str, text: str, folder: Path) -> Plot:
    figure.tight_layout()
    figure.savefig(folder / f"{name}.png", dpi=130, metadata={"Software": None})
    vector = io.BytesIO()
    figure.savefig(vector, format="svg", metadata={"Date": None})
    url = "data:image/svg+xml;base64," + base64.b64encode(vector.getvalue()).decode("ascii")
    return Plot(name, title, text, url)


def numbers(rows: Sequence[Dict[str, str]], column: str) -> Tuple[List[float], List[float]]:
    """Epochs and values of a column of the log, where it has any."""
    xs, ys = [], []
    for row in rows:
        try:
            value = float(row.get(column) or "")
            epoch = float(row["epoch"])
        except (KeyError, ValueError):
            continue
        if math.isfinite(value):
            xs.append(epoch)
            ys.append(value)
    return xs, ys


def _epochs(axes: Any, xs: Sequence[float]) -> None:
    """An axis of whole epochs, from the beginning."""
    axes.set_xlabel("epoch")
    axes.set_xlim(0, max(xs) * 1.03)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _losses(material: ReportData, pyplot: Any) -> Any:
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6))
    said = []
    for column, color in zip(("loss", "cls_loss", "box_loss"), COLORS):
        xs, ys = numbers(material.rows, column)
        if ys:
            axes.plot(xs, ys, color=color, label=column.replace("_", " "), marker="o", markersize=3)
            said.append(f"{column.replace('_', ' ')} from {ys[0]:.2f} to {ys[-1]:.2f}")
    if not said:
        pyplot.close(figure)
        return None
    _epochs(axes, xs)
    axes.set_ylabel("loss, mean of the epoch")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure, "loss", "Loss", "Loss over epochs: " + "; ".join(said) + "."


def _scores(material: ReportData, pyplot: Any) -> Any:
    xs, ys = numbers(material.rows, "mAP")
    if not ys:
        return None
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6))
    axes.plot(xs, ys, color=COLORS[0], marker="o", linewidth=2, label="mAP")
    names = [name for name in material.spec.classes if numbers(material.rows, f"AP {name}")[1]]
    for name in names if len(names) <= 20 else []:
        axes.plot(*numbers(material.rows, f"AP {name}"), color="#9aa3ad", linewidth=0.8)
    _epochs(axes, xs)
    axes.set_ylabel(f"mAP ({material.options.get('metric', '')}); thin: each class")
    axes.set_ylim(0, 1)
    best = int(np.argmax(ys))
    text = f"mAP over epochs: best {ys[best]:.3f} in epoch {xs[best]:g}, last {ys[-1]:.3f}."
    return figure, "map", "mAP while training", text


def _rates(material: ReportData, pyplot: Any) -> Any:
    xs, ys = numbers(material.rows, "lr")
    if not ys:
        return None
    figure, axes = pyplot.subplots(figsize=(6.4, 2.8))
    axes.plot(xs, ys, color=COLORS[2], marker="o", markersize=3)
    _epochs(axes, xs)
    axes.set_ylabel("learning rate")
    text = f"Learning rate at the end of each epoch: highest {max(ys):.2g}, last {ys[-1]:.2g}."
    return figure, "rate", "Learning rate", text


def _aps(material: ReportData, pyplot: Any) -> Any:
    result = material.results["voc12"]
    names = [name for name in result.classes if not math.isnan(result.ap_per_class[name])]
    names.sort(key=lambda name: result.ap_per_class[name])
    values = [result.ap_per_class[name] for name in names]
    figure, axes = pyplot.subplots(figsize=(6.4, 1.2 + 0.34 * len(names)))
    axes.barh(names, values, color=COLORS[0])
    for place, value in enumerate(values):
        inside = value > 0.9
        axes.text(
            value - 0.01 if inside else value + 0.01, place, f"{value:.3f}", va="center",
            ha="right" if inside else "left", color="white" if inside else "black",
        )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("average precision (VOC12, IoU 0.5)")
    text = "Average precision: " + ", ".join(f"{n} {v:.3f}" for n, v in zip(names[::-1], values[::-1])) + "."
    return figure, "ap", "AP of each class", text


def _curves(material: ReportData, pyplot: Any) -> Any:
    result = material.results["voc12"]
    styles = ("-", "--", ":", "-.")
    common = sorted(result.curves, key=lambda name: -result.positives[name])
    told_apart = set(common[: len(COLORS) * len(styles)])
    columns = min(4, max(1, LEGEND_WIDTH // (9 + max(map(len, result.curves)))))
    below = -(-len(told_apart) // columns) if len(told_apart) > LEGEND_INSIDE else 0  # lines
    figure, axes = pyplot.subplots(figsize=(6.4, 4.4 + 0.18 * below))
    for name in common[len(told_apart) :]:
        axes.plot(result.curves[name].recall, result.curves[name].precision, color="#b8bec6", linewidth=0.7)
    for number, name in enumerate(name for name in result.curves if name in told_apart):
        curve, color = result.curves[name], COLORS[number % len(COLORS)]
        axes.plot(curve.recall, curve.precision, styles[number // len(COLORS)], color=color, label=name)
        if name in material.points:
            point = material.points[name]
            axes.plot([point.recall], [point.precision], "o", color=color, markersize=5)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    if below:
        axes.legend(
            frameon=False, fontsize=9, ncol=columns, loc="upper center", bbox_to_anchor=(0.5, 0),
            borderaxespad=4,
        )  # fmt: skip
    else:
        axes.legend(frameon=False, fontsize=9)
    text = "Precision over recall of each class; dots mark the best F1: " + ", ".join(
        f"{name} {p.precision:.2f} at recall {p.recall:.2f}" for name, p in material.points.items()
    )
    return figure, "precision-recall", "Precision and recall", f"{text}."


def _confusion(material: ReportData, pyplot: Any) -> Any:
    table = material.verdict.confusion
    rows = [*material.spec.classes, "nothing there"]
    columns = [*material.spec.classes, "not found"]
    side = 1.8 + 0.5 * len(rows)
    figure, axes = pyplot.subplots(figsize=(side + 1, side))
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("answered")
    axes.set_ylabel("there is")
    for row in range(len(rows)):
        for column in range(len(columns)):
            if table[row, column]:
                ink = "white" if share[row, column] > 0.5 else "black"
                axes.text(
                    column, row, str(table[row, column]), ha="center", va="center", color=ink, fontsize=9
                )
    text = "What is taken for what: the same numbers as in the table below."
    return figure, "confusion", "Confusion matrix", text


def _classes(material: ReportData, pyplot: Any) -> Any:
    names = list(material.spec.classes)
    train = [material.train["objects_per_class"][name] for name in names]
    val = [material.val["objects_per_class"][name] for name in names]
    figure, axes = pyplot.subplots(figsize=(6.4, 1.4 + 0.42 * len(names)))
    places = np.arange(len(names))
    axes.barh(places - 0.2, train, 0.4, color=COLORS[0], label="trained on")
    axes.barh(places + 0.2, val, 0.4, color=COLORS[4], label="measured on")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("objects")
    axes.legend(frameon=False)
    text = "Objects of each class, trained and measured on: " + ", ".join(
        f"{name} {a} and {b}" for name, a, b in zip(names, train, val)
    )
    return figure, "classes", "Objects of each class", f"{text}."


def _anchors(material: ReportData, pyplot: Any) -> Any:
    if not len(material.boxes):
        return None
    figure, axes = pyplot.subplots(figsize=(6.4, 5.2))
    axes.scatter(
        material.boxes[:, 0],
        material.boxes[:, 1],
        s=7,
        color=COLORS[0],
        alpha=0.35,
        linewidths=0,
        label="boxes",
    )
    shapes = np.unique(material.anchors[:, 2:].round(1), axis=0)
    axes.scatter(shapes[:, 0], shapes[:, 1], marker="x", color=COLORS[1], label="anchors")
    width, height = material.spec.size
    axes.set_xlim(0, width * 1.4)
    axes.set_ylim(0, height * 1.4)
    axes.set_xlabel("width, pixels of the network's input")
    axes.set_ylabel("height")
    axes.legend(frameon=False)
    share, overlap = material.train.get("boxes_without_anchor"), material.options["match_iou"]
    without = "" if share is None else f"; {share:.1%} of the boxes overlap none by {overlap:g}"
    what = f"{len(material.boxes)} training boxes and {len(shapes)} shapes of anchors"
    return figure, "anchors", "Boxes and anchors", f"Widths and heights of {what}{without}."
