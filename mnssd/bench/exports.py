"""Every format in the folder of an export, side by side: size, speed, memory, mAP.

Each runs in a process of its own, so that its memory is its own and no engine's waiting threads disturb
another's; and they are timed in turn, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .. import zoo
from ..data.dataset import Dataset
from ..data.open import open_dataset
from ..data.preprocess import read_for_network
from ..errors import ExportError, MnssdError
from ..export.detector import HEADS
from ..export.engines import Engine, MXNetEngine, network_input
from ..export.load import load_export
from ..export.options import ENGINES
from ..export.sidecar import FORMATS, read_export
from ..graph.inference import inference_block
from ..inference.detector import Detector
from ..metrics.voc import VOCMetric
from ..runtime import processor, settings
from .measure import format_table, median_seconds
from .options import BenchOptions

ROUNDS = 5
"""So often is each timed."""

BATCHES = (1, 8)

NETWORK = "network"
"""What the row of the run itself is called."""


Rounds = List[Dict[str, Dict[int, float]]]


@dataclass(frozen=True)
class ExportRow:
    """One line of the table.

    Attributes
    ----------
    what : str
        An engine (`formats.ENGINES`), or `NETWORK`.
    megabytes : float
        Of its files.
    heads, whole : dict of int to float
        Milliseconds an image by batch size: to class scores and box offsets, and to detections. Medians of
        the rounds.
    rounds : list of dict
        Each round's ``heads`` and ``whole``, for ratios of what ran one after the other.
    peak_megabytes : int, optional
        The most resident memory of its process, dataset and interpreter included.
    map : float, optional
        0 to 1; None where the dataset has none of the classes.
    """

    what: str
    megabytes: float
    heads: Dict[int, float]
    whole: Dict[int, float]
    peak_megabytes: Optional[int]
    map: Optional[float]
    rounds: Rounds

    def as_dict(self) -> Dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure_exports(folder: Path, options: BenchOptions) -> List[ExportRow]:
    """Measure what is in `folder`, and the network of ``options.run`` before it.

    Raises
    ------
    ExportError
        As `read_export`; for an export of something else than a detector.
    MnssdError
        When one of the processes fails, with its reason.
    """
    _, sidecar = read_export(folder)
    if sidecar["task"] != "detection":
        raise ExportError(f"{folder}: a classifier; `mnssd bench export` measures detectors")
    names = [name for name, kind in ENGINES.items() if FORMATS[kind][0] in sidecar["files"]]
    names = [NETWORK, *names] if options.run else names
    workers = [_Worker(name, folder, options) for name in names]
    try:
        times: List[Rounds] = [[] for _ in names]
        for _ in range(ROUNDS):
            for worker, found in zip(workers, times):
                found.append(worker.ask("time"))
        rows = []
        for name, worker, found in zip(names, workers, times):
            score = worker.ask("evaluate")
            heads, whole = (
                {batch: statistics.median(each[what][batch] for each in found) for batch in BATCHES}
                for what in ("heads", "whole")
            )
            size = _bytes(name, folder, sidecar, options) / 1e6
            rows.append(ExportRow(name, size, heads, whole, worker.ask("peak"), score, found))
        return rows
    finally:
        for worker in workers:
            worker.close()


def format_exports(rows: Sequence[ExportRow], markdown: bool = False) -> str:
    """A table for people. The last column is the difference from the first row."""
    head = ["what", "MB"]
    head += [f"{what} ms, batch {batch}" for what in ("heads", "whole") for batch in BATCHES]
    head += ["peak MB", "mAP", f"less {rows[0].what}"]
    cells = []
    for row in rows:
        score = "?" if row.map is None else f"{row.map:.4f}"
        first = rows[0].map
        less = "?" if row.map is None or first is None else f"{first - row.map:.4f}"
        times = [f"{part[batch]:.2f}" for part in (row.heads, row.whole) for batch in BATCHES]
        cells.append([row.what, f"{row.megabytes:.1f}", *times, str(row.peak_megabytes or "?"), score, less])
    return format_table(head, cells, markdown)


def _bytes(name: str, folder: Path, sidecar: Dict[str, Any], options: BenchOptions) -> int:
    if name == NETWORK:
        run = Path(str(options.run))
        return os.path.getsize(run / zoo.BEST_FILE if run.is_dir() else run)
    return sum(int(sidecar["files"][kind]["bytes"]) for kind in FORMATS[ENGINES[name]])


class _Worker:
    """A process that holds one of them, and answers questions about it."""

    def __init__(self, name: str, folder: Path, options: BenchOptions) -> None:
        self._name = name
        context = multiprocessing.get_context("spawn")  # a fork would inherit MXNet's threads, and hang
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, name, folder, options), daemon=True)
        self._process.start()
        there.close()
        self._answer()

    def ask(self, question: str) -> Any:
        self._here.send(question)
        return self._answer()

    def close(self) -> None:
        self._here.close()
        self._process.join(10)
        self._process.kill()

    def _answer(self) -> Any:
        try:
            answer = self._here.recv()
        except EOFError as error:
            self._process.join()
            raise MnssdError(
                f"{self._name}: its process ended with exit status {self._process.exitcode}"
            ) from error
        if isinstance(answer, MnssdError):
            raise answer
        return answer


def _serve(connection: Connection, name: str, folder: Path, options: BenchOptions) -> None:
    """What runs in a process of its own until nobody asks any more."""
    settings.start_engine_silently()  # the one that this process inherits in MXNET_ENGINE_TYPE
    try:
        measured = _Measured(name, folder, options)
        questions = {"time": measured.time, "evaluate": measured.evaluate, "peak": processor.peak_megabytes}
        connection.send("ready")
        while True:
            connection.send(questions[connection.recv()]())
    except EOFError:
        return
    except MnssdError as error:
        connection.send(type(error)(str(error)))


class _Measured:
    """One format, loaded: whole, and its heads alone."""

    def __init__(self, name: str, folder: Path, options: BenchOptions) -> None:
        ctx = settings.pick_context(options.ctx)
        self._options = options
        self._whole, self._heads, self._classes, self._size = (
            _of_run(str(options.run), ctx) if name == NETWORK else _of_export(name, folder, ctx)
        )
        self._dataset = self._open()

    def time(self) -> Dict[str, Dict[int, float]]:
        """Milliseconds an image."""
        paths = [self._dataset[i % len(self._dataset)].image_path for i in range(max(BATCHES))]
        pixels = [read_for_network(path, self._size)[0] for path in paths]
        each = self._options.seconds / (2 * len(BATCHES) * ROUNDS)
        found: Dict[str, Dict[int, float]] = {}
        for what, engine in (("heads", self._heads), ("whole", self._whole)):
            found[what] = {}
            for batch in BATCHES:
                x = network_input(pixels[:batch], engine.takes_pixels)
                found[what][batch] = median_seconds(partial(engine.answer, x), each) / batch * 1e3
        return found

    def evaluate(self) -> Optional[float]:
        """MAP over the dataset; None where it has none of the classes."""
        if not any((~sample.difficult).any() for sample in self._dataset):
            return None
        detector = Detector(self._whole, self._classes, self._size)
        metric = VOCMetric(self._dataset.classes, self._options.metric)
        for start in range(0, len(self._dataset), 8):
            samples = [self._dataset[i] for i in range(start, min(start + 8, len(self._dataset)))]
            paths = [sample.image_path for sample in samples]
            for sample, found in zip(samples, detector(paths, score=0.0)):
                metric.add(found, sample)
        return float(metric.result().mean_ap)

    def _open(self) -> Dataset:
        options = self._options
        return open_dataset(
            options.dataset, options.data_root, options.splits, self._classes, "val", allow_absent=True
        )


Loaded = Tuple[Engine, Engine, Sequence[str], Tuple[int, int]]


def _of_run(run: str, ctx: Any) -> Loaded:
    net = zoo.load_detector(run, ctx)
    whole, heads = (MXNetEngine(inference_block(part, net.size, ctx), ctx) for part in (net, net.heads))
    return whole, heads, net.classes, net.size


def _of_export(name: str, folder: Path, ctx: Any) -> Loaded:
    whole = load_export(folder, "detection", ctx, name)
    heads = load_export(folder, "detection", ctx, name, HEADS)
    assert whole
    assert heads
    return whole.engine, heads.engine, whole.sidecar["classes"], whole.size
