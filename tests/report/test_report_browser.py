"""The report in a real browser: console, layout on small screens, accessibility by axe, keyboard.

Run by `make test-browser`, which installs Playwright and axe. Needs Chromium or Chrome; `CHROMIUM` names
another executable.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Iterator, List

import pytest

pytestmark = pytest.mark.browser

SIZES = {"wide": (1280, 900), "phone": (390, 844), "narrow": (320, 640)}


@pytest.fixture(scope="module")
def page_file(request: pytest.FixtureRequest) -> Path:
    """Report of the run in MNSSD_RUN, or of the tiny run."""
    run = os.environ.get("MNSSD_RUN") or request.getfixturevalue("run")
    return (Path(run) / "report" / "index.html").resolve()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make test-browser")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("needs Chromium or Chrome; CHROMIUM may name one")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=list(SIZES))
def page(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Any]:
    """The page in a window of one size; console messages and network requests fail the test."""
    width, height = SIZES[request.param]
    opened = browser.new_page(viewport={"width": width, "height": height})
    messages: List[str] = []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.on("request", lambda r: None if r.url.startswith(("data:", "file:")) else messages.append(r.url))
    opened.on("requestfailed", lambda request: messages.append(f"failed: {request.url[:80]}"))
    opened.goto(page_file.as_uri())
    opened.wait_for_load_state("load")
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        opened.screenshot(path=str(Path(folder) / f"report-{request.param}.png"), full_page=True)
    yield opened
    opened.close()
    assert messages == []


def test_no_horizontal_scrolling(page: Any) -> None:
    width = page.evaluate("document.documentElement.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_images_are_loaded(page: Any) -> None:
    sizes = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt.length])")
    assert len(sizes) > 8
    assert all(done and wide > 10 and alt > 5 for done, wide, alt in sizes)


def test_axe_reports_no_violations(page: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    response = axe.run(page).response
    violations = [(item["id"], item["nodes"][0]["html"][:120]) for item in response["violations"]]
    assert violations == []
    assert len(response["passes"]) > 20


def test_keyboard_navigation(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_timeout(50)
    assert page.evaluate("location.hash") == "#errors"
    assert abs(page.evaluate("document.getElementById('errors').getBoundingClientRect().top")) < 60
    page.evaluate("document.querySelector('summary').focus()")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open")
