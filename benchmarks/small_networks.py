"""Ways to make a detector small: size on disk, parameters, multiply-adds, time and mAP in one table.

    python benchmarks/small_networks.py "as trained=RUN" "factorized=RUN" "pruned=RUN" --bits 5,6 --output DIR

Each run is exported as MXNet's files (fp32) and, for each of `--bits`, with shared weights and Huffman codes;
the first run also in the formats of `--also`. mAP is that of the exports, on the validation images of the
first run or on those of --data-root and --splits. Times are those of one image from pixels to boxes, all
networks in turn in one process.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any, List, NamedTuple

from mnssd.runtime import processor, settings


class Row(NamedTuple):
    """A network in one format."""

    name: str
    megabytes: float
    cost: Any
    export: Any


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--bits", default="5", help="bits per shared weight, separated by commas")
    parser.add_argument("--also", default="int8", help="further formats of the first run, '' for none")
    parser.add_argument("--output", required=True, help="folder for the exports")
    parser.add_argument("--data-root", help="default: that of the first run")
    parser.add_argument("--splits", help="default: the validation lists of the first run")
    parser.add_argument("--metric", default="voc12")
    parser.add_argument("--seconds", type=float, default=60, help="for all times together; 0 for none")
    return parser.parse_args()


def export_rows(name: str, run: str, formats: List[str], bits: List[int], folder: Path) -> List[Row]:
    """Export a run in all formats."""
    from mnssd import zoo
    from mnssd.compress.cost import count_block
    from mnssd.export.load import load_export
    from mnssd.tasks.export import RunExportOptions, export_run

    ctx = settings.pick_context("cpu")
    net = zoo.load_detector(run, ctx)
    width, height = net.size
    cost = count_block(net.heads, (1, 3, height, width))
    rows = []
    wanted: List[Any] = [(f"{name}, {label}", {"format": label}) for label in formats]
    wanted += [
        (f"{name}, {count} bits, Huffman", {"format": "shared", "shared_bits": count, "huffman": True})
        for count in bits
    ]
    for number, (label, options) in enumerate(wanted):
        output = folder / f"{name.replace(' ', '-')}-{number}"
        # mAP is measured below, so few images are enough for the parity check.
        exported = export_run(run, RunExportOptions(output=str(output), parity_images=8, **options))
        size = sum(entry["bytes"] for entry in exported.sidecar["files"].values())
        rows.append(Row(label, size / 1e6, cost, load_export(output, "detection", ctx)))
    return rows


def open_images(run: str, args: argparse.Namespace) -> Any:
    """The images to measure on."""
    from mnssd.data.open import open_dataset
    from mnssd.train.run_folder import RunFolder

    config = RunFolder.containing(run).read_config()
    data: Any = config.options.data
    dataset, root = ("auto", args.data_root) if args.data_root else (data.dataset, data.folder)
    splits = args.splits or data.validation_lists()[0]
    return open_dataset(dataset, root, splits, config.spec.classes, "eval", allow_absent=True)


def mean_ap(row: Row, dataset: Any, metric_name: str) -> float:
    """Mean average precision of an export."""
    from mnssd.inference.detector import Detector
    from mnssd.metrics.voc import VOCMetric

    detector = Detector(row.export.engine, row.export.sidecar["classes"], row.export.size)
    metric = VOCMetric(dataset.classes, metric_name)
    for start in range(0, len(dataset), 8):
        samples = [dataset[i] for i in range(start, min(start + 8, len(dataset)))]
        results = detector([sample.image_path for sample in samples], score=0.0)
        for sample, detections in zip(samples, results):
            metric.add(detections, sample)
    return float(metric.result().mean_ap)


def main() -> None:
    """Print the table."""
    args = parse_arguments()
    settings.use_synchronous_engine()  # as `mnssd detect` does
    from mnssd.bench.measure import format_table, medians_in_turn
    from mnssd.data.preprocess import read_for_network
    from mnssd.export.engines import network_input

    bits = [int(count) for count in args.bits.split(",") if count]
    also = [name for name in args.also.split(",") if name]
    runs = [text.split("=", 1) for text in args.runs]
    rows: List[Row] = []
    for number, (name, run) in enumerate(runs):
        formats = ["symbol", *also] if number == 0 else ["symbol"]
        rows += export_rows(name, run, formats, bits, Path(args.output))
    dataset = open_images(runs[0][1], args)
    times = ["-"] * len(rows)
    if args.seconds:
        works = []
        for row in rows:
            pixels = read_for_network(dataset[0].image_path, row.export.size)[0]
            x = network_input([pixels], row.export.engine.takes_pixels)
            works.append(partial(row.export.engine.run, x))
        times = [f"{1e3 * seconds:.2f}" for seconds in medians_in_turn(works, args.seconds)]
    print(f"{processor.model()}, {processor.usable_cores()} cores; {len(dataset)} images, {args.metric}\n")
    cells = []
    for row, time in zip(rows, times):
        counts = [f"{getattr(row.cost, name) / 1e6:.1f}" for name in ("parameters", "multiply_adds")]
        score = f"{mean_ap(row, dataset, args.metric):.4f}"
        cells.append([row.name, f"{row.megabytes:.2f}", *counts, time, score])
    head = ["network", "MB", "parameters, M", "multiply-adds, M", "ms", "mAP"]
    print(format_table(head, cells, markdown=True))


if __name__ == "__main__":
    main()
