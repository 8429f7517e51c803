"""The report: complete, self-contained, accessible, with the numbers of the evaluation."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Tuple

import cv2
import matplotlib
import numpy as np
import pytest
from helpers.runs import train

from mnssd.cli.main import main
from mnssd.data.sample import Sample
from mnssd.metrics.error_analysis import DetectionError, ErrorType
from mnssd.report import plots
from mnssd.report.images import TITLES, draw_error


class Page(html.parser.HTMLParser):
    """Tags and text of an HTML page; asserts that every tag is closed."""

    VOID = frozenset({"meta", "link", "img", "br", "hr"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: List[Tuple[str, Dict[str, Optional[str]]]] = []
        self.open: List[str] = []
        self.words: List[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    def all(self, tag: str) -> List[Dict[str, Optional[str]]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def test_example_image_of_an_error(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((100, 100, 3), 128, np.uint8))
    boxes, flags = np.array([[10, 10, 49, 49]], np.float32), np.zeros(1, bool)
    sample = Sample("a", str(tmp_path / "a.png"), boxes, np.zeros(1, np.int32), flags, (100, 100))
    error = DetectionError(ErrorType.LOCATION, sample, np.array([30, 10, 69, 49]), 0, 0.9, 0, 1 / 3)
    example = draw_error(error, ("cat", "dog"))
    assert example.text == "cat 0.90, IoU 0.33, a"
    assert max(example.width, example.height) == 320


def test_every_error_type_has_a_title() -> None:
    assert set(TITLES) == set(ErrorType)


@pytest.mark.parametrize(("classes", "named", "inside"), [(3, 3, True), (20, 20, False), (80, 32, False)])
def test_legend_of_precision_recall_curves_hides_no_curve(classes: int, named: int, inside: bool) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [f"class number {number}" for number in range(classes)]
    curve = SimpleNamespace(recall=np.array([0.1, 0.5]), precision=np.array([1.0, 0.5]))
    result = SimpleNamespace(
        curves=dict.fromkeys(names, curve), positives={name: row for row, name in enumerate(names)}
    )
    data: Any = SimpleNamespace(results={"voc12": result}, points={})
    figure = plots._precision_recall(data, pyplot)[0]
    figure.tight_layout()
    axes = figure.axes[0]
    legend = axes.get_legend()
    shown = [text.get_text() for text in legend.get_texts()]
    assert sorted(shown) == sorted(names[-named:])  # those with the most objects
    figure.canvas.draw()
    extent = legend.get_window_extent()
    assert extent.y0 >= 0
    assert extent.x0 >= 0
    assert extent.x1 <= figure.bbox.x1
    label = axes.xaxis.label.get_window_extent()
    assert (extent.y1 > axes.bbox.y0) == inside
    assert inside or extent.y1 < label.y0
    pyplot.close(figure)


def test_page_is_self_contained(run: Path) -> None:
    page = Page(run / "report" / "index.html")
    targets = [attributes.get(name) or "" for _, attributes in page.tags for name in ("src", "href")]
    files = [target for target in targets if target and not target.startswith(("data:image/", "data:,", "#"))]
    assert all(re.fullmatch(r"[a-z-]+\.png", file) for file in files)
    assert all((run / "report" / file).stat().st_size > 1000 for file in files)
    assert len(files) == 8
    assert "@import" not in (run / "report" / "index.html").read_text()
    assert page.all("script") == []


def test_page_is_accessible(run: Path) -> None:
    page = Page(run / "report" / "index.html")
    images = page.all("img")
    assert len(images) > 8
    assert all(len(attributes["alt"] or "") > 5 for attributes in images)
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    ids = {attributes.get("id") for _, attributes in page.tags}
    anchors = [a["href"][1:] for a in page.all("a") if (a["href"] or "").startswith("#")]
    assert len(anchors) == 6
    assert set(anchors) <= ids


def test_page_has_the_results_of_the_evaluation(run: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    assert main(["eval", str(run), "--metric", "voc12", "--json", str(result)]) == 0
    mean_ap = json.loads(result.read_text())["mAP"]
    text = Page(run / "report" / "index.html").text
    assert f"mAP (VOC12) {mean_ap:.3f}" in text
    assert all(text.count(f"{end:.3f}") >= 2 for end in json.loads(result.read_text())["interval"])
    sizes = json.loads(result.read_text())["recall_by_size"]
    assert sum(size["objects"] for size in sizes.values()) > 0
    for name, size in sizes.items():
        recall = "-" if size["recall"] is None else f"{size['recall']:.3f}"
        assert f"{name} {size['objects']} {size['matched']} {recall}" in text
    assert all(name in text for name in ("circle", "predictor_lr", *(title for title, _ in TITLES.values())))


@pytest.mark.slow
def test_report_is_reproducible_after_the_dataset_moved(run: Path, shapes: str, tmp_path: Path) -> None:
    first = (run / "report" / "index.html").read_text()
    moved = tmp_path / "moved" / Path(shapes).name
    shutil.copytree(shapes, moved)
    output = tmp_path / "page"
    assert main(["report", str(run), "--data-root", str(moved), "--output", str(output)]) == 0
    second = (output / "index.html").read_text()

    def without_date_and_path(text: str) -> str:
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d|/\S*?(moved|shapes)", "", text)

    assert without_date_and_path(second) == without_date_and_path(first)


def test_class_names_are_escaped(shapes: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(shapes, data)
    for path in (data / "Annotations").iterdir():
        path.write_text(
            path.read_text().replace("<name>circle<", "<name>&lt;script&gt;alert(1)&lt;/script&gt;<")
        )
    (data / "classes.txt").unlink()
    run = train(str(data), tmp_path / "run", epochs=1)
    assert main(["report", str(run)]) == 0
    page = Page(run / "report" / "index.html")
    assert page.all("script") == []
    assert "<script>alert(1)</script>" in page.text


def test_train_ssd_writes_a_report(shapes: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    small = ["--width=0.25", "--size=96", "--epochs=1", "--batch-size=8", "--workers=0", "--val-interval=1"]
    small.append("--weights=none")
    run = tmp_path / "run"
    assert main(["train-ssd", "--data-root", shapes, "--output", str(run), *small]) == 0
    assert str(run / "report" / "index.html") in capsys.readouterr().out
    assert (run / "report" / "index.html").stat().st_size > 100_000
    assert (run / "log.csv").exists()
    other = tmp_path / "other"
    assert main(["train-ssd", "--data-root", shapes, "--output", str(other), "--no-report", *small]) == 0
    assert not (other / "report").exists()


def test_errors_name_the_missing_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    empty, classifier, copy = tmp_path / "empty", tmp_path / "classifier", tmp_path / "copy"
    empty.mkdir()
    assert main(["report", str(empty)]) == 1
    assert str(empty) in capsys.readouterr().err
    classifier.mkdir()
    (classifier / "config.yaml").write_text("task: classification\noptions: {}\n")
    assert main(["report", str(classifier)]) == 1
    error = capsys.readouterr().err
    assert str(classifier) in error
    assert "'classification'" in error
    shutil.copytree(run, copy)
    (copy / "best.params").unlink()
    assert main(["report", str(copy)]) == 1
    assert "best.params" in capsys.readouterr().err
    assert main(["report", str(run), "--data-root", str(tmp_path / "nowhere")]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "nowhere") in error
    assert "--data-root" in error
