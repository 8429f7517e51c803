"""Comparison of the formats of an export: size, speed, memory and mAP.

Each engine runs in a process of its own, so that its memory is measured alone and no idle threads of another
engine disturb it. The engines are timed in turn, so that a slowdown of the machine affects all of them.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import statistics
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .. import zoo
from ..data.open import open_dataset
from ..data.preprocess import read_for_network
from ..errors import ExportError, MnssdError
from ..export.engines import Engine, MXNetEngine, network_input
from ..export.formats import format_of_engine
from ..export.load import formats_in, load_export
from ..export.network import ExportedDetector
from ..export.sidecar import read_export
from ..graph.inference import inference_block
from ..inference.detector import Detector
from ..metrics.voc import VOCMetric
from ..runtime import processor, settings
from .measure import format_table, median_seconds
from .options import BenchOptions

_log = logging.getLogger(__name__)

ROUNDS = 5
"""Times that each engine is timed."""

BATCHES, EVAL_BATCH = (1, 8), 8

NETWORK = "network"
"""Name of the run's own network among the engines."""

Times = Dict[str, Dict[int, float]]
"""Milliseconds per image by part (``heads``, ``total``) and batch size."""


@dataclass(frozen=True)
class ExportRow:
    """One row of the table.

    Attributes
    ----------
    engine : str
        An engine of an export format, or `NETWORK`.
    megabytes : float
        Size of its files.
    heads, total : dict of int to float
        Milliseconds per image by batch size, up to class scores and box offsets, and up to detections.
        Medians of the rounds.
    peak_megabytes : int, optional
        Peak resident memory of its process, including the dataset and the interpreter.
    map : float, optional
        Mean average precision, 0 to 1; None if the dataset has none of the classes.
    rounds : list of Times
        Each round, for ratios of measurements that ran one after the other.
    """

    engine: str
    megabytes: float
    heads: Dict[int, float]
    total: Dict[int, float]
    peak_megabytes: Optional[int]
    map: Optional[float]
    rounds: List[Times]


def measure_exports(folder: Path, options: BenchOptions) -> List[ExportRow]:
    """Measure the formats in an export folder, after the network of ``options.run`` if given.

    Engines that this machine does not have are left out, with a warning.

    Raises
    ------
    ExportError
        If the export is damaged, not of a detector, or this machine has no engine for it.
    MnssdError
        If one of the processes fails.
    """
    _, sidecar = read_export(folder)
    if sidecar["task"] != "detection":
        raise ExportError(f"{folder}: a classifier; mnssd bench export measures detectors")
    engines = [entry.engine for entry in formats_in(sidecar)]
    engines = [NETWORK, *engines] if options.run else engines
    workers: List[_Worker] = []
    try:
        _start(engines, workers, folder, options)
        engines = [worker.engine for worker in workers]
        rounds: List[List[Times]] = [[] for _ in engines]
        for _ in range(ROUNDS):
            for worker, times in zip(workers, rounds):
                times.append(worker.request("time"))
        rows = []
        for engine, worker, times in zip(engines, workers, rounds):
            mean_ap, peak = worker.request("evaluate")
            heads, total = (
                {batch: statistics.median(each[part][batch] for each in times) for batch in BATCHES}
                for part in ("heads", "total")
            )
            megabytes = _bytes(engine, folder, sidecar, options) / 1e6
            rows.append(ExportRow(engine, megabytes, heads, total, peak, mean_ap, times))
        return rows
    finally:
        for worker in workers:
            worker.close()


def _start(engines: Sequence[str], workers: List[_Worker], folder: Path, options: BenchOptions) -> None:
    """Append a worker for each engine that can be loaded."""
    for engine in engines:
        try:
            workers.append(_Worker(engine, folder, options))
        except ExportError as error:
            if engine == engines[-1] and not workers:
                raise
            _log.warning(f"{engine} is left out: {error}")


def format_exports(rows: Sequence[ExportRow]) -> str:
    """The rows as a table; the last column is the difference in mAP from the first row."""
    head = ["engine", "MB"]
    head += [f"{part} ms, batch {batch}" for part in ("heads", "total") for batch in BATCHES]
    head += ["peak MB", "mAP", f"below {rows[0].engine}"]
    cells = []
    for row in rows:
        score = "?" if row.map is None else f"{row.map:.4f}"
        first = rows[0].map
        loss = "?" if row.map is None or first is None else f"{first - row.map:.4f}"
        times = [f"{part[batch]:.2f}" for part in (row.heads, row.total) for batch in BATCHES]
        peak = str(row.peak_megabytes or "?")
        cells.append([row.engine, f"{row.megabytes:.1f}", *times, peak, score, loss])
    return format_table(head, cells)


def _bytes(engine: str, folder: Path, sidecar: Dict[str, Any], options: BenchOptions) -> int:
    if engine == NETWORK:
        run = Path(str(options.run))
        return os.path.getsize(run / zoo.BEST_FILE if run.is_dir() else run)
    return sum(int(sidecar["files"][kind]["bytes"]) for kind in format_of_engine(engine).files)


class _Worker:
    """A process that holds one engine and measures it on request."""

    def __init__(self, engine: str, folder: Path, options: BenchOptions) -> None:
        self.engine = engine
        context = multiprocessing.get_context("spawn")  # a fork would inherit MXNet's threads and hang
        self._connection, remote = context.Pipe()
        self._process = context.Process(target=_serve, args=(remote, engine, folder, options), daemon=True)
        self._process.start()
        remote.close()
        self._receive()

    def request(self, name: str) -> Any:
        """Result of a measurement, a method of `_Measurements`."""
        self._connection.send(name)
        return self._receive()

    def close(self) -> None:
        self._connection.close()
        self._process.join(10)
        self._process.kill()

    def _receive(self) -> Any:
        try:
            result = self._connection.recv()
        except EOFError as error:
            self._process.join()
            status = self._process.exitcode
            raise MnssdError(f"{self.engine}: its process ended with exit status {status}") from error
        if isinstance(result, MnssdError):
            raise result
        return result


def _serve(connection: Connection, engine: str, folder: Path, options: BenchOptions) -> None:
    """Main function of a worker process."""
    settings.start_engine_silently()  # this process inherits MXNET_ENGINE_TYPE
    try:
        measurements = _Measurements(engine, folder, options)
        connection.send("ready")
        while True:
            connection.send(getattr(measurements, connection.recv())())
    except EOFError:
        return
    except MnssdError as error:
        connection.send(type(error)(str(error)))


class _Measurements:
    """One engine, loaded whole and up to its heads."""

    def __init__(self, engine: str, folder: Path, options: BenchOptions) -> None:
        ctx = settings.pick_context(options.ctx)
        self._options = options
        if engine == NETWORK:
            net = zoo.load_detector(str(options.run), ctx)
            whole, heads = (inference_block(part, net.size, ctx) for part in (net, net.heads))
            self._whole: Engine = MXNetEngine(whole, ctx)
            self._heads: Engine = MXNetEngine(heads, ctx)
            self._classes, self._size = net.classes, net.size
        else:
            export = load_export(folder, "detection", ctx, engine)
            export_heads = load_export(folder, "detection", ctx, engine, ExportedDetector.heads)
            assert export
            assert export_heads
            self._whole, self._heads = export.engine, export_heads.engine
            self._classes, self._size = export.sidecar["classes"], export.size
        self._dataset = open_dataset(
            options.dataset, options.data_root, options.splits, self._classes, "eval", allow_absent=True
        )

    def time(self) -> Times:
        paths = [self._dataset[i % len(self._dataset)].image_path for i in range(max(BATCHES))]
        pixels = [read_for_network(path, self._size)[0] for path in paths]
        seconds = self._options.seconds / (2 * len(BATCHES) * ROUNDS)
        times: Times = {}
        for part, engine in (("heads", self._heads), ("total", self._whole)):
            times[part] = {}
            for batch in BATCHES:
                x = network_input(pixels[:batch], engine.takes_pixels)
                times[part][batch] = median_seconds(partial(engine.run, x), seconds) / batch * 1e3
        return times

    def evaluate(self) -> Tuple[Optional[float], Optional[int]]:
        """Mean average precision, None if the dataset has none of the classes; peak memory in MB."""
        if not any((~sample.difficult).any() for sample in self._dataset):
            return None, processor.peak_megabytes()
        detector = Detector(self._whole, self._classes, self._size)
        metric = VOCMetric(self._dataset.classes, self._options.metric)
        for start in range(0, len(self._dataset), EVAL_BATCH):
            samples = [self._dataset[i] for i in range(start, min(start + EVAL_BATCH, len(self._dataset)))]
            results = detector([sample.image_path for sample in samples], score=0.0)
            for sample, detections in zip(samples, results):
                metric.add(detections, sample)
        return float(metric.result().mean_ap), processor.peak_megabytes()
