"""README.zh.md has the commands, figures and links of README.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, Set

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))


def blocks(text: str) -> List[List[str]]:
    """Lines of all code blocks, without comments and empty lines."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)
    lines = [
        [language, *(line.split("  #")[0].rstrip() for line in code.splitlines())] for language, code in found
    ]
    return [[line for line in block if line] for block in lines]


def links(text: str) -> Set[str]:
    return set(re.findall(r"\]\(([^)]+)\)", text))


def numbers(text: str) -> List[str]:
    """Figures, with the digits before and after a point or comma."""
    return re.findall(r"\d*[.,]?\d+", text)


def model_rows(text: str) -> List[str]:
    """Rows of the table of models."""
    return [line for line in text.splitlines() if line.startswith("| MobileNet")]


def test_commands_are_the_same() -> None:
    assert len(blocks(CHINESE)) == 4
    assert blocks(CHINESE) == blocks(ENGLISH)


def test_model_tables_are_the_same() -> None:
    rows = [[row.split(" | ") for row in model_rows(text)] for text in (ENGLISH, CHINESE)]
    assert len(rows[0]) == len(rows[1]) >= 4
    for english, chinese in zip(*rows):
        # One cell has words beside its figure: "(two seeds)".
        assert [numbers(cell) for cell in english] == [numbers(cell) for cell in chinese]
        assert english[:6] == chinese[:6]
        assert english[-1] == chinese[-1]
        assert ("two seeds" in english[6]) == ("两个随机种子" in chinese[6])


def test_links_are_those_of_the_english_page() -> None:
    assert links(CHINESE) - {"README.md"} <= links(ENGLISH)
    assert "README.md" in links(CHINESE)
    assert "README.zh.md" in links(ENGLISH)
    documents = ENGLISH.split("## Documentation")[1].split("##")[0]
    assert links(documents) <= links(CHINESE)
    for link in links(CHINESE):
        assert (ROOT / link.split("#")[0]).exists(), link


@pytest.mark.parametrize("part", ["arXiv", "figures"])
def test_figures_are_those_of_the_english_page(part: str) -> None:
    pattern = r"arXiv:[\d.]+" if part == "arXiv" else r"\d*[.,]?\d+"
    missing = set(re.findall(pattern, CHINESE)) - set(re.findall(pattern, ENGLISH))
    assert not missing
