"""Measure the speed and the memory of training, detection, data and evaluation on this machine.

`mnssd bench export FOLDER` puts the formats of an export side by side, with their mAP on --dataset.

Each measurement runs in a process of its own, with the settings that the real command would choose. Without
other options: MobileNetV2 SSD at 300x300 on the built-in images. Compare figures of one machine only.
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

from ..bench.measure import format_table
from ..bench.options import BenchOptions
from ..errors import MnssdError, OptionError
from ..files import write_json
from ..options import add_arguments as add_options
from ..options import as_arguments, from_mapping, given, unknown_name
from ..runtime import settings

WHAT = ("train", "infer", "data", "eval")
"""The keys of `bench.workloads.KINDS`, said again so that --help need not load MXNet."""

EXPORT = "export"

OF_A_DETECTOR = ("infer", "eval")
"""What can be measured of a run's detector."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to measure, and the options of measuring."""
    parser.add_argument(
        "what",
        nargs="*",
        metavar="WHAT",
        help=f"{', '.join(WHAT)} (default: all of them, in turn), or: export FOLDER",
    )
    add_options(parser, BenchOptions)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table; returns the exit status."""
    if args.what[:1] == [EXPORT]:
        return _exports(args.what[1:], from_mapping(BenchOptions, given(args, BenchOptions)))
    for name in args.what:
        if name not in WHAT:
            raise OptionError(unknown_name("measurement", name, [*WHAT, EXPORT]))
    options = from_mapping(BenchOptions, given(args, BenchOptions))
    what = list(dict.fromkeys(args.what)) or list(WHAT)
    if options.run:
        vain = [name for name in what if name not in OF_A_DETECTOR]
        if vain and args.what:
            raise OptionError(f"--run is for {' and '.join(OF_A_DETECTOR)}; {vain[0]} measures no detector")
        what = [name for name in what if name in OF_A_DETECTOR]
    reports = [_here(what[0], options)] if len(what) == 1 else [_apart(name, options) for name in what]
    report = {**reports[0], "rows": [row for part in reports for row in part["rows"]]}
    print(_machine(report["machine"]))
    print(f"{report['detector']}\n\n{format_table(report['rows'])}")
    _write(report, options)
    return 0


def _exports(folders: Sequence[str], options: BenchOptions) -> int:
    if len(folders) != 1:
        raise OptionError(f"give one folder of an export: mnssd bench {EXPORT} FOLDER")
    settings.suit_single_images()
    from ..bench.exports import format_exports, measure_exports

    rows = measure_exports(Path(folders[0]), options)
    machine = settings.describe()
    print(
        f"{_machine(machine)}\n{folders[0]}, {options.metric} on {options.dataset}\n\n{format_exports(rows)}"
    )
    chosen = dataclasses.asdict(options)
    _write({"machine": machine, "options": chosen, "rows": [row.as_dict() for row in rows]}, options)
    return 0


def _machine(machine: Mapping[str, Any]) -> str:
    threads = machine["settings"]["OMP_NUM_THREADS"]
    return (
        f"{machine['cpu']}, {machine['instruction_set']}, {machine['usable_cores']} cores, {threads} threads"
    )


def _write(report: Mapping[str, Any], options: BenchOptions) -> None:
    if options.json:
        write_json(options.json, report)


def _here(name: str, options: BenchOptions) -> Dict[str, Any]:
    """Measure in this process, with the settings of the command that does the same."""
    if name == "infer":
        settings.suit_single_images()
    if name == "train":
        settings.suit_small_steps(options.batch_size * options.width * options.size[0] * options.size[1])
        settings.return_freed_memory()
    # This loads MXNet, which reads the settings while it is loaded.
    from ..bench.workloads import KINDS

    return {
        "machine": settings.describe(),
        "options": dataclasses.asdict(options),
        "detector": options.run or _description(options),
        "rows": [row.as_dict() for row in KINDS[name](options)],
    }


def _apart(name: str, options: BenchOptions) -> Dict[str, Any]:
    """Measure in a process of its own, so that memory and settings are its own, too."""
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "result.json")
        command = [sys.executable, "-m", "mnssd.cli.main", "bench", name]
        command += as_arguments(dataclasses.replace(options, json=result))
        done = subprocess.run(command, stdout=subprocess.DEVNULL, env=settings.users_environment())
        if done.returncode:  # it has said why
            raise MnssdError(f"measuring {name} failed with exit status {done.returncode}")
        with open(result, encoding="utf-8") as file:
            return dict(json.load(file))


def _description(options: BenchOptions) -> str:
    width, height = options.size
    return f"{options.head} on {options.network} x{options.width:g} at {width}x{height}, {options.dataset}"
