"""How much of the processor other programs use, and the number of threads that follows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest
from helpers.interpreter import run_python

from mnssd.runtime import load, processor

LINUX = pytest.mark.skipif(load.cpu_times() is None, reason="no /proc/stat on this system")


def write_stat(root: Path, user: int, nice: int = 0) -> Path:
    """A ``/proc/stat`` in which each of four CPUs has worked that many ticks."""
    (root / "proc").mkdir(exist_ok=True)
    lines = [f"cpu{number} {user} {nice} 20 900 5 1 2 700 0 0" for number in range(4)]
    (root / "proc/stat").write_text("\n".join(["cpu  1 1 1 1 1 1 1 0 0 0", *lines, "intr 5"]) + "\n")
    return root


@LINUX
def test_times_are_those_of_the_cpus_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "allowed_cpus", lambda: [1, 3])
    per_second = os.sysconf("SC_CLK_TCK")
    times = load.cpu_times(str(write_stat(tmp_path, user=100, nice=50)))
    assert times is not None
    assert times.all == pytest.approx(2 * (100 + 50 + 20 + 1 + 2) / per_second)


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert load.cpu_times(str(tmp_path)) is None
    assert load.used_by_others(None, None) == 0


@pytest.mark.parametrize(
    ("seconds", "everything", "own", "others"),
    [(10, 15, 10, 0.5), (10, 5, 5, 0), (2, 4, 0, 2), (10, 5, 6, 0), (0, 5, 0, 0)],
)
def test_use_by_others_is_what_this_process_did_not_use(
    seconds: float, everything: float, own: float, others: float
) -> None:
    before, after = load.CpuTimes(5, 100, 7), load.CpuTimes(5 + seconds, 100 + everything, 7 + own)
    assert load.used_by_others(before, after) == pytest.approx(others)


@pytest.mark.parametrize(
    ("cpus", "others", "threads", "fitting"),
    [(2, 0, 2, 2), (2, 0.4, 2, 2), (2, 0.6, 2, 1), (2, 2, 2, 1), (2, 5, 2, 1), (8, 3, 6, 5), (8, 1, 6, 6),
     (64, 40, 2, 2), (4, 4, 1, 1), (2, 0.1, 8, 8), (2, 1, 8, 1)],
)  # fmt: skip
def test_threads_get_a_cpu_each(
    monkeypatch: pytest.MonkeyPatch, cpus: int, others: float, threads: int, fitting: int
) -> None:
    monkeypatch.setattr(load, "allowed_cpus", lambda: list(range(cpus)))
    assert load.threads_beside(others, threads) == fitting


CHOOSE = (
    "import os, sys, logging\nfrom mnssd.runtime import load, settings\n{}\nlogging.basicConfig()\n"
    "load.allowed_cpus = settings.processor.allowed_cpus = lambda: [0, 1]\n"
    "print(settings.leave_busy_cores(), os.environ['OMP_NUM_THREADS'])"
)


@pytest.mark.parametrize(
    ("others", "prepare", "env", "threads"),
    [
        (1.0, "", {}, "1"),
        (0.2, "", {}, "2"),
        (1.0, "", {"OMP_NUM_THREADS": "2"}, "2"),  # set by the user
        (1.0, "import types; sys.modules['mxnet'] = types.ModuleType('mxnet')", {}, "2"),  # too late
    ],
)
def test_busy_cores_are_left_to_other_programs(
    others: float, prepare: str, env: Dict[str, str], threads: str
) -> None:
    fixed = f"load.used_by_others = lambda before, after: {others}\n"
    if not env:
        fixed += "os.environ['OMP_NUM_THREADS'] = '2'; settings._chosen.add('OMP_NUM_THREADS')\n"
    done = run_python(CHOOSE.format(fixed + prepare), env=env)
    assert done.stdout.split() == [threads, threads], done.stderr
    assert ("OMP_NUM_THREADS" in done.stderr) == (threads == "1")


@LINUX
def test_real_programs_on_all_cpus_leave_one_thread() -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in processor.allowed_cpus()]
    try:
        done = run_python(
            "import os, mnssd\nfrom mnssd.runtime import settings\n"
            "os.environ['OMP_NUM_THREADS'] = '2'; settings._chosen.add('OMP_NUM_THREADS')\n"
            "settings.pick_context('cpu')\nprint(os.environ['OMP_NUM_THREADS'])"
        )
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert done.stdout == "1\n", done.stderr


def test_training_leaves_busy_cores_before_mxnet_is_loaded(shapes: str, tmp_path: Path) -> None:
    done = run_python(
        "import os, sys, mnssd\nfrom mnssd.runtime import settings\n"
        "os.environ['OMP_NUM_THREADS'] = '2'; settings._chosen.add('OMP_NUM_THREADS')\n"
        "settings.used_by_others = lambda: 99.0\n"
        "def stop():\n"
        "    print(os.environ['OMP_NUM_THREADS'], 'mxnet' in sys.modules)\n"
        "    sys.exit()\n"
        "settings.release_freed_memory = stop\n"
        f"mnssd.train_detector(data='shapes', data_root={shapes!r}, size=320, batch_size=16, epochs=1,"
        f" output={str(tmp_path / 'run')!r})"
    )
    assert done.stdout.split()[-2:] == ["1", "False"], done.stderr
