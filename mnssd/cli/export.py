"""Export a trained detector or classifier to files for plain MXNet, ONNX Runtime and others.

The files are loaded back and compared with the network on images of the run's validation set, or on --images.
Exports that differ are not written. 8-bit formats and shared weights are calibrated on images of the run's
training set, or on --images; how much they differ from the network is printed.
"""

from __future__ import annotations

import argparse

from ..export.formats import by_priority
from ..options import add_options, from_mapping, given
from ..tasks.export import RunExportOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder, or a parameter file in one")
    parser.add_argument(
        "--images", nargs="+", metavar="IMAGE",
        help="images, or folders of them, for the parity check and calibration",
    )  # fmt: skip
    add_options(parser, RunExportOptions)
    width = max(len(entry.name) for entry in by_priority())
    parser.epilog = "export formats:"
    for entry in by_priority():
        parser.epilog += f"\n  {entry.name:{width}}  {entry.description}; --engine {entry.engine}"


def run(args: argparse.Namespace) -> int:
    options = from_mapping(RunExportOptions, given(args, RunExportOptions))
    from ..tasks.export import export_run

    exported = export_run(args.run, options, args.images)
    for path in exported.paths:
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    for engine, result in exported.parity.items():
        print(f"{engine}: {result.summary()}")
    print("exported")
    return 0
