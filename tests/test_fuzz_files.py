"""Randomly damaged files are read correctly or refused with a message; none crashes the process.

Valid files are damaged: flipped bits, cuts, splices, huge lengths, replaced numbers, nested brackets. A child
process (helpers/fuzz_child.py) reads a few hundred each.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest
from helpers.detectors import make_net, write_images, write_run

from mnssd.export.formats import export_formats
from mnssd.export.options import ExportOptions
from mnssd.export.write import export_network
from mnssd.train import recipes

CHILD = Path(__file__).parent / "helpers" / "fuzz_child.py"
FILES_PER_PROCESS = 250
NUMBERS = b'-1 0 1e308 NaN -Infinity 1000000000000000000 "x" null [] 0.5 true'.split()
HUGE = (10**18, 2**63 - 1, 2**31, 2**32 - 1, 10**9)

# By kind: the file in the folder of valid files, and the folder whose other files are needed with it.
FILES = {
    "checkpoint": ("run/last.ckpt", ""),
    "params": ("run/best.params", ""),
    "state_dict": ("weights.safetensors", ""),
    "recipe": ("recipe.yaml", ""),
    "config": ("run/config.yaml", "run"),
    "lines": ("lines.jsonl", ""),
    "sidecar": ("export/pets.json", "export"),
    "symbol": ("export/pets-symbol.json", "export"),
    "symbol params": ("export/pets-0000.params", "export"),
    "int8 symbol": ("export/pets-int8-symbol.json", "export"),
    "int8 params": ("export/pets-int8-0000.params", "export"),
    "shared params": ("export/pets-shared.safetensors", "export"),
    "onnx": ("export/pets.onnx", "export"),
}
OPTIONAL = {
    "openvino": {"openvino": "export/pets.xml"},
    "tflite": {"tflite": "export/pets.tflite"},
    "ncnn": {"ncnn text": "export/pets.ncnn.param", "ncnn weights": "export/pets.ncnn.bin"},
}
"""By export format whose packages may be missing: its files by kind."""
WRITABLE = [name for name in OPTIONAL if not export_formats[name].obstacle()]
for name in WRITABLE:
    FILES.update({kind: (file, "export") for kind, file in OPTIONAL[name].items()})
TEXT_KINDS = ("recipe", "config", "lines", "sidecar", "symbol", "int8 symbol", "openvino", "ncnn text")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.numpy import save_file

    from mnssd.data.shapes.dataset import make_shapes
    from mnssd.tasks.run import train_detector

    folder = tmp_path_factory.mktemp("originals")
    net, spec = make_net(network="mobilenet_v1")
    options = ExportOptions(("symbol", "int8", "onnx", "shared", *WRITABLE))
    export_network(net, spec, folder / "export", write_images(folder, 4), "pets", options)
    make_shapes(folder / "shapes", train=8, val=4, size=(96, 96))
    options = {
        "network": "mobilenet_v1", "width": 0.25, "size": (96, 96), "batch_size": 8, "epochs": 1,
        "val_interval": 0, "weights": "none",
    }  # fmt: skip
    train_detector({**options, "data_root": str(folder / "shapes"), "output": str(folder / "trained")})
    write_run(folder / "run", net, spec)
    shutil.copy(folder / "trained" / "last.ckpt", folder / "run" / "last.ckpt")
    arrays = {f"layer{i}.weight": np.arange(12, dtype=np.float32).reshape(3, 4) for i in range(5)}
    save_file(arrays, str(folder / "weights.safetensors"))
    shutil.copy(recipes.FOLDER / "fast.yaml", folder / "recipe.yaml")
    record = {"image": "a.jpg", "width": 5, "height": 5, "detections": []}
    (folder / "lines.jsonl").write_text("".join(json.dumps({**record, "n": i}) + "\n" for i in range(9)))
    return folder


# ---- damage ------------------------------------------------------------------------------------------------


def damage(data: bytes, is_text: bool, rng: random.Random) -> bytes:
    """`data` with one to three faults."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        common = [flip, cut, splice, repeat, overwrite]
        faults = [*common, number, number, swap, nest] if is_text else [*common, huge, huge]
        data = rng.choice(faults)(data, rng)
    return data


def _offset(data: bytes, rng: random.Random) -> int:
    """Random offset, half of the time near the start or end, where headers and tables are."""
    if rng.random() < 0.5 or len(data) < 200:
        return rng.randrange(len(data) + 1)
    near = rng.randrange(200)
    return near if rng.random() < 0.6 else len(data) - near


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 8))):
        if changed:
            changed[min(_offset(data, rng), len(changed) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _offset(data, rng)]


def splice(data: bytes, rng: random.Random) -> bytes:
    a, b = sorted((_offset(data, rng), _offset(data, rng)))
    return data[:a] + data[b:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    a = _offset(data, rng)
    return data[:a] + data[a : a + rng.randrange(1, 300)] * 2 + data[a:]


def overwrite(data: bytes, rng: random.Random) -> bytes:
    a = _offset(data, rng)
    return data[:a] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 16))) + data[a + 8 :]


def huge(data: bytes, rng: random.Random) -> bytes:
    """Replace four or eight bytes by a huge integer."""
    width = rng.choice((4, 8))
    a = _offset(data, rng) // width * width
    value = rng.choice(HUGE) & ((1 << (8 * width)) - 1)
    return data[:a] + value.to_bytes(width, "little") + data[a + width :]


def number(data: bytes, rng: random.Random) -> bytes:
    """Replace a number by another value."""
    matches = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    if not matches:
        return data
    match = rng.choice(matches)
    value = rng.choice(NUMBERS)
    return data[: match.start()] + value + data[match.end() :]


def swap(data: bytes, rng: random.Random) -> bytes:
    """Replace a quoted string or word by another one."""
    matches = list(re.finditer(rb'"[^"\n]*"|[A-Za-z_]+', data))
    if len(matches) < 2:
        return data
    first, second = rng.choice(matches), rng.choice(matches)
    return data[: first.start()] + second.group() + data[first.end() :]


def nest(data: bytes, rng: random.Random) -> bytes:
    depth = rng.choice((5, 2000, 100_000))
    a = _offset(data, rng)
    return data[:a] + b"[" * depth + b"]" * rng.choice((0, depth)) + data[a:]


# ---- reading -----------------------------------------------------------------------------------------------


def run_child(work: List[Tuple[str, Path]]) -> List[Tuple[str, Path, str]]:
    """Result of each file; fails with the name of the file if the process crashes."""
    lines_in = "".join(f"{kind}\t{path}\n" for kind, path in work)
    done = subprocess.run(
        [sys.executable, str(CHILD)], input=lines_in, capture_output=True, text=True, timeout=1200
    )
    lines = [
        line for line in done.stdout.splitlines() if line.startswith(("try ", "read", "refused: ", "fault: "))
    ]
    if done.returncode:
        last = lines[-1] if lines else "no file"
        pytest.fail(f"exit status {done.returncode} after: {last}\n{done.stderr[-2000:]}")
    assert len(lines) == 2 * len(work)
    return [(kind, path, outcome) for (kind, path), outcome in zip(work, lines[1::2])]


def prepare(folder: Path, kind: str, originals: Path, content: bytes) -> Path:
    """Write `content` to a file in `folder`, next to the files that belong to it."""
    name, siblings = FILES[kind]
    folder.mkdir(parents=True)
    path = folder / Path(name).name
    for sibling in (originals / siblings).iterdir() if siblings else ():
        if sibling.name == "pets.json":
            shutil.copy(sibling, folder)  # the child process changes it
        elif sibling.name != path.name:
            os.link(sibling, folder / sibling.name)
    path.write_bytes(content)
    return path


def fuzz(originals: Path, folder: Path, count: int, seed: int) -> None:
    rng, kinds = random.Random(seed), list(FILES)
    results: List[Tuple[str, Path, str]] = []
    for start in range(0, count, FILES_PER_PROCESS):
        work = []
        for index in range(start, min(count, start + FILES_PER_PROCESS)):
            kind = kinds[index % len(kinds)]
            content = damage((originals / FILES[kind][0]).read_bytes(), kind in TEXT_KINDS, rng)
            work.append((kind, prepare(folder / f"{index:04d}", kind, originals, content)))
        results += run_child(work)
        for _, path, outcome in results[start:]:
            if not outcome.startswith("fault"):
                shutil.rmtree(path.parent)
    faults = [f"{kind} {path}: {outcome}" for kind, path, outcome in results if outcome.startswith("fault")]
    assert not faults, "\n".join(faults[:20]) + f"\n{len(faults)} of {count}"
    unnamed = [
        f"{kind} {path}: {outcome}"
        for kind, path, outcome in results
        if outcome.startswith("refused") and str(path.parent) not in outcome and path.name not in outcome
    ]
    assert not unnamed, "\n".join(unnamed[:20])
    counts: Dict[str, Counter] = {kind: Counter() for kind in kinds}
    for kind, _, outcome in results:
        counts[kind][outcome.split(":")[0]] += 1
    print({kind: dict(counter) for kind, counter in counts.items()})
    refused = sum(counter["refused"] for counter in counts.values())
    assert refused > count / 2  # else the faults were too small


def test_valid_files_are_read(originals: Path, tmp_path: Path) -> None:
    work = []
    for index, (kind, (name, _)) in enumerate(FILES.items()):
        content = (originals / name).read_bytes()
        work.append((kind, prepare(tmp_path / str(index), kind, originals, content)))
    assert {kind: outcome for kind, _, outcome in run_child(work)} == dict.fromkeys(FILES, "read")


def test_some_damaged_files(originals: Path, tmp_path: Path) -> None:
    fuzz(originals, tmp_path, 54, seed=1)


@pytest.mark.slow
def test_two_thousand_damaged_files(originals: Path, tmp_path: Path) -> None:
    fuzz(originals, tmp_path, 2004, seed=0)
