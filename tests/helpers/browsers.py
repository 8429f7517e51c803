"""Pages in a real browser, for the tests that `make test-browser` runs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Iterator, List

import pytest

SIZES = {"wide": (1280, 900), "phone": (390, 844), "narrow": (320, 640)}


@contextlib.contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """Chromium or Chrome; without one, or without Playwright, the test is skipped."""
    from mnssd.export.web.chromium import find_chromium

    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make test-browser")
    path = find_chromium()
    if path is None:
        pytest.skip("needs Chromium or Chrome; CHROMIUM may name one")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *options])
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Any, address: str, size: str = "wide") -> Iterator[Any]:
    """A page in a window of one of `SIZES`.

    Messages on the console, and requests for anything that is not beside the page, fail the test.
    """
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    messages: List[str] = []
    inside = ("data:", "blob:", address.rpartition("/")[0] + "/")
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(inside) else messages.append(request.url)
    )
    page.on("requestfailed", lambda request: messages.append(f"failed: {request.url[:80]}"))
    page.goto(address)
    page.wait_for_load_state("load")
    yield page
    page.close()
    assert messages == []


def save_screenshot(page: Any, name: str) -> None:
    """Write a screenshot of the page into the folder SCREENSHOTS, if that is set."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def axe_violations(page: Any) -> List[Any]:
    """Name and element of each violation that axe reports."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    response = axe.run(page).response
    assert len(response["passes"]) > 15
    return [(item["id"], item["nodes"][0]["html"][:120]) for item in response["violations"]]
