"""The file beside an export that tells which of its engines is the fastest: ``NAME-speed.json``.

`mnssd bench export` writes it, and ``--engine auto`` reads it, on the same kind of machine with the same
versions only.

- ``export``: SHA-256 of the sidecar, which has those of all files
- ``by``, ``date``, ``data``: who measured, when, and on which dataset
- ``machine``: as `machine`
- ``max_loss``: the mAP that the choice may lose
- ``engines``: name, milliseconds per image at batch size 1, and mAP of each
- ``engine``: the choice
"""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple

from ..files import write_json
from ..runtime import environment, settings

FORMAT = "mnssd-speed"
ENGINE_PACKAGES = ("mxnet", "onnxruntime", "openvino", "ai-edge-litert", "tflite-runtime", "ncnn")


class Choice(NamedTuple):
    """An engine and why it is used, or no engine and why the file does not tell one."""

    engine: str
    reason: str


def speed_path(sidecar_path: Path) -> Path:
    """Path of the file for an export with this sidecar."""
    return sidecar_path.with_name(f"{sidecar_path.stem}-speed.json")


def machine() -> Dict[str, Any]:
    """What speed depends on here: processor, instruction set, cores, threads, versions."""
    facts = settings.describe()
    versions = {name: environment.installed_version(name) for name in ENGINE_PACKAGES}
    return {
        "processor": facts["cpu"],
        "instruction set": facts["instruction_set"],
        "cores": facts["usable_cores"],
        "threads": facts["settings"]["OMP_NUM_THREADS"],
        "mnssd": facts["versions"]["mnssd"],
        **versions,
    }


def write_speed(
    sidecar_path: Path, engine: str, max_loss: float, engines: List[Dict[str, Any]], data: Mapping[str, Any]
) -> Path:
    """Write the file; returns its path. `data` describes the dataset of the mAP."""
    path = speed_path(sidecar_path)
    content = {
        "format": FORMAT,
        "export": _digest(sidecar_path),
        "by": "mnssd bench export",
        "date": datetime.date.today().isoformat(),
        "data": dict(data),
        "machine": machine(),
        "max_loss": max_loss,
        "engines": engines,
        "engine": engine,
    }
    write_json(path, content)
    return path


def read_speed(sidecar_path: Path) -> Choice:
    """The engine that the file chooses. A file that cannot be used is no error."""
    path = speed_path(sidecar_path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        export, measured_on, engine = content["export"], dict(content["machine"]), str(content["engine"])
        loss, date = float(content["max_loss"]), str(content["date"])
    except FileNotFoundError:
        return Choice("", "")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Choice("", f"{path.name} is damaged")
    if export != _digest(sidecar_path):
        return Choice("", f"{path.name} is of another export")
    for name, actual in machine().items():
        if measured_on.get(name) != actual:
            stored = measured_on.get(name)
            return Choice(
                "", f"{path.name} was measured with {name} {stored or 'none'}, not {actual or 'none'}"
            )
    accuracy = f"of those that lose at most {loss:g} mAP" if loss else "of those that compute in float32"
    return Choice(engine, f"the fastest here {accuracy} (mnssd bench export, {date})")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
