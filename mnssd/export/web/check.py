"""A web page as an engine: the network of the page, run by headless Chromium."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, List, Sequence

import cv2
import numpy as np

from ...data.image import decode_image, read_image
from ...data.preprocess import Image
from ...errors import ExportError
from ..engines import Engine
from ..network import ExportedNetwork, image_name
from .chromium import EXECUTABLE, ChromiumPage, find_chromium

PIXEL_TOLERANCE = 1
"""Largest difference of a pixel after resizing, of 255: OpenCV rounds differently on some processors."""

IMAGES, LARGEST = 8, 16_000_000
"""How many images are read and resized for comparison, and the pixels of the largest ones."""

_TO_BASE64 = """
const toBase64 = bytes => {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
};
"""

_RUN = f"""async (pixels, count, names) => {{
  {_TO_BASE64}
  const outputs = await runNetwork(fromBase64(pixels), count, names);
  return names.map(name => outputs[name]).map(({{ data, dims }}) => [
    toBase64(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)), dims]);
}}"""

_READ = f"""async (file) => {{
  {_TO_BASE64}
  const image = rgbOf(await openImage(new Blob([fromBase64(file)])));
  return toBase64(networkPixels(image, PAGE.size, PAGE.centralPart));
}}"""


class ChromiumEngine(Engine):
    """The network in a page, run by Chromium.

    Parameters
    ----------
    path : Path
        The page.
    names : sequence of str
        The outputs to return.

    Raises
    ------
    ExportError
        If there is no Chromium, or it cannot run the page.
    """

    takes_pixels = True

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        executable = find_chromium()
        if executable is None:
            raise ExportError(
                f"{path}: needs Chromium or Chrome; install one, or set {EXECUTABLE} to its path"
            )
        self._page, self._path, self._names = ChromiumPage(path, executable), path, list(names)

    def run(self, x: np.ndarray) -> List[np.ndarray]:
        outputs = self._call(_RUN, _encode(x.tobytes()), len(x), self._names)
        try:
            return [np.frombuffer(base64.b64decode(data), np.float32).reshape(dims) for data, dims in outputs]
        except (TypeError, ValueError) as error:
            raise ExportError(f"{self._path}: its network returns no arrays; export it again") from error

    def read(self, file: bytes) -> np.ndarray:
        """The network's input, flat uint8, that the page makes of the content of an image file."""
        return np.frombuffer(base64.b64decode(self._call(_READ, _encode(file))), np.uint8)

    def _call(self, function: str, *arguments: Any) -> Any:
        return self._page.evaluate(f"({function})({', '.join(map(json.dumps, arguments))})")


def check_reading(engine: ChromiumEngine, network: ExportedNetwork, images: Sequence[Image]) -> None:
    """Compare how page and package read and resize images, as PNG files, of which all programs read the same.

    Raises
    ------
    ExportError
        If a pixel differs by more than `PIXEL_TOLERANCE`.
    """
    for number, image in enumerate(images[:IMAGES], 1):
        pixels = _pixels(image)
        if pixels.shape[0] * pixels.shape[1] > LARGEST:
            continue  # some browsers refuse them
        _, file = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        expected = network.read(file.tobytes()).reshape(-1).astype(int)
        actual = engine.read(file.tobytes())
        if actual.shape != expected.shape or np.abs(actual - expected).max() > PIXEL_TOLERANCE:
            name = image_name(image, number)
            raise ExportError(f"{name}: the page resizes it differently than the package; please report it")


def _pixels(image: Image) -> np.ndarray:
    if isinstance(image, np.ndarray):
        return image
    return decode_image(image, "the image") if isinstance(image, bytes) else read_image(image)


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
