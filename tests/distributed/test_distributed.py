"""Several processes with MXNet's parameter server between them learn what one learns, and end together."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import pytest

from mnssd.data.loader import Loader
from mnssd.data.sample import Sample
from mnssd.data.shapes.dataset import make_shapes
from mnssd.train.checkpoint import read_checkpoint

OPTIONS: Dict[str, Any] = {
    "dataset": "shapes", "width": 0.25, "size": 96, "epochs": 3, "batch-size": 8, "lr": 0.01,
    "predictor-lr": 1.0, "val-interval": 3, "workers": 0,
}  # fmt: skip
FROZEN_STATISTICS = Path(__file__).resolve().parents[1] / "helpers" / "train_frozen.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(folder, train=80, val=4, size=(96, 96))
    return str(folder)


def arguments(data: str, output: Path, **more: Any) -> List[str]:
    options = {**OPTIONS, "data-root": data, "output": output, "resume": "auto", **more}
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def start(command: List[str], **environment: str) -> subprocess.Popen:
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "mnssd.cli.main", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env=variables, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def run(command: List[str], **environment: str) -> Tuple[int, str]:
    process = start(command, **environment)
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


def launched(data: str, output: Path, *before: str, workers: int = 2, **more: Any) -> List[str]:
    script = before or (str(FROZEN_STATISTICS),)
    return ["launch", "-n", str(workers), "--", *script, *arguments(data, output, **more)]


def digests(said: str) -> Dict[str, str]:
    """By worker: what its weights were at the end."""
    return dict(re.findall(r"\[(worker \d)\] weights ([0-9a-f]+)", said))


# ---- shares ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_shares_are_the_batches_of_one_process(parts: int) -> None:
    nothing = (np.zeros((0, 4)), np.zeros(0), np.zeros(0), (1, 1))
    samples = [Sample(str(i), f"{i}.jpg", *nothing) for i in range(29)]

    def load(sample: Sample, rng: np.random.Generator) -> Tuple[np.ndarray, ...]:
        return (np.array([int(sample.image_id), rng.integers(99)]),)

    def batches(share: Tuple[int, int]) -> List[np.ndarray]:
        loader = Loader(samples, load, 6, 0, 0)
        loader.shard = share
        return [batch.arrays[0] for batch in loader.epoch(1)]

    whole = batches((0, 1))
    shared = [np.concatenate(part) for part in zip(*(batches((i, parts)) for i in range(parts)))]
    assert len(whole) == len(shared) == 4
    for one, several in zip(whole, shared):
        np.testing.assert_array_equal(one, several)


# ---- processes ---------------------------------------------------------------------------------------------


def test_two_workers_learn_what_one_process_learns(data: str, tmp_path: Path) -> None:
    """Thirty steps with BatchNorm's statistics frozen: those of a share are not those of the whole.

    At a small rate, for at a large one the last digits of a sum are soon the first ones of a weight.
    """
    status, said = run(launched(data, tmp_path / "two", lr=0.0001))
    assert status == 0, said
    found = digests(said)
    assert set(found) == {"worker 0", "worker 1"}
    assert len(set(found.values())) == 1
    alone = subprocess.run(
        [sys.executable, str(FROZEN_STATISTICS), *arguments(data, tmp_path / "one", lr=0.0001)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    one, two = (read_checkpoint(tmp_path / name / "last.ckpt") for name in ("one", "two"))
    assert one[1].step == two[1].step == 30
    assert one[0].keys() == two[0].keys()
    for name, value in one[0].items():
        np.testing.assert_allclose(two[0][name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    moved = [
        np.abs(value).max()
        for name, value in one[0].items()
        if name.startswith("weights/") and "beta" in name
    ]
    assert max(moved) > 1e-3
    assert (tmp_path / "two" / "best.params").exists()
    assert "2 workers, 4 images each a step" in said


def test_compressed_gradients_are_learned_from_alike(data: str, tmp_path: Path) -> None:
    """A sixteenth of what is sent; all workers have the same weights, and the loss falls."""
    more = {"gradient-compression": 0.01, "epochs": 4, "val-interval": 0, "predictor-lr": 1.0}
    status, said = run(launched(data, tmp_path / "run", **more))
    assert status == 0, said
    assert len(digests(said)) == 2
    assert len(set(digests(said).values())) == 1
    losses = [float(value) for value in re.findall(r"epoch +\d/4  loss ([0-9.]+)", said)]
    assert losses[-1] < 0.95 * losses[0]


def test_interrupted_and_resumed_it_ends_as_if_it_had_not_been(data: str, tmp_path: Path) -> None:
    script = ["-m", "mnssd.cli.main", "train-ssd"]
    more = {"save-minutes": 1e-9, "val-interval": 0}
    status, said = run(launched(data, tmp_path / "whole", *script, **more))
    assert status == 0, said
    process = start(launched(data, tmp_path / "cut", *script, **more))
    until = time.monotonic() + 120
    while not (tmp_path / "cut" / "previous.ckpt").exists():
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "everything is saved" in said
    step = read_checkpoint(tmp_path / "cut" / "last.ckpt")[1].step
    assert 0 < step < 30
    status, said = run(launched(data, tmp_path / "cut", *script, **more))
    assert status == 0, said
    whole, cut = (read_checkpoint(tmp_path / name / "last.ckpt")[0] for name in ("whole", "cut"))
    assert all(np.array_equal(value, cut[name]) for name, value in whole.items())


@pytest.mark.parametrize("victim", ["worker 1", "server 0"])
def test_when_one_is_killed_all_end(data: str, tmp_path: Path, victim: str) -> None:
    long = {"epochs": 500, "val-interval": 0, "save-minutes": 1e-9}
    process = start(launched(data, tmp_path / "run", **long))
    until = time.monotonic() + 120
    while not (tmp_path / "run" / "previous.ckpt").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    children = children_of(process.pid)
    os.kill(children[victim], signal.SIGKILL)
    begun = time.monotonic()
    said, _ = process.communicate(timeout=60)
    assert time.monotonic() - begun < 10  # what the launcher promises, not a measurement of speed
    assert process.returncode == 128 + signal.SIGKILL, said
    assert f"{victim} was ended by signal 9" in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in children.values())
    status, said = run(launched(data, tmp_path / "run2", **{"epochs": 1, "val-interval": 0}))
    assert status == 0, said


def children_of(pid: int) -> Dict[str, int]:
    """What `launch` has started, by role and the order of its start."""
    found: Dict[str, int] = {}
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in sorted(map(int, listed)):
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        role = next(v[len(b"DMLC_ROLE=") :].decode() for v in variables if v.startswith(b"DMLC_ROLE="))
        found[f"{role} {sum(name.startswith(role) for name in found)}"] = child
    return found


def test_an_error_of_a_worker_ends_all_and_is_shown(data: str, tmp_path: Path) -> None:
    status, said = run(launched(data, tmp_path / "run", **{"weights": "nothing.params"}))
    assert status == 1
    assert "nothing.params: cannot be read" in said
    assert re.search(r"error: worker \d ended with status 1", said)


def test_what_makes_no_sense_is_refused(data: str, tmp_path: Path) -> None:
    status, said = run(launched(data, tmp_path / "run", **{"batch-size": 9}))
    assert status == 2
    assert "--batch-size 9 is that of all workers together" in said
    for command, words in (
        (["launch", "-n", "2"], "what is to be run?"),
        (["launch", "-n", "0", "--", "train_ssd.py"], "at least one worker"),
        (["launch", "-n", "2", "--hosts", str(tmp_path / "none"), "--", "x"], "cannot be read"),
        (["train-ssd", "--kvstore", "dist_sync"], "mnssd launch"),
    ):
        status, said = run(command)
        assert status == 2, said
        assert words in said
    status, said = run(["train-ssd", *arguments(data, tmp_path / "x")], DMLC_ROLE="worker")
    assert status == 2
    assert "add --kvstore dist_sync" in said


def in_namespace(name: str, role: str, command: List[str]) -> subprocess.Popen:
    """A process that another launcher than ours starts, with its own network, by MXNet's variables."""
    variables = {
        **os.environ, "OMP_NUM_THREADS": "1", "DMLC_ROLE": role, "DMLC_PS_ROOT_URI": "10.77.0.1",
        "DMLC_PS_ROOT_PORT": "9377", "DMLC_NUM_WORKER": "4", "DMLC_NUM_SERVER": "1",
        "DMLC_INTERFACE": "eth0",
    }  # fmt: skip
    full = ["ip", "netns", "exec", name, sys.executable, *command]
    return subprocess.Popen(full, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def networks() -> Iterator[List[str]]:
    """Six network namespaces with an address each, 10.77.0.1 to 6, joined by a bridge."""
    names = [f"mnssd{i}" for i in range(1, 7)]

    def ip(*words: str) -> bool:
        return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0

    def remove() -> None:
        for name in names:
            ip("netns", "del", name)
        ip("link", "del", "mnssdbr")

    if shutil.which("ip") is None or not (ip("link", "add", "mnssdbr", "type", "bridge")):
        pytest.skip("no network namespaces can be made here")
    try:
        assert ip("link", "set", "mnssdbr", "up")
        for number, name in enumerate(names, 1):
            assert ip("netns", "add", name)
            assert ip("link", "add", f"mnssdv{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            assert ip("link", "set", f"mnssdv{number}", "master", "mnssdbr", "up")
            assert ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            assert ip("-n", name, "link", "set", "eth0", "up")
            assert ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        remove()


@pytest.mark.slow
def test_four_workers_on_networks_of_their_own(data: str, tmp_path: Path, networks: List[str]) -> None:
    """Under somebody else's launcher, by the variables of MXNet's manual."""
    serve = ["-c", "import mxnet"]
    others = [in_namespace(networks[0], "scheduler", serve), in_namespace(networks[1], "server", serve)]
    more = {"epochs": 1, "val-interval": 0, "kvstore": "dist_sync"}
    script = [str(FROZEN_STATISTICS), *arguments(data, tmp_path / "run", **more)]
    workers = [in_namespace(name, "worker", script) for name in networks[2:]]
    try:
        said = [worker.communicate(timeout=200)[0] for worker in workers]
    finally:
        for process in [*workers, *others]:
            process.kill()
    assert [worker.returncode for worker in workers] == [0] * 4, "\n".join(said)
    ends = {re.findall(r"^weights ([0-9a-f]+)$", text, re.MULTILINE)[0] for text in said}
    assert len(ends) == 1
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")[1].step == 10


@pytest.mark.slow
def test_twenty_starts(data: str, tmp_path: Path) -> None:
    """The race at the start of MXNet's own Trainer, which this does not have."""
    ends = set()
    for number in range(20):
        more = {"epochs": 1, "val-interval": 0}
        status, said = run(launched(data, tmp_path / str(number), **more))
        assert status == 0, said
        found = digests(said)
        assert len(found) == 2
        ends |= set(found.values())
    assert len(ends) == 1
