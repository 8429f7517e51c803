"""Write the report: one self-contained HTML page, and the plots as PNG files beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import jinja2

from .. import __version__
from ..files import write_text
from ..metrics.bootstrap import Interval
from .collect import ReportData
from .images import draw_errors
from .plots import Plot, draw_plots, log_values

PAGE = "index.html"

_PLOTS = {
    "training_plots": ("loss", "map", "learning-rate"),
    "accuracy_plots": ("ap", "precision-recall", "confusion-matrix"),
    "dataset_plots": ("objects-per-class", "anchors"),
}
_SECTIONS = ("Training", "Accuracy", "Errors", "Dataset", "Settings")
_SKIPPED_SHOWN = 20


def write_report(data: ReportData, folder: Path) -> Path:
    """Write the page and its plots into `folder`, replacing an earlier report; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = {plot.name: plot for plot in draw_plots(data, folder)}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(Path(__file__).parent)),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    text = environment.get_template("page.html").render(**_values(data, plots))
    # Class and file names may hold surrogates, which UTF-8 cannot encode.
    write_text(folder / PAGE, text, errors="backslashreplace")
    return folder / PAGE


def _values(data: ReportData, plots: Dict[str, Plot]) -> Dict[str, Any]:
    spec = data.spec
    return {
        "name": data.name,
        "version": __version__,
        "sections": [(title.lower(), title) for title in _SECTIONS],
        "subtitle": f"{spec.head} on {spec.describe()}, "
        f"{len(spec.classes)} classes, evaluated on {data.val_name}",
        "facts": _facts(data),
        **{group: [plots[name] for name in names if name in plots] for group, names in _PLOTS.items()},
        "val_name": data.val_name,
        "val_images": data.results["voc12"].images,
        "groups": draw_errors(data.errors, spec.classes),
        "notes": [*data.notes, *(f"Skipped: {skipped.reason}" for skipped in data.skipped[:_SKIPPED_SHOWN])],
        "version_rows": list(data.versions.items()),
        "option_rows": [(name, data.options.format(name)) for name in sorted(data.options.values())],
        **_log_table(data.log),
        **_class_table(data),
        **_confusion_table(data),
        "size_rows": [
            (size.name, str(size.objects), str(size.matched), _metric(size.recall))
            for size in data.results["voc12"].sizes
        ],
        **_dataset_table(data),
        "coco_rows": [(name.replace("_", " "), _metric(value)) for name, value in data.coco.metrics.items()],
    }


def _facts(data: ReportData) -> List[Tuple[str, str, str]]:
    """Name, value, and a note or nothing."""
    seconds = sum(log_values(data.log, "seconds")[1])
    speeds = log_values(data.log, "images_per_second")[1]
    facts = []
    for name in ("voc12", "voc07"):
        result = data.results[name]
        facts.append((f"mAP ({name.upper()})", _metric(result.mean_ap), _interval(result.interval)))
    facts += [
        ("AP (COCO)", _metric(data.coco.metrics["AP"]), ""),
        ("recall (any class)", _metric(data.coco.metrics["recall_any_class"]), ""),
        ("epochs", str(sum(row.get("loss", "") != "" for row in data.log)), ""),
    ]
    if seconds:
        facts.append(("training time", _duration(seconds), ""))
    if speeds:
        facts.append(("images/s", f"{sum(speeds) / len(speeds):.1f}", ""))
    return facts


def _log_table(log: Sequence[Dict[str, str]]) -> Dict[str, Any]:
    head = [name for name in (log[0] if log else {}) if any(row.get(name) for row in log)]
    return {
        "log_head": head or ["epoch"],
        "log_rows": [[row.get(name) or "" for name in head] for row in log],
    }


def _class_table(data: ReportData) -> Dict[str, Any]:
    voc12, voc07 = data.results["voc12"], data.results["voc07"]
    intervals = voc12.interval_per_class
    rows = []
    for name in voc12.classes:
        point = data.points.get(name)
        best = ["-"] * 4
        if point:
            best = [*map(_metric, (point.f1, point.precision, point.recall)), f"{point.score:.2f}"]
        aps = [voc07.ap_per_class[name], data.coco.ap_per_class[name]]
        voc12_ap = [_metric(voc12.ap_per_class[name]), _interval(intervals[name])]
        counts = [str(data.train["objects_per_class"][name]), str(voc12.positives[name])]
        rows.append([name, *counts, *voc12_ap, *map(_metric, aps), *best])
    return {
        "class_head": [
            "class", "train objects", "val objects", "AP (VOC12)", "95 % interval",
            "AP (VOC07)", "AP (COCO)", "best F1", "precision", "recall", "score",
        ],
        "class_rows": rows,
        "class_sum": [
            "mean, total", str(data.train["objects"]), str(sum(voc12.positives.values())),
            _metric(voc12.mean_ap), _interval(voc12.interval), _metric(voc07.mean_ap),
            _metric(data.coco.metrics["AP"]), "", "", "", "",
        ],
    }  # fmt: skip


def _confusion_table(data: ReportData) -> Dict[str, Any]:
    names = data.spec.classes
    rows = []
    for name, counts in zip([*names, "background"], data.errors.confusion.tolist()):
        total = max(sum(counts), 1)
        cells = [{"count": count or "", "share": count / total} for count in counts]
        rows.append({"name": name, "cells": cells})
    return {"confusion_head": [*names, "missed"], "confusion_rows": rows}


def _dataset_table(data: ReportData) -> Dict[str, Any]:
    rows = []
    for name, facts in (("training", data.train), ("validation", data.val)):
        counts = [facts[key] for key in ("images", "images_without_objects", "objects", "difficult")]
        sizes = [facts.get(key, ()) for key in ("median_image", "median_box")]
        rows.append([name, *counts, *(" x ".join(f"{side:g}" for side in size) for size in sizes)])
    return {
        "dataset_head": [
            "split", "images", "without objects", "objects", "difficult", "median image size",
            "median box size",
        ],
        "dataset_rows": rows,
    }  # fmt: skip


def _metric(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _interval(interval: Interval) -> str:
    return "-" if math.isnan(interval.low) else f"{interval.low:.3f} to {interval.high:.3f}"


def _duration(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, round(seconds / 60))} min"
