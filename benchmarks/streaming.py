"""`mnssd detect` over a very long folder: memory from the first images to the last, Ctrl-C, and --resume.

    python benchmarks/streaming.py [--images 100000] [--folder DIR]

Makes a folder of hard links to a few small images and an export of a tiny untrained detector, and runs the
command as a user would: it is interrupted after a third, then goes on. Prints resident memory along the way,
and checks that every image has one line and none has two.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import List, Tuple

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 5.0
"""Between two looks at the memory."""


def prepare(folder: Path, count: int) -> Path:
    """The images, and the export's folder."""
    sys.path.insert(0, str(ROOT / "tests"))
    from helpers.detectors import make_net, write_images

    from mnssd.export.write import export_network

    net, spec = make_net()
    originals = write_images(folder, 4)
    export_network(net, spec, folder / "export", originals, "tiny")
    images = folder / "images"
    images.mkdir()
    for number in range(count):
        os.link(originals[number % len(originals)], images / f"{number:07d}.jpg")
    return images


def resident(process: subprocess.Popen) -> float:
    """Megabytes that a process has in memory."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(process.pid)


def watch(command: List[str], lines: Path, until: int) -> List[Tuple[int, float]]:
    """Run the command; interrupt it once there are `until` lines. Gives lines and memory, time by time."""
    seen: List[Tuple[int, float]] = []
    with open(lines.with_name("said"), "a") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        )
    done = sent = 0
    at = 0
    while process.poll() is None:
        time.sleep(SECONDS)
        if not lines.exists() or process.poll() is not None:
            continue
        with open(lines, "rb") as file:
            file.seek(at)
            new = file.read()
        done, at = done + new.count(b"\n"), at + len(new)
        try:
            seen.append((done, resident(process)))
        except (ProcessLookupError, FileNotFoundError):
            break
        if until and done >= until and not sent:
            process.send_signal(signal.SIGINT)
            sent = 1
    return seen


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to make them (default: a temporary one)")
    args = parser.parse_args()
    if args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        images = prepare(folder, args.images)
        lines = folder / "lines.jsonl"
        command = [sys.executable, "-m", "mnssd.cli.main", "detect", str(folder / "export"), str(images)]
        command += ["--jsonl", str(lines), "--score", "0.9"]
        begun = time.monotonic()
        first = watch(command, lines, args.images // 3)
        second = watch([*command, "--resume"], lines, 0)
        seconds = time.monotonic() - begun
        names = [json.loads(line)["image"] for line in lines.read_text().splitlines()]
    print("| call | images done | MB in memory |\n|---|---|---|")
    for call, seen in (("until Ctrl-C", first), ("--resume", second)):
        for done, megabytes in (seen[0], seen[len(seen) // 2], seen[-1]):
            print(f"| {call} | {done} | {megabytes:.0f} |")
    print(f"\n{len(names)} lines, {len(set(names))} images of {args.images}; {seconds:.0f} s in all")


if __name__ == "__main__":
    main()
