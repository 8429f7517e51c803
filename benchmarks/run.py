"""`make bench`: this package and its peers, in turn, on the same inputs; writes RESULTS.md.

    python benchmarks/run.py [--voc VOCDEVKIT] [--peers .venv-peers/bin/python] [--only NAME,NAME]

Nothing else should run on the machine. With --only, the rows of the other measurements are kept as they were.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import mnssd
from mnssd.runtime import settings

# isort: split
import numpy as np
import table
from rivals import HERE, ROUNDS, SETTINGS, Rival, compare
from table import Line, row, value_row

from mnssd.data.formats.voc import read_voc

ROOT = HERE.parent
SPLIT, VAL = "2007_trainval", "2007_test"
BATCH = 16


class Bench:
    """The measurements; each method gives rows of the table."""

    def __init__(self, voc: Path, peers: Path, scratch: Path) -> None:
        self.voc, self.peers, self.scratch = voc, peers, scratch
        self.threads = str(settings.compute_threads())
        self.photo, self.objects = self._photograph()

    def ours(self, task: str, *arguments: str, name: str = "mnssd", **settings: str) -> Rival:
        """A worker of this package, with the settings that it chooses itself unless some are given."""
        return Rival(name, sys.executable, "work_ours.py", task, settings, arguments)

    def gluon(self, task: str, *arguments: str) -> Rival:
        """Stock Gluon and GluonCV, as shipped: no setting at all."""
        return Rival("stock Gluon", sys.executable, "work_gluon.py", task, {}, arguments)

    def peer(self, name: str, script: str, task: str, *arguments: str) -> Rival:
        """Another framework, with one thread per core."""
        return Rival(name, self.peers, script, task, {"OMP_NUM_THREADS": self.threads}, arguments)

    def train_step(self) -> List[Line]:
        """V2 1.0 + classifier, 300 x 300, batch 8."""
        tasks = {"PyTorch": "train_step", "PyTorch, compiled": "train_step_compiled"}
        if self._has_bfloat16():
            tasks.update({f"{name}, bf16": f"{task}_bf16" for name, task in tasks.items()})
        peers = [self.peer(name, "work_torch.py", task) for name, task in tasks.items()]
        seen = compare([self.ours("train_step"), self.gluon("train_step"), *peers], times=1)
        what, best = "training step, MobileNetV2 + classifier, 300x300, batch 8", min(tasks, key=seen.median)
        rows = [row(what, "stock Gluon as shipped", seen, "stock Gluon", 6.0)]
        return rows + [row(what, name, seen, name, 1.5 if name == best else None) for name in tasks]

    def infer(self) -> List[Line]:
        """The backbone in fp32 against the exported model elsewhere."""
        folder = self.scratch / "backbone"
        self._export("export_backbone", folder)
        tasks = {
            "ONNX Runtime": "onnxruntime",
            "OpenVINO": "openvino",
            "OpenCV DNN": "opencv",
            "ncnn": "ncnn",
        }
        if self._has_bfloat16():
            tasks["OpenVINO bf16"] = "openvino_bf16"
        rows = []
        for batch in ("1", "8"):
            others = [
                self.peer(name, "work_onnx.py", task, str(folder / f"backbone{suffix}"), batch)
                for name, task in tasks.items()
                for suffix in ["" if task == "ncnn" else ".onnx"]
            ]
            times, unmeasured = (10, 3) if batch == "1" else (3, 1)
            seen = compare([self.ours("infer", batch), *others], times, unmeasured)
            what = f"inference fp32, MobileNetV2 + classifier, 300x300, batch {batch}"
            rows += [row(what, name, seen, name, 1.0 if name == "ONNX Runtime" else None) for name in tasks]
        return rows

    def int8(self) -> List[Line]:
        """SSD-V2 in 8 bits, with NMS, against ONNX Runtime in fp32."""
        folder = str(self._detector())
        peers = {"ONNX Runtime fp32": "onnxruntime", "ONNX Runtime int8": "onnxruntime-int8"}
        peers["OpenVINO int8"] = "openvino-int8"
        rivals = [self.ours("infer_export", "8", folder, "mxnet-int8")]
        rivals += [
            self.ours("infer_export", "8", folder, engine, name=name) for name, engine in peers.items()
        ]
        seen, what = compare(rivals, 3, 1), "inference int8 on MXNet, SSD-V2 300 with NMS, batch 8"
        return [row(what, name, seen, name, 3.0 if "fp32" in name else None) for name in peers]

    def detect(self) -> List[Line]:
        """An image in memory to boxes in its pixels."""
        seen = compare([self.ours("detect", self.photo), self.gluon("detect", self.photo)], 8, 2)
        what = "detection, one JPEG in memory to boxes, SSD-V2 300"
        rows = [row(what, "GluonCV's SSD with the same network", seen, "stock Gluon", 4.0)]
        folder = self._detector()
        for engine, kind in (("openvino", "fp32"), ("openvino-int8", "int8")):
            ours = self.ours("detect_export", self.photo, str(folder), engine)
            sidecar = str(folder / "detector.json")
            theirs = self.peer("OpenVINO", "work_onnx.py", "detect_openvino", sidecar, self.photo, engine)
            seen = compare([ours, theirs], 8, 2)
            what = f"`Detector` with OpenVINO, one JPEG in memory to boxes, SSD-V2 300, {kind}"
            rows.append(row(what, "OpenVINO called by hand", seen, "OpenVINO", 0.97))
        return [*rows, self._nms_share()]

    def _nms_share(self) -> Line:
        """Share of decoding and NMS in a detection, by `mnssd bench`."""
        report = self.scratch / "infer.json"
        self._run(
            "-m", "mnssd.cli.main", "bench", "infer", "--dataset", "voc", "--data-root", str(self.voc),
            "--splits", SPLIT, "--json", str(report),
        )  # fmt: skip
        rows = {line["name"]: line for line in json.loads(report.read_text())["rows"]}
        detection = rows["detect, encoded image in memory"]
        nms, total = detection["parts"]["decoding and NMS"], detection["milliseconds"]
        detail, share = f"{nms:.2f} of {total:.1f} ms", nms / total
        return value_row(
            "decoding and NMS, share of a detection", "< 15 %", f"{share:.0%}", share < 0.15, detail
        )

    def start(self) -> List[Line]:
        """Help and a wrong option, from the shell's view; and the first boxes of a process."""
        rows = []
        detect = ["detect", str(self._detector()), self.photo]
        commands = {"--help": ["--help"], "a wrong option": ["train-ssd", "--nonsense"]}
        for what, arguments in commands.items():
            seconds = self._seconds_of(arguments)
            rows.append(value_row(f"start of `mnssd`: {what}", "< 0.3 s", f"{seconds:.2f} s", seconds < 0.3))
        for engine in ("mxnet", "onnxruntime", "openvino"):
            seconds = self._seconds_of([*detect, "--engine", engine])
            what = f"`mnssd detect` of one photograph, whole process, {engine}"
            rows.append(value_row(what, "", f"{seconds:.2f} s", None))
        return rows

    def _seconds_of(self, arguments: List[str]) -> float:
        """Median duration of a command."""
        command, seconds = [sys.executable, "-m", "mnssd.cli.main", *arguments], []
        for _ in range(12):
            begun = time.perf_counter()
            subprocess.run(command, capture_output=True)
            seconds.append(time.perf_counter() - begun)
        return statistics.median(seconds[1:])

    def cache(self) -> List[Line]:
        """Reading an image of 12 megapixels for training at 300x300, with and without the image cache."""
        import cv2

        large = str(self.scratch / "large.jpg")
        photo = cv2.resize(cv2.imread(self.photo), (4000, 3000), interpolation=cv2.INTER_CUBIC)
        grain = np.random.default_rng(0).normal(0, 6, photo.shape)  # as of a camera: else it is too easy
        cv2.imwrite(large, np.clip(photo + grain, 0, 255).astype(np.uint8))
        rivals = [
            self.ours("read", large, str(self.scratch / "cache")), self.ours("read", large, name="decoding")
        ]  # fmt: skip
        seen = compare(rivals, times=10, unmeasured=2)
        what = "reading a 12-megapixel JPEG for 300x300 from the image cache"
        return [row(what, "decoding it at an eighth", seen, "decoding")]

    def sample(self) -> List[Line]:
        """One JPEG, augmented, with its targets; one core."""
        from mnssd import zoo

        anchors = str(self.scratch / "anchors.npy")
        np.save(anchors, zoo.get_model("ssd_300_mobilenet_v2").anchors)
        arguments = (self.photo, json.dumps(self.objects), anchors)
        rivals = [self.ours("sample", *arguments, OMP_NUM_THREADS="1"), self.gluon("sample", *arguments)]
        seen = compare(rivals, times=20, unmeasured=2)
        what, seconds = "augmentation + targets, a 500x375 JPEG, one core", seen.median("mnssd")
        limit = value_row(what, "< 6 ms", f"{seconds * 1e3:.1f} ms", seconds < 0.006)
        return [limit, row(what, "GluonCV's transform", seen, "stock Gluon", 3.0)]

    def loop(self) -> List[Line]:
        """The whole loop on images: against the bare step, against GluonCV's; and its memory."""
        data = ["--data-root", str(self.voc), "--train-splits", SPLIT, "--val-splits", VAL]
        options = [
            "--dataset", "voc", *data, "--epochs", str(ROUNDS + 9), "--lr", "0.001",
            "--weights", "none", "--val-interval", "5", "--patience", "0",
            "--output", str(self.scratch / "loop"),
        ]  # fmt: skip
        seconds = {}
        for workers in (0, 1, 2):  # one at a time, because each needs gigabytes
            rival = self._gluon_loop(workers)
            seconds[workers] = statistics.median(rival.work(4))
            rival.close()
        best = min(seconds, key=seconds.__getitem__)
        ours = Rival("mnssd", sys.executable, "loop_ours.py", options[0], {}, options[1:])
        bare = self.ours("detector_step", str(BATCH), "20", name="bare")
        times = {"mnssd": 1, "bare": 4, "stock Gluon": 3}
        memory: List[int] = []
        theirs = self._gluon_loop(best)
        seen = compare([ours, bare, theirs], times, watch=lambda: memory.append(ours.megabytes("VmRSS")))
        speed = {name: f"{BATCH / seen.median(name):.2f}" for name in times}
        detail = {name: f"{speed['mnssd']} / {speed[name]} images/s" for name in ("bare", "stock Gluon")}
        what = f"training loop on VOC images, SSD-V2 300, batch {BATCH}"
        ratio = {name: seen.ratio("mnssd", name) for name in detail}
        growth = memory[-1] / memory[1] - 1
        return [
            table.ratio_row(what, "the bare step", ratio["bare"], 0.9, detail["bare"]),
            table.ratio_row(
                what, "GluonCV's loop, its best of 0-2 workers", ratio["stock Gluon"], 4.0,
                f"{detail['stock Gluon']}, {best} workers",
            ),
            value_row(
                f"memory of the training process, epoch {ROUNDS + 3} over 5", "< 2 %", f"{growth:+.1%}",
                growth < 0.02, f"{memory[1]} to {memory[-1]} MB, peak {ours.peak} MB",
            ),
        ]  # fmt: skip

    def _photograph(self) -> Any:
        """The first image of 500 x 375 with two or three objects, and they."""
        for sample in read_voc(str(self.voc), SPLIT):
            if tuple(sample.size) == (500, 375) and 2 <= len(sample.labels) <= 3:
                return sample.image_path, np.column_stack([sample.boxes, sample.labels]).tolist()
        raise SystemExit(f"{self.voc}: no image of 500x375 in {SPLIT}")

    def _export(self, task: str, folder: Path) -> None:
        photos = sorted(self.voc.glob("VOC2007/JPEGImages/*.jpg"))[:32]
        self._run(str(HERE / "work_ours.py"), task, str(folder), *map(str, photos))

    def _detector(self) -> Path:
        """The detector of `detect`, exported in 32-bit and 8-bit formats."""
        folder = self.scratch / "detector"
        if not folder.exists():
            self._export("export_detector", folder)
        return folder

    def _has_bfloat16(self) -> bool:
        """Whether this processor has bfloat16; elsewhere OpenVINO ignores it and PyTorch emulates it."""
        return bool({"avx512_bf16", "amx_bf16"} & set(table.machine_flags()))

    def _gluon_loop(self, workers: int) -> Rival:
        arguments = [SPLIT, str(workers)]
        return Rival("stock Gluon", sys.executable, "loop_gluon.py", str(self.voc), {}, arguments)

    def _run(self, *command: str) -> str:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)}
        done = subprocess.run([sys.executable, *command], env=clean, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done.stdout


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voc", type=Path, default=ROOT / "../shared/voc/VOCdevkit")
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-peers/bin/python")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    if not args.voc.is_dir():
        raise SystemExit(f"{args.voc}: no VOCdevkit there; say where one is by --voc DIR")
    machine = settings.describe()
    machine["versions"].update(peer_versions(args.peers))
    machine.update(
        date=datetime.date.today().isoformat(), load=os.getloadavg()[0], flags=table.machine_flags()
    )
    rows = table.stored_rows(machine) if args.only else {}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(args.voc, args.peers, Path(scratch))
        names = ("train_step", "loop", "sample", "cache", "infer", "int8", "detect", "start")
        measurements: Dict[str, Callable[[], List[Line]]] = {name: getattr(bench, name) for name in names}
        for name, measure in measurements.items():
            if not args.only or name in args.only.split(","):
                print(f"{name} ...", flush=True)
                rows[name] = measure()
                for line in rows[name]:
                    print(f"  {line['what']} | {line['against']}: {line['result']}", flush=True)
                table.save({name: rows[name] for name in measurements if name in rows}, machine)
    print(f"mnssd {mnssd.__version__}: {HERE / 'RESULTS.md'}")


def peer_versions(python: Path) -> Dict[str, str]:
    """Versions of the peers that have an environment of their own."""
    code = (
        "import sys; sys.modules['openvino_telemetry'] = None;"
        "import json, torch, onnxruntime, openvino, cv2, importlib.metadata as packages;"
        " print(json.dumps({'torch': torch.__version__,"
        " 'onnxruntime': onnxruntime.__version__, 'openvino': openvino.__version__,"
        " 'opencv (DNN)': cv2.__version__, 'ncnn': packages.version('ncnn')}))"
    )
    return json.loads(subprocess.run([str(python), "-c", code], check=True, capture_output=True).stdout)


if __name__ == "__main__":
    main()
