"""OpenVINO without its telemetry, and its core."""

from __future__ import annotations

import sys
from functools import lru_cache
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


@lru_cache(maxsize=None)
def openvino_core() -> Any:
    """The only `openvino.Core` of the process; raises ImportError as `import_openvino`.

    The CPU plugin of a core gives the thread an alternate stack for signals, and later restores the one
    before. Of two cores that overlap, it restores one that is no longer mapped, and the next signal, such as
    Ctrl-C, ends the process. To see it in OpenVINO 2026.4: compile a model with a second core while a first
    one has a compiled model, delete both in the order of their creation, and send SIGINT.
    """
    return import_openvino().Core()
