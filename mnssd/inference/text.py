"""Text in any script as pixels: OpenCV's fonts have only ASCII.

Of these fonts the first that has a character draws it:

1. DejaVu Sans, which comes with matplotlib: Latin, Cyrillic, Greek, Arabic, Hebrew and others;
2. the Noto fonts of ``pip install mnssd[fonts]``: Chinese, Japanese, Korean, Indic scripts, emoji and others;
3. the system's fonts, those named Noto first, without bold, italic and the like.

A character that none of them has is drawn as its code, such as ``U+732B``.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional

import numpy as np

FONT_PACKAGES = ("manimgx_fonts", "manimgx_fonts_cjk")
"""Of the extra ``fonts``: the variable Noto fonts, under the SIL Open Font License 1.1."""

CAP_HEIGHT = 0.73
"""Of the size of a font: DejaVu Sans .729, Noto Sans .714, Noto Sans CJK .733."""

_WEIGHT = 500  # of variable fonts, as those of CJK begin at 100, which is too thin on images

_VARIANTS = re.compile(
    r"bold|italic|oblique|light|thin|black|heavy|condensed|mono|serif|slanted|color|variable", re.I
)
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_JOINER = "\u200d"


class TextMask(NamedTuple):
    """Coverage of text, ``(height, width)`` uint8, and how many of its rows are above the baseline."""

    pixels: np.ndarray
    ascent: int


class _Run(NamedTuple):
    """Characters of one font."""

    font: Path
    text: str


@functools.lru_cache(maxsize=2048)
def text_mask(text: str, cap_height: int) -> TextMask:
    """Draw text whose capital letters are `cap_height` pixels high; not to be modified."""
    from PIL import Image, ImageDraw, features

    size = max(1, round(cap_height / CAP_HEIGHT))
    shaping: Dict[str, Any] = {"direction": "ltr"} if features.check("raqm") else {}
    if not shaping and needs_shaping(text):
        _note("text in Arabic and Indic scripts needs the library FriBiDi: apt-get install libfribidi0")
    runs = [(_load(run.font, size, _face_suffix(run.text)), run.text) for run in _runs(text)]
    widths = [font.getlength(part, **shaping) for font, part in runs]
    image = Image.new("L", (int(sum(widths)) + 3 * size, 5 * size))
    pen, left, baseline = ImageDraw.Draw(image), float(size), 3 * size
    for (font, part), width in zip(runs, widths):
        pen.text((left, baseline), part, 255, font, anchor="ls", **shaping)
        left += width
    pixels = np.asarray(image)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return TextMask(np.zeros((1, 1), np.uint8), 1)
    top, bottom = min(int(rows[0]), baseline - 1), max(int(rows[-1]) + 1, baseline)
    return TextMask(pixels[top:bottom, columns[0] : columns[-1] + 1].copy(), baseline - top)


def needs_shaping(text: str) -> bool:
    """Whether drawing characters one by one, from left to right, would be wrong."""
    return any(
        unicodedata.bidirectional(character) in ("R", "AL", "AN")
        or unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")
        for character in text
    )


def is_in_default_font(text: str) -> bool:
    """Whether DejaVu Sans has all characters of a text."""
    return set(map(ord, text)) <= _characters(_default_font())


def _runs(text: str) -> List[_Run]:
    """Split text by font; marks, joined emoji, digits and spaces stay with what is before them."""
    runs: List[_Run] = []
    for character in text:
        last = runs[-1] if runs else None
        if last and (_continues(character) or last.text.endswith(_JOINER)):
            runs[-1] = _Run(last.font, last.text + character)
            continue
        # Fonts of emoji have digits, but no letters.
        keeps = last and character.isascii() and {ord(character), ord("A")} <= _characters(last.font)
        font = last.font if last and keeps else _find_font(character)
        shown = character
        if font is None:
            font, shown = _default_font(), f"U+{ord(character):04X}"
        if last and last.font == font:
            runs[-1] = _Run(font, last.text + shown)
        else:
            runs.append(_Run(font, shown))
    return runs


def _continues(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") or ord(character) in _SKIN_TONES


@functools.lru_cache(maxsize=None)
def _find_font(character: str) -> Optional[Path]:
    """The first font that has a character."""
    for font in [_default_font(), *_packaged_fonts()]:
        if ord(character) in _characters(font):
            return font
    for font in _system_fonts():
        if ord(character) in _characters(font):
            return font
    remedy = "install fonts: pip install 'mnssd[fonts]'"
    _note(f"no font has the character {character}, so its code U+{ord(character):04X} is drawn; {remedy}")
    return None


@functools.lru_cache(maxsize=None)
def _default_font() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


@functools.lru_cache(maxsize=None)
def _packaged_fonts() -> List[Path]:
    specs = [importlib.util.find_spec(package) for package in FONT_PACKAGES]
    folders = [folder for spec in specs if spec for folder in spec.submodule_search_locations or []]
    files = [path for folder in folders for path in sorted(Path(folder).iterdir())]
    return [path for path in files if path.suffix in (".ttf", ".otf", ".ttc") and not _is_variant(path)]


@functools.lru_cache(maxsize=None)
def _system_fonts() -> List[Path]:
    from matplotlib.font_manager import findSystemFonts

    paths = [path for path in map(Path, findSystemFonts()) if not _is_variant(path)]
    return sorted(paths, key=lambda path: (not path.name.startswith("Noto"), path.name))


def _is_variant(path: Path) -> bool:
    return bool(_VARIANTS.search(path.stem))


@functools.lru_cache(maxsize=None)
def _characters(font: Path) -> FrozenSet[int]:
    """Code points that a font file draws; none if it cannot be read."""
    from fontTools.ttLib import TTFont

    try:
        with TTFont(font, fontNumber=0, lazy=True) as opened:
            return frozenset(opened.getBestCmap() or ())
    except Exception:  # fontTools raises many types for damaged fonts
        return frozenset()


def _face_suffix(text: str) -> str:
    """End of the name of the face of a collection for Chinese, Japanese and Korean.

    Their common characters look different.
    """
    names = {unicodedata.name(character, "").split(" ")[0] for character in text}
    return "JP" if names & {"HIRAGANA", "KATAKANA"} else "KR" if "HANGUL" in names else "SC"


@functools.lru_cache(maxsize=256)
def _load(path: Path, size: int, suffix: str) -> Any:
    """Open a font at a size in pixels; of a collection the face named with `suffix`, or the first."""
    from PIL import ImageFont

    font = ImageFont.truetype(str(path), size)
    if path.suffix.lower() in (".ttc", ".otc"):
        for index in range(_faces(path)):
            face = ImageFont.truetype(str(path), size, index)
            if str(face.getname()[0]).endswith(suffix):
                font = face
                break
    try:
        axes = font.get_variation_axes()
    except OSError:  # not a variable font
        return font
    font.set_variation_by_axes([_weight(axis) for axis in axes])
    return font


def _weight(axis: Any) -> float:
    """Position on an axis of a variable font: the default, but `_WEIGHT` for the weight."""
    if axis["name"] not in (b"Weight", "Weight"):
        return axis["default"]
    return min(max(_WEIGHT, axis["minimum"]), axis["maximum"])


def _faces(path: Path) -> int:
    from fontTools.ttLib import TTCollection

    with TTCollection(path, lazy=True) as collection:
        return len(collection)


_noted: List[str] = []


def _note(message: str) -> None:
    """Print a note once."""
    if message not in _noted:
        _noted.append(message)
        print(f"note: {message}", file=sys.stderr)
