"""The page: one HTML file that needs nothing else, beside the plots as PNG files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List, Sequence

import jinja2

from .. import __version__
from ..files import write_whole
from .collect import ReportData
from .images import draw_mistakes
from .plots import Plot, draw_plots, numbers

PAGE = "index.html"
_TRAINING, _PRECISION, _DATA = (
    ("loss", "map", "rate"),
    ("ap", "precision-recall", "confusion"),
    ("classes", "anchors"),
)
_SECTIONS = (
    ("training", "Training"),
    ("precision", "How precise it is"),
    ("mistakes", "Mistakes"),
    ("data", "The data"),
    ("settings", "Settings and versions"),
)


def write_report(material: ReportData, folder: Path) -> Path:
    """Write the page and its images into `folder`, over those of an earlier report.

    Returns
    -------
    Path
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = {plot.name: plot for plot in draw_plots(material, folder)}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(Path(__file__).parent)),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    text = environment.get_template("page.html").render(**_values(material, plots))
    # Names of classes and files may hold what is no text.
    write_whole(folder / PAGE, text.encode("utf-8", "backslashreplace"))
    return folder / PAGE


def _values(material: ReportData, plots: Dict[str, Plot]) -> Dict[str, Any]:
    spec = material.spec
    return {
        "name": material.name,
        "version": __version__,
        "sections": _SECTIONS,
        "subtitle": f"{spec.head} on {spec.network} x{spec.width:g} at {spec.size[0]}x{spec.size[1]}, "
        f"{len(spec.classes)} classes, measured on {material.val_name}",
        "facts": _facts(material),
        "training_plots": [plots[name] for name in _TRAINING if name in plots],
        "precision_plots": [plots[name] for name in _PRECISION if name in plots],
        "data_plots": [plots[name] for name in _DATA if name in plots],
        "val_name": material.val_name,
        "val_images": material.results["voc12"].images,
        "groups": draw_mistakes(material.verdict, spec.classes),
        "notes": [*material.notes, *(f"Not measured: {skipped.reason}" for skipped in material.skipped[:20])],
        "version_rows": list(material.versions.items()),
        "option_rows": [(name, _plain(value)) for name, value in sorted(material.options.items())],
        **_log(material.rows),
        **_classes(material),
        **_confusion(material),
        **_data(material),
        "coco_rows": [
            (name.replace("_", " "), _share(value)) for name, value in material.coco.figures.items()
        ],
    }


def _facts(material: ReportData) -> List[Sequence[str]]:
    seconds = sum(numbers(material.rows, "seconds")[1])
    speeds = numbers(material.rows, "images_per_second")[1]
    facts: List[Sequence[str]] = [
        ("mAP, VOC12", _share(material.results["voc12"].mean_ap)),
        ("mAP, VOC07", _share(material.results["voc07"].mean_ap)),
        ("AP, COCO", _share(material.coco.figures["AP"])),
        ("recall of any class", _share(material.coco.figures["recall_any_class"])),
        ("epochs", str(sum(row.get("loss", "") != "" for row in material.rows))),
    ]
    if seconds:
        facts.append(("trained for", _clock(seconds)))
    if speeds:
        facts.append(("images a second", f"{sum(speeds) / len(speeds):.1f}"))
    return facts


def _log(rows: Sequence[Dict[str, str]]) -> Dict[str, Any]:
    head = [name for name in (rows[0] if rows else {}) if any(row.get(name) for row in rows)]
    return {
        "log_head": head or ["epoch"],
        "log_rows": [[row.get(name) or "" for name in head] for row in rows],
    }


def _classes(material: ReportData) -> Dict[str, Any]:
    voc12, voc07 = material.results["voc12"], material.results["voc07"]
    rows = []
    for name in voc12.classes:
        point = material.points.get(name)
        best = (
            [f"{point.f1:.3f}", f"{point.precision:.3f}", f"{point.recall:.3f}", f"{point.score:.2f}"]
            if point
            else ["-"] * 4
        )
        aps = [voc12.ap_per_class[name], voc07.ap_per_class[name], material.coco.ap_per_class[name]]
        counts = [str(voc12.positives[name]), str(material.train["objects_per_class"][name])]
        rows.append([name, *counts, *map(_share, aps), *best])
    return {
        "class_head": [
            "class", "objects", "trained on", "AP (VOC12)", "AP (VOC07)", "AP (COCO)", "best F1", "precision",
            "recall", "from score",
        ],
        "class_rows": rows,
        "class_sum": [
            "mean", str(sum(voc12.positives.values())), str(material.train["objects"]),
            _share(voc12.mean_ap), _share(voc07.mean_ap), _share(material.coco.figures["AP"]), "", "", "", "",
        ],
    }  # fmt: skip


def _confusion(material: ReportData) -> Dict[str, Any]:
    names = material.spec.classes
    rows = []
    for name, counts in zip([*names, "nothing there"], material.verdict.confusion.tolist()):
        total = max(sum(counts), 1)
        cells = [{"count": count or "", "share": count / total} for count in counts]
        rows.append({"name": name, "cells": cells})
    return {"confusion_head": [*names, "not found"], "confusion_rows": rows}


def _data(material: ReportData) -> Dict[str, Any]:
    rows = []
    for name, known in (("trained on", material.train), ("measured on", material.val)):
        sizes = [
            " x ".join(f"{side:g}" for side in known.get(key, ())) for key in ("median_image", "median_box")
        ]
        counts = [known[key] for key in ("images", "images_without_objects", "objects", "difficult")]
        rows.append([name, *counts, *sizes])
    head = ["list", "images", "without objects", "objects", "difficult", "typical image", "typical box"]
    return {"data_head": head, "data_rows": rows}


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _clock(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, round(seconds / 60))} min"
