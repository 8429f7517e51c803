"""The window of `mnssd detect --show`."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from ..errors import OptionError

if TYPE_CHECKING:
    import numpy as np


def check_display() -> None:
    """Raise OptionError if no window can be opened."""
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not has_display:
        raise OptionError("--show: no display (DISPLAY is not set); use --output")
    import cv2

    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        reason = "this OpenCV cannot open windows; replace opencv-python-headless by opencv-python"
        raise OptionError(f"--show: {reason}")


def show(drawn: np.ndarray) -> bool:
    """Show an image; returns whether the user has pressed q."""
    import cv2

    cv2.imshow("mnssd", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    return (cv2.waitKey(1) & 0xFF) == ord("q")
