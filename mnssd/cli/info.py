"""Print versions, processor, threads, memory, inference engines and plugins. Include it in bug reports."""

from __future__ import annotations

import argparse
import importlib
import json
import re
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Dict, List

from ..options import add_options, from_mapping, given, option

ENGINES = {"MXNet": "mxnet", "ONNX Runtime": "onnxruntime", "OpenVINO": "openvino"}
"""Inference engines and their modules."""

PACKAGES = (
    "onnx", "onnxruntime", "openvino", "ai-edge-litert", "tflite-runtime", "ncnn", "pycocotools",
    "tensorboardX",
)  # fmt: skip
"""Packages to list in addition to those of `runtime.settings.describe`."""


@dataclass(frozen=True)
class InfoOptions:
    """Output."""

    json: bool = option(False, "print JSON")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, InfoOptions)


def run(args: argparse.Namespace) -> int:
    facts = collect_facts()
    as_json = from_mapping(InfoOptions, given(args, InfoOptions)).json
    print(json.dumps(facts, indent=2) if as_json else _format(facts))
    return 0


def collect_facts() -> Dict[str, Any]:
    """Facts about this installation and machine."""
    from ..runtime import environment, processor, settings
    from ..runtime.plugins import load_plugins

    facts = settings.describe()
    versions = {name: environment.installed_version(name) for name in PACKAGES}
    facts["versions"].update({name: version for name, version in versions.items() if version})
    facts["memory_megabytes"] = processor.total_megabytes()
    facts["image_workers"] = settings.image_workers()
    facts["engines"] = {name: _engine_state(module) for name, module in ENGINES.items()}
    facts["extras"] = _extras()
    facts["plugins"] = load_plugins()
    return facts


def _engine_state(module: str) -> str:
    """Version of an engine that can be imported, else the reason why not."""
    from ..runtime.openvino import import_openvino

    try:
        loaded = import_openvino() if module == "openvino" else importlib.import_module(module)
        return str(loaded.__version__)
    except Exception as error:  # a broken installation can raise anything, and is what the report is for
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            return "not installed"
        return f"cannot be imported ({type(error).__name__}: {error})"


def _extras() -> Dict[str, List[str]]:
    """Packages of each extra of this distribution that are missing."""
    missing: Dict[str, List[str]] = {}
    try:
        requirements = metadata.requires("mnssd") or []
    except metadata.PackageNotFoundError:  # used without installation
        return missing
    for requirement in requirements:
        match = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", requirement)
        if match:
            packages = missing.setdefault(match[2], [])
            try:
                metadata.version(match[1])
            except metadata.PackageNotFoundError:
                packages.append(match[1])
    return missing


def _format(facts: Dict[str, Any]) -> str:
    memory, computing = facts["memory_megabytes"], facts["settings"]["OMP_NUM_THREADS"]
    missing = {name: f" (missing: {', '.join(names)})" for name, names in facts["extras"].items() if names}
    extras = [name + missing.get(name, "") for name in facts["extras"]]
    rows = {
        "system": facts["system"],
        "processor": f"{facts['cpu']}, {facts['instruction_set']}",
        "cores": f"{facts['usable_cores']} usable, {facts['logical_cpus']} logical CPUs",
        "threads": f"{computing} computing, {facts['image_workers']} reading images",
        "memory": f"{memory / 1024:.1f} GiB" if memory else "unknown",
        **{f"{name} engine": state for name, state in facts["engines"].items()},
        "extras": "; ".join(extras) or "unknown",
        "plugins": ", ".join(facts["plugins"]) or "none",
    }
    width = max(map(len, [*rows, *facts["versions"]]))
    return "\n".join(f"{name:{width}}  {value}" for name, value in {**facts["versions"], **rows}.items())
