"""The page about a run in a real browser: nothing on its console, accessible by axe, on a phone, by keyboard.

Run by `make test-browser`, which installs Playwright and axe; needs a Chromium or Chrome that is installed
(`CHROMIUM` names another one).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from mnssd.cli.main import main
from mnssd.data.shapes.dataset import make_shapes
from mnssd.tasks.run import train_detector

pytestmark = pytest.mark.browser

SIZES = {"wide": (1280, 900), "phone": (390, 844), "narrow": (320, 640)}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a real run, or of that in MNSSD_RUN."""
    run = Path(os.environ.get("MNSSD_RUN", ""))
    if not os.environ.get("MNSSD_RUN"):
        folder = tmp_path_factory.mktemp("run")
        make_shapes(folder / "shapes", train=24, val=10, size=(96, 96))
        options = {"dataset": "shapes", "width": 0.25, "size": (96, 96), "epochs": 3, "val_interval": 1}
        run = train_detector(
            {**options, "batch_size": 8, "data_root": str(folder / "shapes"), "output": str(folder / "run")}
        )
        assert main(["report", str(run)]) == 0
    return (run / "report" / "index.html").resolve()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright: make test-browser")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium or Chrome is installed; CHROMIUM may name one")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=list(SIZES))
def page(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Any]:
    """The page at a size; whatever it says on the console or asks of the network fails the test."""
    width, height = SIZES[request.param]
    opened = browser.new_page(viewport={"width": width, "height": height})
    said: List[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on(
        "request", lambda asked: None if asked.url.startswith(("data:", "file:")) else said.append(asked.url)
    )
    opened.on("requestfailed", lambda asked: said.append(f"failed: {asked.url[:80]}"))
    opened.goto(page_file.as_uri())
    opened.wait_for_load_state("load")
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        opened.screenshot(path=str(Path(folder) / f"report-{request.param}.png"), full_page=True)
    yield opened
    opened.close()
    assert said == []


def test_nothing_sticks_out(page: Any) -> None:
    width = page.evaluate("document.documentElement.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_pictures_are_there(page: Any) -> None:
    sizes = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt.length])")
    assert len(sizes) > 8
    assert all(done and wide > 10 and alt > 5 for done, wide, alt in sizes)


def test_axe_finds_nothing(page: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = axe.run(page).response
    assert [(fault["id"], fault["nodes"][0]["html"][:120]) for fault in found["violations"]] == []
    assert len(found["passes"]) > 20


def test_by_keyboard(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link to the mistakes
    page.wait_for_timeout(50)
    assert page.evaluate("location.hash") == "#mistakes"
    assert abs(page.evaluate("document.getElementById('mistakes').getBoundingClientRect().top")) < 60
    page.evaluate("document.querySelector('summary').focus()")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open")
