"""Class names in all scripts: each character is drawn, by the first font that has it."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import List

import numpy as np
import pytest

from mnssd.data.sample import Detections
from mnssd.inference import text
from mnssd.inference.draw import class_color, draw
from mnssd.inference.text import needs_shaping, text_mask

NAMES = (
    "кошка", "γάτα", "Straße", "café", "猫", "小猫", "ねこ", "고양이", "قطة", "חתול", "बिल्ली", "பூனை", "แมว",
    "🐱", "🚗", "👨‍👩‍👧", "🇩🇪", "❤️", "猫 cat кот", "🐕‍🦺 قط",
)  # fmt: skip


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """The notes printed from now on."""
    printed: List[str] = []
    monkeypatch.setattr(text, "_noted", printed)
    return printed


@pytest.mark.parametrize("name", NAMES)
def test_names_are_drawn_with_fonts_that_have_them(name: str, notes: List[str]) -> None:
    runs = text._runs(name)
    assert "".join(run.text for run in runs) == name
    for run in runs:
        shown = {c for c in run.text if unicodedata.category(c) not in ("Mn", "Mc", "Cf")}
        assert {ord(c) for c in shown} <= text._characters(run.font)
    mask = text_mask(name, 20)
    assert 12 <= mask.ascent <= 40
    assert mask.pixels.max() > 200
    assert notes == []


def test_different_names_look_different() -> None:
    masks = {text_mask(name, 20).pixels.tobytes() for name in NAMES}
    assert len(masks) == len(NAMES)


def test_arabic_is_joined_and_runs_to_the_left() -> None:
    pytest.importorskip("PIL.features").check("raqm") or pytest.skip("Pillow without FriBiDi")
    both = text_mask("قط", 40).pixels.shape[1]
    apart = sum(text_mask(letter, 40).pixels.shape[1] for letter in "قط")
    assert both < apart  # letters inside a word are narrower


def test_chinese_and_japanese_shapes_differ() -> None:
    """The same character has another shape beside kana."""
    assert [text._face_suffix(name) for name in ("直", "直か", "直 고")] == ["SC", "JP", "KR"]
    alone = text_mask("直", 40).pixels
    beside = text_mask("直か", 40).pixels[:, : alone.shape[1]]
    assert alone.shape != beside.shape or (alone != beside).any()


def test_characters_without_a_font_are_drawn_as_their_codes(notes: List[str]) -> None:
    missing = "\ue123"  # for private use
    text._find_font.cache_clear()
    assert [run.text for run in text._runs(f"a{missing}")] == ["aU+E123"]
    assert (text_mask(missing, 20).pixels == text_mask("U+E123", 20).pixels).all()
    text._runs(missing * 2)
    assert len(notes) == 1


def test_without_the_fonts_package_codes_are_drawn(monkeypatch: pytest.MonkeyPatch, notes: List[str]) -> None:
    monkeypatch.setattr(text, "_packaged_fonts", list)
    monkeypatch.setattr(text, "_system_fonts", list)
    text._find_font.cache_clear()
    try:
        assert [run.text for run in text._runs("猫жди")] == ["U+732Bжди"]
    finally:
        text._find_font.cache_clear()
    assert len(notes) == 1


def test_system_fonts_are_searched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken, variant, font = tmp_path / "a.ttf", tmp_path / "NotoX-Bold.ttf", tmp_path / "b.ttf"
    broken.write_bytes(b"no font")
    for path in (variant, font):
        path.write_bytes(text._default_font().read_bytes())
    found = [str(path) for path in (broken, variant, font)]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: found)
    text._system_fonts.cache_clear()
    try:
        assert text._system_fonts() == [broken, font]
        assert text._characters(broken) == frozenset()
        assert ord("a") in text._characters(font)
    finally:
        text._system_fonts.cache_clear()


@pytest.mark.parametrize(("name", "expected"), [("cat", False), ("кот", False), ("猫", False), ("قط", True)])
def test_scripts_that_need_shaping(name: str, expected: bool) -> None:
    assert needs_shaping(name) == expected


@pytest.mark.parametrize("name", ["кошка", "猫", "बिल्ली", "قطة", "🐱"])
def test_labels_in_all_scripts_are_whole(name: str) -> None:
    boxes = np.array([[40, 60, 200, 150], [0, 0, 299, 199]], np.float32)
    letters = []
    for box in boxes:
        one = Detections(box[None], np.zeros(1, np.int32), np.array([0.9], np.float32))
        drawn = draw(np.full((200, 300, 3), 128, np.uint8), one, [name])
        letters.append(int(((drawn != 128).any(axis=2) & (drawn != class_color(0)).any(axis=2)).sum()))
    assert letters[0] == letters[1] > 60
