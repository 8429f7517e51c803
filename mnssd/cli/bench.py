"""Measure speed and memory of training, detection, data loading and evaluation on this machine.

`mnssd bench export FOLDER` compares the formats of an export, with their mAP on --dataset, and stores the
fastest engine beside it, for --engine auto.

Each workload runs in its own process, with the settings that the real command would choose. By default the
detector is an untrained MobileNetV2 SSD at 300x300 and the images are the built-in ones. Results of different
machines are not comparable.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

from ..bench.measure import format_measurements
from ..bench.options import DETECTOR_WORKLOADS, WORKLOADS, BenchOptions
from ..errors import MnssdError, OptionError
from ..files import write_json
from ..options import add_options, as_arguments, from_mapping, given, unknown_name
from ..runtime import settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD",
        help=f"{', '.join(WORKLOADS)} (default: all), or: export FOLDER",
    )  # fmt: skip
    add_options(parser, BenchOptions)


def run(args: argparse.Namespace) -> int:
    options = from_mapping(BenchOptions, given(args, BenchOptions))
    if args.workloads[:1] == ["export"]:
        return _compare_exports(args.workloads[1:], options)
    for name in args.workloads:
        if name not in WORKLOADS:
            raise OptionError(unknown_name("workload", name, [*WORKLOADS, "export"]))
        if options.run and name not in DETECTOR_WORKLOADS:
            raise OptionError(f"--run applies to {' and '.join(DETECTOR_WORKLOADS)}, not to {name}")
    workloads = list(dict.fromkeys(args.workloads)) or list(DETECTOR_WORKLOADS if options.run else WORKLOADS)
    measure = _measure if len(workloads) == 1 else _measure_in_process
    reports = [measure(name, options) for name in workloads]
    report = {**reports[0], "rows": [row for part in reports for row in part["rows"]]}
    print(f"{_machine(report['machine'])}\n{report['detector']}\n")
    print(format_measurements(report["rows"]))
    _write(report, options)
    return 0


def _compare_exports(folders: Sequence[str], options: BenchOptions) -> int:
    if len(folders) != 1:
        raise OptionError("expected one export folder: mnssd bench export FOLDER")
    settings.use_synchronous_engine()
    from ..bench.choice import store_choice
    from ..bench.exports import format_exports, measure_exports

    rows = measure_exports(Path(folders[0]), options)
    machine = settings.describe()
    print(f"{_machine(machine)}\n{folders[0]}, {options.metric} on {options.dataset}\n")
    print(format_exports(rows))
    print(f"\n{store_choice(Path(folders[0]), rows, options)}")
    measured = {"options": dataclasses.asdict(options), "rows": list(map(dataclasses.asdict, rows))}
    _write({"machine": machine, **measured}, options)
    return 0


def _machine(machine: Mapping[str, Any]) -> str:
    threads = f"{machine['settings']['OMP_NUM_THREADS']} threads"
    return f"{machine['cpu']}, {machine['instruction_set']}, {machine['usable_cores']} cores, {threads}"


def _write(report: Mapping[str, Any], options: BenchOptions) -> None:
    if options.json:
        write_json(options.json, report)


def _measure(workload: str, options: BenchOptions) -> Dict[str, Any]:
    """Measure in this process, with the settings of the corresponding command."""
    if workload == "infer":
        settings.use_synchronous_engine()
    if workload == "train":
        settings.tune_for_small_steps(options.batch_size * options.width * options.size[0] * options.size[1])
        settings.release_freed_memory()
    # Loads MXNet, which reads the settings above while it is imported.
    from ..bench.workloads import measure

    (width, height), network = options.size, f"{options.network} x{options.width:g}"
    untrained = f"{options.head} on {network} at {width}x{height}, {options.dataset}"
    return {
        "machine": settings.describe(),
        "options": dataclasses.asdict(options),
        "detector": options.run or untrained,
        "rows": [row.as_dict() for row in measure(workload, options)],
    }


def _measure_in_process(workload: str, options: BenchOptions) -> Dict[str, Any]:
    """Measure in a new process, so that peak memory and settings are those of one workload."""
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "result.json")
        command = [sys.executable, "-m", "mnssd.cli.main", "bench", workload]
        command += as_arguments(dataclasses.replace(options, json=result))
        done = subprocess.run(command, stdout=subprocess.DEVNULL, env=settings.original_environment())
        if done.returncode:  # it has printed the reason
            raise MnssdError(f"measuring {workload} failed with exit status {done.returncode}")
        with open(result, encoding="utf-8") as file:
            return dict(json.load(file))
