"""Lines of RESULTS.md, and the file itself: one column for each machine that was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Optional

from rivals import HERE, ROUNDS, Measured, Ratio

FOLDER = HERE / "results"
"""One JSON file for each kind of machine."""

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
"""Processor flags that the figures depend on."""

Line = Dict[str, Any]
Rows = Dict[str, List[Line]]


def row(what: str, against: str, seen: Measured, peer: str, aim: Optional[float] = None) -> Line:
    """How many times faster this package is than a peer."""
    times = (f"{seen.median(name) * 1e3:.1f}" for name in ("mnssd", peer))
    return ratio_row(what, against, seen.ratio("mnssd", peer), aim, " / ".join(times) + " ms")


def ratio_row(what: str, against: str, ratio: Ratio, aim: Optional[float], detail: str) -> Line:
    """A ratio; it reaches its aim only if its interval is narrow."""
    reached = None if aim is None else ratio.is_narrow and ratio.value >= aim
    return {
        "what": what, "against": against, "aim": f"{aim:g}x" if aim else "", "result": str(ratio),
        "is_narrow": ratio.is_narrow, "reached": reached, "detail": detail,
    }  # fmt: skip


def value_row(what: str, aim: str, result: str, reached: Optional[bool], detail: str = "") -> Line:
    """A figure, and whether it is within its limit; None without one."""
    return {"what": what, "against": "", "aim": aim, "result": result, "reached": reached, "detail": detail}


def machine_flags() -> List[str]:
    """Those of FLAGS that this processor has."""
    found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return [flag for flag in FLAGS if found and flag in found.group(1).split()]


def file_of(machine: Line) -> Path:
    """Results of this kind of machine."""
    name = f"{machine['cpu']} {machine['instruction_set']} {machine['usable_cores']} cores"
    return FOLDER / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".json")


def stored_rows(machine: Line) -> Rows:
    """What was measured on this kind of machine before."""
    path = file_of(machine)
    return dict(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else {}


def save(rows: Rows, machine: Line) -> None:
    """Write the results of this machine and RESULTS.md."""
    FOLDER.mkdir(exist_ok=True)
    content = json.dumps({"machine": machine, "rows": rows}, indent=2)
    file_of(machine).write_text(content + "\n", encoding="utf-8")
    (HERE / "RESULTS.md").write_text(results_text(), encoding="utf-8")


def results_text() -> str:
    """RESULTS.md: the table of all machines, how it was measured, and the notes."""
    files = sorted(FOLDER.glob("*.json"))
    stored = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    letters = [chr(ord("A") + number) for number in range(len(stored))]
    seen: Dict[Any, List[Optional[Line]]] = {}
    for number, content in enumerate(stored):
        for line in (line for group in content["rows"].values() for line in group):
            seen.setdefault((line["what"], line["against"]), [None] * len(stored))[number] = line
    head = ["measurement", "compared with", "aim", *(f"machine {letter}" for letter in letters)]
    table = [head, ["---"] * len(head)]
    for key, lines in seen.items():
        aim = next((line["aim"] for line in lines if line and line["aim"]), "")
        table.append([*key, aim, *(cell(line) for line in lines)])
    text = ["# Speed compared with other frameworks", ""]
    text += [f"| {' | '.join(cells)} |" for cells in table]
    text += ["", *(describe(letter, content["machine"]) for letter, content in zip(letters, stored)), HOW]
    notes = HERE / "RESULTS-NOTES.md"
    return "\n".join(text) + "\n" + (f"\n{notes.read_text(encoding='utf-8')}" if notes.exists() else "")


HOW = (
    f"- Written by `make bench`. A ratio is the median of {ROUNDS} rounds, with its 95 % bootstrap\n"
    "  interval. In each round the frameworks work one after the other, the others being stopped.\n"
    "- A ratio is inconclusive, and reaches no aim, if its interval reaches further than a tenth from it.\n"
    "- Below a ratio are our time and theirs. Stock Gluon runs as shipped, without any setting, the others\n"
    "  with one thread per core."
)


def cell(line: Optional[Line]) -> str:
    """Result of a machine."""
    if line is None:
        return ""
    missed = line["reached"] is False and line.get("is_narrow", True)
    parts = [line["result"], line.get("detail", ""), "**aim not reached**" if missed else ""]
    return "<br>".join(filter(None, parts))


def describe(letter: str, machine: Line) -> str:
    """A machine in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    flags, load = " ".join(machine["flags"]), f"load {machine['load']:.1f} when the newest rows began"
    cores = f"{machine['usable_cores']} cores"
    return (
        f"- **Machine {letter}**: {machine['cpu']}, {cores}, {flags}; {load}; {machine['date']}; {versions}."
    )
