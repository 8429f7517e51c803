"""`make bench`: this package and its peers, in turn, on the same inputs; writes RESULTS.md.

    python benchmarks/run.py [--voc VOCDEVKIT] [--peers .venv-peers/bin/python] [--only NAME,NAME]

Nothing else should run on the machine. With --only, the rows of the other measurements are kept as they were.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

import mnssd
from mnssd.runtime import settings

# isort: split
import numpy as np
from rivals import HERE, SETTINGS, Rival, compare

from mnssd.data.formats.voc import read_voc

ROOT = HERE.parent
SPLIT, VAL = "2007_trainval", "2007_test"
BATCH = 16
EPOCHS = 10


class Bench:
    """The measurements; each method gives rows of the table."""

    def __init__(self, voc: Path, peers: Path, scratch: Path) -> None:
        self.voc, self.peers, self.scratch = voc, peers, scratch
        self.threads = str(settings.compute_threads())
        self.photo, self.objects = self._photograph()

    def ours(self, task: str, *arguments: str, **settings: str) -> Rival:
        """A worker of this package, with the settings that it chooses itself unless some are given."""
        return Rival("mnssd", sys.executable, "work_ours.py", task, settings, arguments)

    def gluon(self, task: str, *arguments: str) -> Rival:
        """Stock Gluon and GluonCV, as shipped: no setting at all."""
        return Rival("stock Gluon", sys.executable, "work_gluon.py", task, {}, arguments)

    def train_step(self) -> List[Dict[str, Any]]:
        """V2 1.0 + classifier, 300 x 300, batch 8."""
        torch = Rival("PyTorch", self.peers, "work_torch.py", "train_step", {"OMP_NUM_THREADS": self.threads})
        rivals = [self.ours("train_step"), self.gluon("train_step"), torch]
        seen = compare(rivals, rounds=9, times=3)
        what = "training step, MobileNetV2 + classifier, 300x300, batch 8"
        return [
            row(what, "stock Gluon as shipped", seen, "stock Gluon", 6.0),
            row(what, f"PyTorch channels_last, {self.threads} threads", seen, "PyTorch", 1.75),
        ]

    def infer(self) -> List[Dict[str, Any]]:
        """The backbone in fp32 against the exported model elsewhere."""
        model = str(self.scratch / "backbone.onnx")
        subprocess.run([sys.executable, str(HERE / "work_ours.py"), "export", model], check=True)
        rows = []
        for batch in ("1", "8"):
            settings = {"OMP_NUM_THREADS": self.threads}
            tasks = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "OpenCV DNN": "opencv"}
            if self._openvino_has_bfloat16():
                tasks["OpenVINO bf16"] = "openvino_bf16"
            others = [
                Rival(name, self.peers, "work_onnx.py", task, settings, [model, batch])
                for name, task in tasks.items()
            ]
            seen = compare([self.ours("infer", batch), *others], rounds=15, times=20 if batch == "1" else 5)
            what = f"inference fp32, MobileNetV2 + classifier, 300x300, batch {batch}"
            rows += [row(what, name, seen, name, 1.0 if name == "ONNX Runtime" else None) for name in tasks]
        return rows

    def _openvino_has_bfloat16(self) -> bool:
        """Whether OpenVINO computes in bfloat16 on this processor; elsewhere it ignores the hint."""
        code = (
            "import sys; sys.modules['openvino_telemetry'] = None; import openvino;"
            " print('BF16' in openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))"
        )
        done = subprocess.run([str(self.peers), "-c", code], check=True, capture_output=True, text=True)
        return done.stdout.strip() == "True"

    def detect(self) -> List[Dict[str, Any]]:
        """An image in memory to boxes in its pixels."""
        rivals = [self.ours("detect", self.photo), self.gluon("detect", self.photo)]
        seen = compare(rivals, rounds=11, times=10)
        what = "detection, one JPEG in memory to boxes, SSD-V2 300"
        return [row(what, "GluonCV's SSD with the same network", seen, "stock Gluon", 4.0), self._nms_share()]

    def _nms_share(self) -> Dict[str, Any]:
        """Share of decoding and NMS in a detection, by `mnssd bench`."""
        report = self.scratch / "infer.json"
        self._run(
            "-m", "mnssd.cli.main", "bench", "infer", "--dataset", "voc", "--data-root", str(self.voc),
            "--splits", SPLIT, "--json", str(report),
        )  # fmt: skip
        rows = {line["name"]: line for line in json.loads(report.read_text())["rows"]}
        detection = rows["detect, encoded image in memory"]
        nms, total = detection["parts"]["decoding and NMS"], detection["milliseconds"]
        return {
            "what": "decoding and NMS, share of a detection", "against": "", "aim": "< 15 %",
            "mnssd": f"{nms:.2f} of {total:.1f} ms", "result": f"{nms / total:.0%}",
            "reached": nms / total <= 0.15,
        }  # fmt: skip

    def start(self) -> List[Dict[str, Any]]:
        """Help and a wrong argument, from the shell's view."""
        rows = []
        for what, arguments in (("--help", ["--help"]), ("a wrong option", ["train-ssd", "--nonsense"])):
            command, seconds = [sys.executable, "-m", "mnssd.cli.main", *arguments], []
            for _ in range(12):
                begun = time.perf_counter()
                subprocess.run(command, capture_output=True)
                seconds.append(time.perf_counter() - begun)
            median = statistics.median(seconds[1:])
            rows.append({
                "what": f"start of `mnssd`: {what}", "against": "", "aim": "< 0.3 s",
                "mnssd": f"{median:.2f} s", "result": f"{median:.2f} s", "reached": median < 0.3,
            })  # fmt: skip
        return rows

    def cache(self) -> List[Dict[str, Any]]:
        """Reading an image of 12 megapixels for training at 300x300, with and without the image cache."""
        import cv2

        large = str(self.scratch / "large.jpg")
        photo = cv2.resize(cv2.imread(self.photo), (4000, 3000), interpolation=cv2.INTER_CUBIC)
        grain = np.random.default_rng(0).normal(0, 6, photo.shape)  # as of a camera: else it is too easy
        cv2.imwrite(large, np.clip(photo + grain, 0, 255).astype(np.uint8))
        rivals = [
            Rival("mnssd", sys.executable, "work_ours.py", "read", {}, [large, str(self.scratch / "cache")]),
            Rival("decoding", sys.executable, "work_ours.py", "read", {}, [large]),
        ]
        seen = compare(rivals, rounds=5, times=20)
        what = "reading a 12-megapixel JPEG for 300x300 from the image cache"
        return [row(what, "decoding it at an eighth", seen, "decoding", None)]

    def sample(self) -> List[Dict[str, Any]]:
        """One JPEG, augmented, with its targets; one core."""
        from mnssd import zoo

        anchors = str(self.scratch / "anchors.npy")
        np.save(anchors, zoo.get_model("ssd_300_mobilenet_v2").anchors)
        arguments = (self.photo, json.dumps(self.objects), anchors)
        rivals = [self.ours("sample", *arguments, OMP_NUM_THREADS="1"), self.gluon("sample", *arguments)]
        seen = compare(rivals, rounds=7, times=30)
        what = "augmentation + targets, a 500x375 JPEG, one core"
        limit = {
            "what": what, "against": "6 ms", "aim": "< 6 ms",
            "mnssd": f"{seen.median('mnssd') * 1e3:.1f} ms", "result": f"{seen.median('mnssd') * 1e3:.1f} ms",
            "reached": seen.median("mnssd") < 0.006,
        }  # fmt: skip
        return [limit, row(what, "GluonCV's transform", seen, "stock Gluon", 3.0)]

    def loop(self) -> List[Dict[str, Any]]:
        """The whole loop on images: against the bare step, against GluonCV's; and its memory."""
        speeds, shares, rows = [], [], []
        tried = {workers: self._gluon_loop(workers) for workers in (0, 1, 2)}
        best, theirs, ratios = max(tried, key=lambda workers: tried[workers]), [], []
        for number in range(3):
            theirs.append(self._gluon_loop(best))
            bare = Rival("bare", sys.executable, "work_ours.py", "detector_step", {}, [str(BATCH), "20"])
            bare.work(3)
            first = bare.work(6)
            log = self._train(f"loop{number}", EPOCHS if number == 0 else 5)
            seconds = statistics.median([*first, *bare.work(6)])
            bare.close()
            speed = statistics.median(float(line["images_per_second"]) for line in log[1:])
            speeds.append(speed)
            shares.append(speed * seconds / BATCH)
            ratios.append(speed / theirs[-1])
            if number == 0:
                rows.append(memory_row(log))
        share = statistics.median(shares)
        rows.insert(0, {
            "what": f"training loop on VOC images, SSD-V2 300, batch {BATCH}",
            "against": "the bare step", "aim": "90 %", "mnssd": f"{statistics.median(speeds):.2f} images/s",
            "result": f"{share:.0%} ({min(shares):.0%} - {max(shares):.0%})", "reached": share >= 0.9,
        })  # fmt: skip
        ratio = statistics.median(ratios)
        rows.insert(1, {
            "what": rows[0]["what"], "against": f"GluonCV's loop, its best of 0-2 workers ({best})",
            "aim": "4x", "mnssd": rows[0]["mnssd"],
            "peer": f"{statistics.median(theirs):.2f} images/s",
            "result": f"{ratio:.2f}x ({min(ratios):.2f} - {max(ratios):.2f})", "reached": ratio >= 4,
        })  # fmt: skip
        return rows

    def _photograph(self) -> Any:
        """The first image of 500 x 375 with two or three objects, and they."""
        for sample in read_voc(str(self.voc), SPLIT):
            if tuple(sample.size) == (500, 375) and 2 <= len(sample.labels) <= 3:
                return sample.image_path, np.column_stack([sample.boxes, sample.labels]).tolist()
        raise SystemExit(f"{self.voc}: no image of 500x375 in {SPLIT}")

    def _train(self, name: str, epochs: int) -> List[Dict[str, str]]:
        output = self.scratch / name
        self._run(
            str(ROOT / "train_ssd.py"), "--dataset", "voc", "--data-root", str(self.voc),
            "--train-splits", SPLIT, "--val-splits", VAL, "--epochs", str(epochs),
            "--batch-size", str(BATCH), "--lr", "0.001", "--weights", "none",
            "--val-interval", "1", "--output", str(output),
        )  # fmt: skip
        with open(output / "log.csv", newline="") as file:
            return list(csv.DictReader(file))

    def _gluon_loop(self, workers: int) -> float:
        script = str(HERE / "loop_gluon.py")
        return float(self._run(script, str(self.voc), SPLIT, str(workers), "10").split()[-1])

    def _run(self, *command: str) -> str:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)}
        done = subprocess.run([sys.executable, *command], env=clean, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done.stdout


def row(what: str, against: str, seen: Any, peer: str, aim: Optional[float]) -> Dict[str, Any]:
    """A line of the table: how many times faster."""
    ratio, (low, high) = seen.ratio("mnssd", peer), seen.spread("mnssd", peer)
    return {
        "what": what, "against": against, "aim": f"{aim}x" if aim else "",
        "mnssd": f"{seen.median('mnssd') * 1e3:.1f} ms", "peer": f"{seen.median(peer) * 1e3:.1f} ms",
        "result": f"{ratio:.2f}x ({low:.2f} - {high:.2f})", "reached": None if aim is None else ratio >= aim,
    }  # fmt: skip


def memory_row(log: List[Dict[str, str]]) -> Dict[str, Any]:
    """Growth of resident memory from epoch 2 to the last."""
    second, last = (float(log[i]["memory_mb"]) for i in (1, -1))
    growth = last / second - 1
    return {
        "what": f"memory of the training process, epoch {log[-1]['epoch']} over epoch 2", "against": "",
        "aim": "< 2 %", "mnssd": f"{second:.0f} -> {last:.0f} MB", "result": f"{growth:+.1%}",
        "reached": growth < 0.02,
    }  # fmt: skip


def remember(rows: Dict[str, List[Dict[str, Any]]], before: Mapping[str, Any]) -> None:
    """Note in each new line what the run before gave for it, on the same kind of machine."""
    known = {
        (line["what"], line["against"].split(" (")[0]): line["result"]
        for group in before.get("rows", {}).values()
        for line in group
    }
    for line in (line for group in rows.values() for line in group):
        line["before"] = known.get((line["what"], line["against"].split(" (")[0]), "")


def write(rows: Dict[str, List[Dict[str, Any]]], versions: Dict[str, Any], command: str) -> None:
    """RESULTS.md and results.json."""
    (HERE / "results.json").write_text(json.dumps({"machine": versions, "rows": rows}, indent=2) + "\n")
    notes = HERE / "RESULTS-NOTES.md"
    lines = [
        "# Speed compared with other frameworks",
        "",
        "| measurement | compared with | ours | theirs | result | previous run | aim | reached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in (line for group in rows.values() for line in group):
        reached = {True: "yes", False: "no", None: ""}[line["reached"]]
        cells = [
            line["what"],
            line["against"],
            line["mnssd"],
            line.get("peer", ""),
            line["result"],
            line.get("before", ""),
            line["aim"],
        ]
        lines.append(f"| {' | '.join([*cells, reached])} |")
    lines += [
        "",
        f"Written by `{command}` on {versions['date']}. {versions['cpu']} with "
        f"{versions['instruction_set']}, {versions['usable_cores']} cores; "
        + ", ".join(f"{name} {version}" for name, version in versions["versions"].items())
        + ". The frameworks ran in turn; medians of paired rounds, in brackets the lowest and the highest. "
        "Stock Gluon runs as shipped, without any setting; the others with one thread per core.",
    ]
    text = "\n".join(lines) + "\n"
    (HERE / "RESULTS.md").write_text(text + (f"\n{notes.read_text()}" if notes.exists() else ""))


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
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(args.voc, args.peers, Path(scratch))
        measurements: Dict[str, Callable[[], List[Dict[str, Any]]]] = {
            name: getattr(bench, name)
            for name in ("train_step", "loop", "sample", "cache", "infer", "detect", "start")
        }
        old = HERE / "results.json"
        before = json.loads(old.read_text()) if old.exists() else {"machine": {}, "rows": {}}
        rows = dict(before["rows"]) if args.only else {}
        for name, measure in measurements.items():
            if not args.only or name in args.only.split(","):
                print(f"{name} ...", flush=True)
                rows[name] = measure()
                for line in rows[name]:
                    print(f"  {line['what']} | {line['against']}: {line['result']}", flush=True)
    versions = settings.describe()
    versions["versions"].update(peer_versions(args.peers))
    versions["date"] = datetime.date.today().isoformat()
    same = all(before["machine"].get(key) == versions[key] for key in ("cpu", "instruction_set"))
    remember(
        {name: rows[name] for name in rows if rows[name] is not before["rows"].get(name)},
        before if same else {},
    )
    write({name: rows[name] for name in measurements if name in rows}, versions, "make bench")
    print(f"mnssd {mnssd.__version__}: {HERE / 'RESULTS.md'}")


def peer_versions(python: Path) -> Dict[str, str]:
    """Versions of the peers that have an environment of their own."""
    code = (
        "import sys; sys.modules['openvino_telemetry'] = None;"
        "import json, torch, onnxruntime, openvino, cv2; print(json.dumps({'torch': torch.__version__,"
        " 'onnxruntime': onnxruntime.__version__, 'openvino': openvino.__version__,"
        " 'opencv (DNN)': cv2.__version__}))"
    )
    return json.loads(subprocess.run([str(python), "-c", code], check=True, capture_output=True).stdout)


if __name__ == "__main__":
    main()
