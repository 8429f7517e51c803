"""The report in a real browser: console, layout on small screens, accessibility by axe, keyboard.

Run by `make test-browser`, which installs Playwright and axe. Needs Chromium or Chrome; `CHROMIUM` names
another executable.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator

import pytest
from helpers.browsers import SIZES, axe_violations, chromium, opened, save_screenshot

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(request: pytest.FixtureRequest) -> Path:
    """Report of the run in MNSSD_RUN, or of the tiny run."""
    run = os.environ.get("MNSSD_RUN") or request.getfixturevalue("run")
    return (Path(run) / "report" / "index.html").resolve()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(params=list(SIZES))
def page(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[Any]:
    """The page in a window of one size; console messages and network requests fail the test."""
    with opened(browser, page_file.as_uri(), request.param) as loaded:
        save_screenshot(loaded, f"report-{request.param}")
        yield loaded


def test_no_horizontal_scrolling(page: Any) -> None:
    width = page.evaluate("document.documentElement.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_images_are_loaded(page: Any) -> None:
    sizes = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt.length])")
    assert len(sizes) > 8
    assert all(done and wide > 10 and alt > 5 for done, wide, alt in sizes)


def test_axe_reports_no_violations(page: Any) -> None:
    assert axe_violations(page) == []


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
