"""Distributed training: several processes equal one, and end together."""

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
from helpers.runs import wait_for

from mnssd.cli.main import main
from mnssd.data.shapes.dataset import make_shapes
from mnssd.distributed import launch
from mnssd.runtime import plugins
from mnssd.train.checkpoint import read_checkpoint

OPTIONS: Dict[str, Any] = {
    "dataset": "shapes", "network": "mobilenet_v1", "width": 0.25, "size": 96, "epochs": 3, "batch-size": 8,
    "lr": 0.01, "predictor-lr": 1.0, "val-interval": 3, "workers": 0,
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
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def launched(data: str, output: Path, *before: str, processes: int = 2, **more: Any) -> List[str]:
    script = before or (str(FROZEN_STATISTICS),)
    return ["launch", "-n", str(processes), "--", *script, *arguments(data, output, **more)]


def digests(printed: str) -> Dict[str, str]:
    """Digest of the final weights by process."""
    return dict(re.findall(r"\[(process \d)\] weights ([0-9a-f]+)", printed))


def test_two_processes_learn_what_one_learns(data: str, tmp_path: Path) -> None:
    """Ten steps with frozen BatchNorm statistics, since those of a share differ from those of the batch.

    The learning rate is small: at a large one, rounding differences of the sums grow quickly.
    """
    options = {"lr": 0.0005, "epochs": 1}
    status, printed = run(launched(data, tmp_path / "two", **options))
    assert status == 0, printed
    weights = digests(printed)
    assert set(weights) == {"process 0", "process 1"}
    assert len(set(weights.values())) == 1
    alone = subprocess.run(
        [sys.executable, str(FROZEN_STATISTICS), *arguments(data, tmp_path / "one", **options)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    one, two = (read_checkpoint(tmp_path / name / "last.ckpt") for name in ("one", "two"))
    assert one[1].step == two[1].step == 10
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
    assert re.search(r"\[process \d\] 2 processes, 4 images", printed)


@pytest.mark.slow
def test_compressed_gradients_keep_the_weights_equal_and_lower_the_loss(data: str, tmp_path: Path) -> None:
    more = {"gradient-compression": 0.01, "epochs": 4, "val-interval": 0, "predictor-lr": 1.0}
    status, printed = run(launched(data, tmp_path / "run", **more))
    assert status == 0, printed
    assert len(digests(printed)) == 2
    assert len(set(digests(printed).values())) == 1
    losses = [float(value) for value in re.findall(r"epoch +\d/4  loss ([0-9.]+)", printed)]
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.slow
def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(data: str, tmp_path: Path) -> None:
    script = ["-m", "mnssd.cli.main", "train-ssd"]
    more = {"save-minutes": 1e-9, "val-interval": 0}
    status, printed = run(launched(data, tmp_path / "whole", *script, **more))
    assert status == 0, printed
    process = start(launched(data, tmp_path / "cut", *script, **more))
    wait_for(tmp_path / "cut" / "previous.ckpt", process)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, printed
    assert f"--resume {tmp_path / 'cut'}" in printed
    step = read_checkpoint(tmp_path / "cut" / "last.ckpt")[1].step
    assert 0 < step < 30
    status, printed = run(launched(data, tmp_path / "cut", *script, **more))
    assert status == 0, printed
    whole, cut = (read_checkpoint(tmp_path / name / "last.ckpt")[0] for name in ("whole", "cut"))
    assert all(np.array_equal(value, cut[name]) for name, value in whole.items())


@pytest.mark.parametrize("victim", ["process 1", pytest.param("server 0", marks=pytest.mark.slow)])
def test_killing_one_process_ends_all(data: str, tmp_path: Path, victim: str) -> None:
    long = {"epochs": 500, "val-interval": 0, "save-minutes": 1e-9}
    process = start(launched(data, tmp_path / "run", **long))
    wait_for(tmp_path / "run" / "previous.ckpt", process)
    children = children_of(process.pid)
    os.kill(children[victim], signal.SIGKILL)
    killed_at = time.monotonic()
    printed, _ = process.communicate(timeout=60)
    assert time.monotonic() - killed_at < 2 * launch.END_SECONDS
    assert process.returncode == 128 + signal.SIGKILL, printed
    assert re.search(rf"error: {victim} .*\b9\b", printed)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children.values())


def children_of(pid: int) -> Dict[str, int]:
    """Process ids of the children of `launch` by their names in its output."""
    ids: Dict[str, int] = {}
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in sorted(map(int, listed)):
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        role = next(v[len(b"DMLC_ROLE=") :].decode() for v in variables if v.startswith(b"DMLC_ROLE="))
        name = "process" if role == "worker" else role
        ids[f"{name} {sum(known.startswith(name) for known in ids)}"] = child
    return ids


@pytest.mark.slow
def test_error_of_one_process_ends_all_and_is_printed(data: str, tmp_path: Path) -> None:
    status, printed = run(launched(data, tmp_path / "run", **{"weights": "nothing.params"}))
    assert status == 1
    assert "nothing.params: " in printed
    assert re.search(r"error: process \d .*\b1\b", printed)


@pytest.mark.slow
def test_batch_that_cannot_be_shared_equally_is_refused(data: str, tmp_path: Path) -> None:
    status, printed = run(launched(data, tmp_path / "run", **{"batch-size": 9}))
    assert status == 2
    assert "--batch-size 9" in printed


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["-n", "2"], "mnssd launch -n 2 -- train_ssd.py"),
        (["-n", "0", "--", "train_ssd.py"], "--processes 0"),
        (["-n", "2", "--hosts", "absent.txt", "--", "train_ssd.py"], "absent.txt"),
    ],
)
def test_invalid_launch_is_refused(command: List[str], name: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["launch", *command]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kvstore", "role", "name"),
    [("dist_sync", "", "mnssd launch"), ("local", "worker", "--kvstore dist_sync")],
)
def test_rank_without_a_launcher_and_launcher_without_kvstore_are_refused(
    data: str, tmp_path: Path, kvstore: str, role: str, name: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    if role:
        monkeypatch.setenv("DMLC_ROLE", role)
    assert main(["train-ssd", *arguments(data, tmp_path / "run", kvstore=kvstore)]) == 2
    assert name in capsys.readouterr().err


def test_plugins_are_passed_to_ranks_on_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """An `ssh` that runs the remote command here, without the environment of the launcher."""
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\nfor command; do :; done\nexec env -i sh -c "$command"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(plugins.VARIABLE, "/a folder/plugin.py")
    code = f"import os; print(os.environ['{plugins.VARIABLE}'], os.environ['DMLC_ROLE'])"
    process = launch._start("process 0", "other-machine", ["-c", code], {"DMLC_ROLE": "worker"})
    assert process.handle.wait(60) == 0
    process.reader.join()
    assert capfd.readouterr().out == "[process 0] /a folder/plugin.py worker\n"


def in_namespace(name: str, role: str, command: List[str]) -> subprocess.Popen:
    """Start a process in a network namespace, with MXNet's variables, as another launcher would."""
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
        pytest.skip("network namespaces are not allowed here")
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
def test_four_processes_on_separate_networks(data: str, tmp_path: Path, networks: List[str]) -> None:
    """Started without `mnssd launch`, by the environment variables of MXNet's manual."""
    serve = ["-c", "import mxnet"]
    services = [in_namespace(networks[0], "scheduler", serve), in_namespace(networks[1], "server", serve)]
    more = {"epochs": 1, "val-interval": 0, "kvstore": "dist_sync"}
    script = [str(FROZEN_STATISTICS), *arguments(data, tmp_path / "run", **more)]
    workers = [in_namespace(name, "worker", script) for name in networks[2:]]
    try:
        outputs = [worker.communicate(timeout=200)[0] for worker in workers]
    finally:
        for process in [*workers, *services]:
            process.kill()
    assert [worker.returncode for worker in workers] == [0] * 4, "\n".join(outputs)
    ends = {re.findall(r"^weights ([0-9a-f]+)$", text, re.MULTILINE)[0] for text in outputs}
    assert len(ends) == 1
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")[1].step == 10


@pytest.mark.slow
def test_weights_are_equal_after_twenty_starts(data: str, tmp_path: Path) -> None:
    """MXNet's own Trainer has a race at the start; see `distributed.context`."""
    ends = set()
    for number in range(20):
        more = {"epochs": 1, "val-interval": 0}
        status, printed = run(launched(data, tmp_path / str(number), **more))
        assert status == 0, printed
        weights = digests(printed)
        assert len(weights) == 2
        ends |= set(weights.values())
    assert len(ends) == 1


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.0, 0.01])
def test_main_process_decides_when_all_end(data: str, tmp_path: Path, threshold: float) -> None:
    """Of the time, and of a score that does not improve; compressed gradients do not change the decision."""
    more = {"gradient-compression": threshold, "val-interval": 1, "lr": 0.0}
    options = {name: value for name, value in OPTIONS.items() if name != "epochs"}
    lines = {"time": {"minutes": 0.1}, "score": {"epochs": 60, "patience": 1}}
    for name, length in lines.items():
        chosen = {**options, "data-root": data, "output": tmp_path / name, **more, **length}
        given = [f"--{key}={value}" for key, value in chosen.items()]
        status, printed = run(["launch", "-n", "2", "--", str(FROZEN_STATISTICS), *given])
        assert status == 0, printed
        assert len(digests(printed)) == 2
        progress = read_checkpoint(tmp_path / name / "last.ckpt")[1]
        assert progress.plan
        assert progress.step == progress.plan.end < 600
