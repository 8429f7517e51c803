"""`make bench`: workers in turn, intervals of their ratios, and the table of all machines."""

import json
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

WORKER = """
import sys, time
sys.path.insert(0, {folder!r})
import worker

worker.serve({{"sleep": lambda: lambda: time.sleep(float(sys.argv[2]))}})
"""


@pytest.fixture
def rivals(monkeypatch):
    """The module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import rivals as module

    return module


@pytest.fixture
def table(rivals, monkeypatch, tmp_path):
    """The module, with a folder of its own."""
    import table as module

    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "FOLDER", tmp_path / "results")
    return module


def is_stopped(pid):
    """Whether the process is stopped, or will be in a moment."""
    for _ in range(100):
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_rivals_work_in_turn_and_are_stopped_in_between(rivals, tmp_path):
    script = tmp_path / "sleeper.py"
    script.write_text(WORKER.format(folder=str(BENCHMARKS)))
    pair = [
        rivals.Rival(name, sys.executable, str(script), "sleep", {}, [seconds])
        for name, seconds in (("fast", "0.001"), ("slow", "0.05"))
    ]
    stopped = []
    seen = rivals.compare(
        pair,
        times=2,
        unmeasured=1,
        watch=lambda: stopped.append([is_stopped(one._process.pid) for one in pair]),
        rounds=3,
    )
    assert stopped == [[True, True]] * 3
    assert [len(seconds) for seconds in seen.seconds.values()] == [3, 3]
    assert seen.median("fast") < seen.median("slow")
    assert seen.ratio("fast", "slow").value > 1 > seen.ratio("slow", "fast").value
    assert all(one._process.poll() == 0 for one in pair)


def test_a_worker_that_fails_ends_the_comparison(rivals, tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit(3)")
    with pytest.raises(RuntimeError):
        rivals.Rival("broken", sys.executable, str(script), "sleep")


def test_an_interval_within_a_tenth_is_narrow(rivals):
    steady = rivals.ratio_of([1.5 + 0.001 * number for number in range(31)])
    assert steady.low <= steady.value <= steady.high
    assert steady.value == pytest.approx(1.515)
    assert steady.is_narrow
    assert not rivals.ratio_of([1.0, 2.0] * 15 + [1.5]).is_narrow


def test_only_ratios_with_narrow_intervals_reach_an_aim(rivals, table):
    def reached(ratio, aim):
        return table.ratio_row("step", "peer", ratio, aim, "")["reached"]

    assert reached(rivals.Ratio(2.0, 1.9, 2.1), 1.5) is True
    assert reached(rivals.Ratio(2.0, 1.5, 2.1), 1.5) is False
    assert reached(rivals.Ratio(1.4, 1.4, 1.4), 1.5) is False
    assert reached(rivals.Ratio(1.4, 1.4, 1.4), None) is None


def test_the_table_has_a_column_for_each_machine(rivals, table):
    def machine(cpu):
        return {
            "cpu": cpu, "instruction_set": "AVX2", "usable_cores": 2, "flags": ["avx2"], "load": 0.1,
            "date": "2026-11-30", "versions": {"mxnet": "1.9.1"},
        }  # fmt: skip

    def rows(ratio):
        return {"step": [table.ratio_row("step", "peer", ratio, 1.5, "")]}

    table.save(rows(rivals.Ratio(2.0, 1.9, 2.1)), machine("One"))
    table.save(
        {**rows(rivals.Ratio(1.2, 1.2, 1.3)), "start": [table.value_row("start", "", "1 s", True)]},
        machine("Two"),
    )
    assert sorted(path.name for path in table.FOLDER.iterdir()) == [
        "one-avx2-2-cores.json",
        "two-avx2-2-cores.json",
    ]
    assert table.stored_rows(machine("One")) == json.loads(json.dumps(rows(rivals.Ratio(2.0, 1.9, 2.1))))
    assert table.stored_rows(machine("Three")) == {}
    lines = [
        line.split("|")
        for line in (table.HERE / "RESULTS.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    step = next(cells for cells in lines if cells[1].strip() == "step")
    start = next(cells for cells in lines if cells[1].strip() == "start")
    assert "2.00x" in step[4]
    assert "1.20x" in step[5]
    assert [cell.strip() for cell in start[4:6]] == ["", "1 s"]
