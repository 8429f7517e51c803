"""Web exports in a real browser: detections, images, controls, accessibility, and no network.

Run by `make test-browser`. Needs Chromium and ONNX Runtime Web, which is downloaded once.
"""

from __future__ import annotations

import base64
import functools
import http.server
import json
import os
import re
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import pytest
from helpers import image_kinds as kinds
from helpers.browsers import SIZES, axe_violations, chromium, opened, save_screenshot
from helpers.detectors import make_classifier
from helpers.image_cases import READ

import mnssd
from mnssd.data.image import read_image
from mnssd.errors import DownloadError, ExportError
from mnssd.export.options import ExportOptions
from mnssd.export.web.check import ChromiumEngine
from mnssd.export.write import export_network

pytestmark = pytest.mark.browser

OWN_HOME = os.environ.get("MNSSD_HOME")  # before tests get another one

READ_BY_BROWSERS = ("JPEG", "JPEG, colors", "PNG", "PNG, chunks", "BMP", "WebP", "GIF", "AVIF")
"""Rows of docs/inputs.md; the page refuses files of the others."""

PIXELS = """async (file) => {
  try {
    const { width, height, data } = rgbOf(await openImage(new Blob([fromBase64(file)])));
    return { width, height, data: Array.from(data) };
  } catch (error) {
    if (!(error instanceof ImageProblem)) throw error;
    return null;
  }
}"""


@pytest.fixture(scope="module", autouse=True)
def runtime() -> Iterator[None]:
    """ONNX Runtime Web in the developer's own cache, where it stays."""
    from mnssd.export.web.runtime import fetch_archive

    with pytest.MonkeyPatch.context() as patch:
        if OWN_HOME is None:
            patch.delenv("MNSSD_HOME")
        else:
            patch.setenv("MNSSD_HOME", OWN_HOME)
        try:
            fetch_archive()
        except DownloadError as error:
            pytest.skip(str(error))
        yield


@pytest.fixture(scope="module")
def photographs(shared: Path) -> List[str]:
    """Twenty photographs."""
    found = sorted(map(str, (shared / "voc").glob("VOCdevkit/*/JPEGImages/*.jpg")))
    return found[:: len(found) // 20][:20]


@pytest.fixture(scope="module")
def coco(shared: Path, photographs: List[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported detector as a page, as one HTML file and for ONNX Runtime."""
    folder, source = tmp_path_factory.mktemp("coco"), shared / "import"
    file = source / "coco-ssd-mobilenet-v1-075-300-uint8.tflite"
    run = mnssd.import_model(file, source / "coco-labelmap.txt", folder / "coco")
    formats = ["onnx", "web", "web-file"]
    return mnssd.export(run, formats, folder / "export", photographs, parity_images=20)


@pytest.fixture(scope="module")
def trained(tiny_run: Path, photographs: List[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector trained on the built-in dataset, as a page."""
    folder = tmp_path_factory.mktemp("trained") / "export"
    return mnssd.export(tiny_run, "web", folder, photographs, parity_images=20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as started:
        yield started


@pytest.fixture(params=["index.html", "coco.html"])
def page(request: pytest.FixtureRequest, browser: Any, coco: Path) -> Iterator[Any]:
    """The page from a folder, and as one file."""
    with opened(browser, (coco / request.param).as_uri()) as loaded:
        yield loaded


def wait_for(page: Any, condition: str) -> None:
    end = time.monotonic() + 60
    while not page.evaluate(condition):  # `wait_for_function` is not allowed by the page's security policy
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def choose(page: Any, file: Any) -> List[List[str]]:
    """Rows of the table after the page has got a file, a path or `file_of`; none if it refuses the file."""
    page.evaluate("say(''), showError('')")
    page.set_input_files("#file", file)
    wait_for(page, "/ ms[.]$/.test(element('status').textContent) || !element('error').hidden")
    if page.is_visible("#error"):
        assert page.is_hidden("#results")
        return []
    return rows_of(page)


def rows_of(page: Any) -> List[List[str]]:
    cells = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    return list(page.eval_on_selector_all("#rows tr", cells))


def file_of(content: bytes, name: str = "image") -> Dict[str, Any]:
    return {"name": name, "mimeType": "", "buffer": content}


def read_in(page: Any, content: bytes) -> Optional[np.ndarray]:
    """Pixels of an image file as the page reads it; None if it refuses it."""
    result = page.evaluate(PIXELS, base64.b64encode(content).decode())
    return result and np.array(result["data"], np.uint8).reshape(result["height"], result["width"], 3)


def parity(export: Path) -> Dict[str, Any]:
    """Figures of the parity check by engine."""
    (sidecar,) = export.glob("*.json")
    return dict(json.loads(sidecar.read_text())["parity"])


def test_detections_are_those_of_the_network(coco: Path, trained: Path) -> None:
    checks = [parity(coco)["web"], parity(coco)["web_file"], parity(trained)["web"]]
    for check in checks:
        assert check["images"] == 20
        assert check["detections"] > 20
        assert check["score_max_difference"] < 1e-4
        assert check["box_max_difference"] < 0.1


def test_page_shows_what_detect_prints(page: Any, coco: Path, photographs: List[str]) -> None:
    """Of the same pixels, in a PNG file."""
    detector = mnssd.Detector.load(coco, engine="onnxruntime")
    for path in photographs[:3]:
        content = kinds.save(read_image(path), "PNG")
        found = detector(content, score=0.5)
        expected = [(d.name, f"{d.score:.3f}", *(f"{edge:.0f}" for edge in d.box)) for d in found]
        actual = choose(page, file_of(content))
        assert len(actual) == len(expected)
        for (name, *values), (expected_name, *expected_values) in zip(actual, expected):
            assert name == expected_name
            np.testing.assert_allclose(np.array(values, float), np.array(expected_values, float), atol=1)


def test_jpeg_files_give_nearly_the_same(page: Any, coco: Path, photographs: List[str]) -> None:
    """mnssd decodes large ones at a reduced size, and browsers have decoders of their own."""
    detector = mnssd.Detector.load(coco, engine="onnxruntime")
    for path in photographs[3:8]:
        names = [name for name, score, *_ in choose(page, path) if float(score) > 0.6]
        found = detector(path, score=0.5)
        assert not Counter(names) - Counter(d.name for d in found)
        assert not Counter(d.name for d in found if d.score > 0.6) - Counter(row[0] for row in rows_of(page))


def test_export_that_detects_in_chromium(coco: Path, photographs: List[str]) -> None:
    one, other = (
        mnssd.Detector.load(coco, engine=engine)(photographs[0]) for engine in ("chromium", "onnxruntime")
    )
    np.testing.assert_allclose(one.boxes, other.boxes, atol=0.2)
    assert one.names == other.names


@pytest.mark.parametrize("row", READ_BY_BROWSERS)
def test_images_are_read_as_by_the_package(browser: Any, coco: Path, row: str) -> None:
    """The rows of docs/inputs.md that browsers read; other files are refused, none is read differently."""
    with opened(browser, (coco / "index.html").as_uri()) as page:
        refused = []
        for name, case in READ[row].items():
            content, pixels, tolerance = case()
            actual = read_in(page, content)
            if actual is None:
                refused.append(name)
            else:
                assert actual.shape == pixels.shape, name
                assert np.abs(actual - pixels.astype(float)).max() <= max(1, tolerance), name
        assert refused == {"BMP": ["DIB"], "GIF": ["transparent"]}.get(row, [])


def test_images_that_browsers_do_not_read_are_refused(page: Any, photographs: List[str]) -> None:
    jpeg = Path(photographs[0]).read_bytes()
    png = kinds.save(kinds.COLORS, "PNG")
    tiff = kinds.save(kinds.COLORS, "TIFF")
    for content in (b"", b"text", jpeg[: len(jpeg) // 2], jpeg[:-2], png[:-12], png[: len(png) // 2], tiff):
        assert choose(page, file_of(content, "own-name.jpg")) == []
        assert "own-name.jpg" in page.inner_text("#error")
        page.press("#score", "Home")  # must not bring an earlier image back
        assert page.is_hidden("#results")
    assert choose(page, photographs[0])
    assert page.is_hidden("#error")


def test_classifier(browser: Any, photographs: List[str], tmp_path: Path) -> None:
    net, spec = make_classifier(val_crop=0.875)
    export_network(net, spec, tmp_path / "pets", photographs, "pets", ExportOptions("web,onnx"))
    classifier = mnssd.Classifier.load(tmp_path / "pets", engine="onnxruntime")
    with opened(browser, (tmp_path / "pets" / "index.html").as_uri()) as page:
        for path in photographs[:3]:
            content = kinds.save(read_image(path), "PNG")
            rows = choose(page, file_of(content))
            assert [name for name, _ in rows] == [each.name for each in classifier(content)]
            assert float(rows[0][1]) == pytest.approx(classifier(content)[0].probability, abs=0.02)
        assert page.query_selector("#score") is None
        assert axe_violations(page) == []
        save_screenshot(page, "web-classifier")


def test_threshold_by_keyboard(page: Any, photographs: List[str]) -> None:
    before = choose(page, photographs[1])
    page.focus("#score")
    page.keyboard.press("Home")
    assert page.inner_text("#score-value") == "0.01"
    assert len(rows_of(page)) > len(before)
    page.keyboard.press("End")
    assert rows_of(page) == []
    assert page.get_attribute("#image", "aria-label")


def test_file_and_camera_by_keyboard(page: Any, photographs: List[str]) -> None:
    page.evaluate("session().then(() => 1)")  # a busy page would miss keys
    page.bring_to_front()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(photographs[0])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_for(page, "stream && shown && / ms[.]$/.test(element('status').textContent)")
    assert page.get_attribute("#camera", "aria-pressed") == "true"
    page.keyboard.press("Enter")
    assert page.evaluate("stream") is None
    assert page.is_visible("#results")
    assert choose(page, photographs[0])  # the page still works


def test_dropped_files(page: Any, photographs: List[str]) -> None:
    """The first of several; what is not a file is refused."""
    content = base64.b64encode(Path(photographs[0]).read_bytes()).decode()
    drop = """([text, count]) => {
      const transfer = new DataTransfer();
      for (let i = 0; i < count; i++) transfer.items.add(new File([fromBase64(text)], `photo-${i}.jpg`));
      const options = { bubbles: true, cancelable: true, dataTransfer: transfer };
      document.body.dispatchEvent(new DragEvent("drop", options));
    }"""
    for count in (0, 1, 2):
        page.evaluate("say(''), showError('')")
        page.evaluate(drop, [content, count])
        if count:
            wait_for(page, "/ ms[.]$/.test(element('status').textContent)")
            assert page.is_visible("#results")
        page.wait_for_timeout(100)
        assert page.is_visible("#error") == (count != 1)


def test_camera_that_is_refused(page: Any, photographs: List[str]) -> None:
    page.evaluate("""() => {
      const refuse = async () => { throw new DOMException("Permission denied", "NotAllowedError"); };
      navigator.mediaDevices.getUserMedia = refuse;
    }""")
    page.click("#camera")
    page.wait_for_selector("#error:not([hidden])")
    assert page.get_attribute("#camera", "aria-pressed") == "false"
    assert choose(page, photographs[0])


@pytest.mark.parametrize("size", list(SIZES))
def test_layout_and_accessibility(browser: Any, coco: Path, photographs: List[str], size: str) -> None:
    with opened(browser, (coco / "index.html").as_uri(), size) as page:
        assert axe_violations(page) == []
        choose(page, photographs[1])
        save_screenshot(page, f"web-{size}")
        assert axe_violations(page) == []
        width = page.evaluate("document.documentElement.clientWidth")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        choose(page, file_of(b"text", "a-very-long-name-without-any-break" * 5))
        assert axe_violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_page_on_a_server(browser: Any, coco: Path, photographs: List[str]) -> None:
    handler = functools.partial(_QuietHandler, directory=str(coco))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with opened(browser, f"http://127.0.0.1:{server.server_address[1]}/") as page:
            assert choose(page, photographs[1])
        server.shutdown()


def test_page_without_its_files_says_which(browser: Any, coco: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes((coco / "index.html").read_bytes())
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_selector("#error:not([hidden])")
    assert "coco-web.js" in page.inner_text("#error")
    page.close()


def test_damaged_page_does_not_pass_the_check(coco: Path, tmp_path: Path) -> None:
    """Scripts that fail, write to the console, or load something from a server."""
    text = (coco / "coco.html").read_text()
    for old, new in (
        ("return loaded.run(", "return missing.run("),
        ("let runtime;", "console.log(1); let runtime;"),
        ("let runtime;", 'new Image().src = "https://example.com/a.png"; let runtime;'),
    ):
        damaged = tmp_path / "page.html"
        damaged.write_text(text.replace(old, new))
        with pytest.raises(ExportError, match=re.escape(str(damaged))):
            ChromiumEngine(damaged, ["ids", "scores", "bboxes"])([np.zeros((300, 300, 3), np.uint8)])


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass
