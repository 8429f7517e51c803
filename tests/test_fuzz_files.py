"""Files of ours with random damage: read rightly or refused with a message, and never a crash.

Each is made from a good one: bits flipped, cut, spliced, lengths made huge, numbers replaced, texts nested.
They are read in processes of their own (`fuzz_child.py`), a few hundred each.
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

from mnssd.export.options import ExportOptions
from mnssd.export.write import export_network
from mnssd.train import recipes

CHILD = Path(__file__).parent / "helpers" / "fuzz_child.py"
IN_A_PROCESS = 250
HUGE = (10**18, 2**63 - 1, 2**31, 2**32 - 1, 10**9)

# Kind -> the file within the folder of originals, and the folder that is copied with it ("" for none).
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
    "onnx": ("export/pets.onnx", "export"),
}
TEXTS = ("recipe", "config", "lines", "sidecar", "symbol", "int8 symbol")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.numpy import save_file

    from mnssd.data.shapes.dataset import make_shapes
    from mnssd.tasks.run import train_detector

    folder = tmp_path_factory.mktemp("originals")
    net, spec = make_net()
    options = ExportOptions(("symbol", "int8", "onnx"))
    export_network(net, spec, folder / "export", write_images(folder, 4), "pets", options)
    make_shapes(folder / "shapes", train=8, val=4, size=(96, 96))
    options = {"width": 0.25, "size": (96, 96), "batch_size": 8, "epochs": 1, "val_interval": 0}
    train_detector({**options, "data_root": str(folder / "shapes"), "output": str(folder / "trained")})
    write_run(folder / "run", net, spec)
    shutil.copy(folder / "trained" / "last.ckpt", folder / "run" / "last.ckpt")
    arrays = {f"layer{i}.weight": np.arange(12, dtype=np.float32).reshape(3, 4) for i in range(5)}
    save_file(arrays, str(folder / "weights.safetensors"))
    shutil.copy(recipes.FOLDER / "custom.yaml", folder / "recipe.yaml")
    record = {"image": "a.jpg", "width": 5, "height": 5, "detections": []}
    (folder / "lines.jsonl").write_text("".join(json.dumps({**record, "n": i}) + "\n" for i in range(9)))
    return folder


# ---- damage ------------------------------------------------------------------------------------------------


def damaged(data: bytes, is_text: bool, rng: random.Random) -> bytes:
    """The bytes with one to three damages."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        ways = [flip, cut, splice, repeat, overwrite]
        data = rng.choice([*ways, number, number, swap, nest] if is_text else [*ways, huge, huge])(data, rng)
    return data


def _place(data: bytes, rng: random.Random) -> int:
    """Anywhere; half of the time near the beginning or the end, where headers and tables are."""
    if rng.random() < 0.5 or len(data) < 200:
        return rng.randrange(len(data) + 1)
    near = rng.randrange(200)
    return near if rng.random() < 0.6 else len(data) - near


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 8))):
        if changed:
            changed[min(_place(data, rng), len(changed) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def splice(data: bytes, rng: random.Random) -> bytes:
    a, b = sorted((_place(data, rng), _place(data, rng)))
    return data[:a] + data[b:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    a = _place(data, rng)
    return data[:a] + data[a : a + rng.randrange(1, 300)] * 2 + data[a:]


def overwrite(data: bytes, rng: random.Random) -> bytes:
    a = _place(data, rng)
    return data[:a] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 16))) + data[a + 8 :]


def huge(data: bytes, rng: random.Random) -> bytes:
    """An integer of eight or four bytes that announces more than there is."""
    width = rng.choice((4, 8))
    a = _place(data, rng) // width * width
    value = rng.choice(HUGE) & ((1 << (8 * width)) - 1)
    return data[:a] + value.to_bytes(width, "little") + data[a + width :]


def number(data: bytes, rng: random.Random) -> bytes:
    """Another number, or no number, where one stands."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    if not found:
        return data
    where = rng.choice(found)
    other = rng.choice(
        (
            b"-1",
            b"0",
            b"1e308",
            b"NaN",
            b"-Infinity",
            b"1000000000000000000",
            b'"x"',
            b"null",
            b"[]",
            b"0.5",
            b"true",
        )
    )
    return data[: where.start()] + other + data[where.end() :]


def swap(data: bytes, rng: random.Random) -> bytes:
    """A quoted text, or a word, in another's place."""
    found = list(re.finditer(rb'"[^"\n]*"|[A-Za-z_]+', data))
    if len(found) < 2:
        return data
    first, second = rng.choice(found), rng.choice(found)
    return data[: first.start()] + second.group() + data[first.end() :]


def nest(data: bytes, rng: random.Random) -> bytes:
    depth = rng.choice((5, 2000, 100_000))
    a = _place(data, rng)
    return data[:a] + b"[" * depth + b"]" * rng.choice((0, depth)) + data[a:]


# ---- reading -----------------------------------------------------------------------------------------------


def run_child(work: List[Tuple[str, Path]]) -> List[Tuple[str, Path, str]]:
    """What became of each file; a process that ends early is named by the file it was at."""
    given = "".join(f"{kind}\t{path}\n" for kind, path in work)
    done = subprocess.run(
        [sys.executable, str(CHILD)], input=given, capture_output=True, text=True, timeout=1200
    )
    lines = [
        line for line in done.stdout.splitlines() if line.startswith(("try ", "read", "refused: ", "fault: "))
    ]
    said = list(zip(lines[0::2], lines[1::2]))
    if done.returncode:
        at = lines[-1] if lines else "nothing"
        pytest.fail(f"the process ended with {done.returncode} at: {at}\n{done.stderr[-2000:]}")
    assert len(said) == len(work)
    return [(kind, path, answer) for (kind, path), (_, answer) in zip(work, said)]


def prepare(place: Path, kind: str, originals: Path, content: bytes) -> Path:
    """A file with this content, among what belongs to it; only what is written to is copied."""
    name, around = FILES[kind]
    place.mkdir(parents=True)
    path = place / Path(name).name
    for other in (originals / around).iterdir() if around else ():
        if other.name == "pets.json":
            shutil.copy(other, place)
        elif other.name != path.name:
            os.link(other, place / other.name)
    path.write_bytes(content)
    return path


def fuzz(originals: Path, folder: Path, count: int, seed: int) -> None:
    rng, kinds = random.Random(seed), list(FILES)
    results: List[Tuple[str, Path, str]] = []
    for start in range(0, count, IN_A_PROCESS):
        work = []
        for index in range(start, min(count, start + IN_A_PROCESS)):
            kind = kinds[index % len(kinds)]
            content = damaged((originals / FILES[kind][0]).read_bytes(), kind in TEXTS, rng)
            work.append((kind, prepare(folder / f"{index:04d}", kind, originals, content)))
        results += run_child(work)
        for _, path, answer in results[start:]:
            if not answer.startswith("fault"):
                shutil.rmtree(path.parent)
    faults = [f"{kind} {path}: {answer}" for kind, path, answer in results if answer.startswith("fault")]
    assert not faults, "\n".join(faults[:20]) + f"\n{len(faults)} of {count}"
    unnamed = [
        f"{kind} {path}: {answer}"
        for kind, path, answer in results
        if answer.startswith("refused") and str(path.parent) not in answer and path.name not in answer
    ]
    assert not unnamed, "\n".join(unnamed[:20])
    counts: Dict[str, Counter] = {kind: Counter() for kind in kinds}
    for kind, _, answer in results:
        counts[kind][answer.split(":")[0]] += 1
    print({kind: dict(counter) for kind, counter in counts.items()})
    refused = sum(counter["refused"] for counter in counts.values())
    assert refused > count / 2  # the damage is real


def test_whole_files_are_read(originals: Path, tmp_path: Path) -> None:
    work = []
    for index, (kind, (name, _)) in enumerate(FILES.items()):
        content = (originals / name).read_bytes()
        work.append((kind, prepare(tmp_path / str(index), kind, originals, content)))
    assert {kind: answer for kind, _, answer in run_child(work)} == dict.fromkeys(FILES, "read")


def test_a_hundred_damaged_files(originals: Path, tmp_path: Path) -> None:
    fuzz(originals, tmp_path, 108, seed=1)


@pytest.mark.slow
def test_two_thousand_damaged_files(originals: Path, tmp_path: Path) -> None:
    fuzz(originals, tmp_path, 2004, seed=0)
