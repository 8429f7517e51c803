"""A matplotlib canvas for class names in any script.

matplotlib before 3.11 draws characters one by one from left to right, which is wrong in Arabic and Indic
scripts, and does not read the newer font files of Chinese, Japanese and Korean. What it cannot draw is placed
as an image by `inference.text`.
"""

from __future__ import annotations

import codecs
import math
from typing import Any, Tuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.backends.backend_mixed import MixedModeRenderer
from matplotlib.backends.backend_svg import RendererSVG

from ..inference.text import CAP_HEIGHT, TextMask, is_in_default_font, needs_shaping, text_mask

_POINTS_PER_INCH = 72
_SVG_DPI = 288  # of text that is an image in an SVG file


class _AnyScript:
    """Part of a renderer that draws as images what matplotlib cannot draw; `scale` is pixels per unit."""

    scale = 1

    def _mask(self, text: str, prop: Any) -> TextMask:
        size = self.points_to_pixels(prop.get_size_in_points())  # type: ignore[attr-defined]
        return text_mask(text, max(1, round(size * self.scale * CAP_HEIGHT)))

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> Tuple[float, float, float]:
        """Size of text in units of the renderer."""
        if _is_plain(s):
            return super().get_text_width_height_descent(s, prop, ismath)  # type: ignore[misc]
        mask = self._mask(s, prop)
        height, width = mask.pixels.shape
        return width / self.scale, height / self.scale, (height - mask.ascent) / self.scale

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, ismath: Any = False,
        mtext: Any = None,
    ) -> None:  # fmt: skip
        """Draw text whose baseline starts at (x, y), counted from the top."""
        if _is_plain(s):
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)  # type: ignore[misc]
            return
        mask = self._mask(s, prop)
        pixels, (left, above) = _rotate(mask, angle)
        image = np.empty((*pixels.shape, 4), np.uint8)
        image[..., :3] = [round(255 * part) for part in gc.get_rgb()[:3]]
        image[..., 3] = pixels
        canvas_height = self.get_canvas_width_height()[1]  # type: ignore[attr-defined]
        bottom = canvas_height - y - (pixels.shape[0] - above) / self.scale
        self._place(gc, x - left / self.scale, bottom, image[::-1])

    def _place(self, gc: Any, x: float, y: float, image: np.ndarray) -> None:
        """Draw RGBA pixels, last row first, with the lower left corner at (x, y)."""
        self.draw_image(gc, round(x), round(y), image)  # type: ignore[attr-defined]


class _Agg(_AnyScript, RendererAgg):
    """Pixels."""


class _SVG(_AnyScript, RendererSVG):
    """Points, with text images of a higher resolution."""

    scale = _SVG_DPI // _POINTS_PER_INCH

    def _place(self, gc: Any, x: float, y: float, image: np.ndarray) -> None:
        usual, self.image_dpi = self.image_dpi, _SVG_DPI
        self.draw_image(gc, x, y, image)
        self.image_dpi = usual


class AnyScriptCanvas(FigureCanvasAgg):
    """Writes PNG and SVG files. ``AnyScriptCanvas(figure)`` makes a figure use it."""

    _key = None

    def get_renderer(self) -> RendererAgg:
        """The renderer of PNG files and of layout, made anew if the size or resolution has changed."""
        key = (*self.figure.bbox.size, self.figure.dpi)
        if key != self._key:
            self.renderer, self._key = _Agg(*key), key
        return self.renderer

    def print_svg(
        self, file: Any, *, bbox_inches_restore: Any = None, metadata: Any = None, **options: Any
    ) -> None:
        """Write SVG to a binary file; called by ``figure.savefig``, with options that do not concern SVG."""
        figure, dpi = self.figure, self.figure.dpi
        figure.dpi = _POINTS_PER_INCH
        width, height = figure.get_size_inches()
        text = codecs.getwriter("utf-8")(file)
        points = (width * _POINTS_PER_INCH, height * _POINTS_PER_INCH)
        svg = _SVG(*points, text, image_dpi=dpi, metadata=metadata)
        renderer = MixedModeRenderer(figure, width, height, dpi, svg, bbox_inches_restore=bbox_inches_restore)
        figure.draw(renderer)  # type: ignore[arg-type]
        renderer.finalize()


def _is_plain(text: str) -> bool:
    """Whether matplotlib draws a text as it should be."""
    return text.isascii() or (is_in_default_font(text) and not needs_shaping(text))


def _rotate(mask: TextMask, angle: float) -> Tuple[np.ndarray, Tuple[float, float]]:
    """Pixels turned counter-clockwise, and the start of the baseline in them, from the left and the top."""
    from PIL import Image

    start = (0.0, float(mask.ascent))
    if angle % 360 == 0:
        return mask.pixels, start
    turned = Image.fromarray(mask.pixels).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    height, width = mask.pixels.shape
    x, y = start[0] - width / 2, start[1] - height / 2
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.asarray(turned), (turned.width / 2 + x * cos + y * sin, turned.height / 2 - x * sin + y * cos)
