"""Import of OpenVINO without its telemetry."""

from __future__ import annotations

import sys
from typing import Any

TELEMETRY = "openvino_telemetry"
"""OpenVINO's package that sends its users' data."""


def import_openvino() -> Any:
    """Import `openvino` so that it sends nothing; returns the module.

    On import, OpenVINO 2024 to 2026 reports to Google Analytics and writes an identifier to ``~/intel``,
    unless the user has opted out; the folder appears with ``python -c "import openvino"``. It does neither if
    `TELEMETRY`, one of its requirements, cannot be imported.

    Raises
    ------
    ImportError
        If OpenVINO is not installed or cannot be loaded.
    """
    modules: Any = sys.modules
    loaded = {name: modules.pop(name) for name in list(modules) if name.split(".")[0] == TELEMETRY}
    modules[TELEMETRY] = None  # an import of it now raises ImportError
    try:
        import openvino
    finally:
        del modules[TELEMETRY]
        modules.update(loaded)
    return openvino
