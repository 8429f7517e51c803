"""Import of OpenVINO without its telemetry."""

from __future__ import annotations

import sys
from typing import Any

TELEMETRY = "openvino_telemetry"
"""OpenVINO's package that sends its users' data."""


def import_openvino() -> Any:
    """Import `openvino` so that it sends nothing; returns the module.

    While OpenVINO 2024 to 2026 is imported, it tells Google Analytics so and writes an identifier to
    ``~/intel``, unless the user has opted out; ``python -c "import openvino"`` shows it by that folder. It does
    neither if it cannot import `TELEMETRY`, a package of its own requirements.

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
