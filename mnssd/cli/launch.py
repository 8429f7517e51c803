"""Train in several processes, on one or more machines, through MXNet's parameter server.

    mnssd launch -n 2 -s 1 -- train_ssd.py --dataset voc ...

Starts a scheduler, parameter servers and training processes, and prints the output of each with its name in
front. If one fails, all are ended. --batch-size is that of all processes together, each of which gets its
share of every batch, so the learning rate does not change.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List

from ..errors import OptionError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--processes", type=int, required=True, metavar="N", help="training processes")
    parser.add_argument(
        "-s", "--servers", type=int, default=1, metavar="N", help="parameter servers (default: 1)"
    )
    parser.add_argument(
        "--hosts", metavar="FILE",
        help="file with one machine per line, used in turn by ssh; the project has the same path on all",
    )  # fmt: skip
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- SCRIPT ...",
        help="train_ssd.py or train_cls.py, and its arguments",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    command: List[str] = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise OptionError("command missing; for example mnssd launch -n 2 -- train_ssd.py --dataset voc")
    for name in ("processes", "servers"):
        if getattr(args, name) < 1:
            raise OptionError(f"--{name} {getattr(args, name)}: expected at least 1")
    hosts = _read_hosts(args.hosts) if args.hosts else []
    if not any(word.startswith("--kvstore") for word in command):
        command = [*command, "--kvstore", "dist_sync"]
    from ..distributed.launch import launch

    launch(command, args.processes, args.servers, hosts)
    return 0


def _read_hosts(path: str) -> List[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = f"cannot be read ({error}); expected one machine per line"
        raise OptionError(f"--hosts {path}: {reason}") from error
    hosts = [host for host in (line.split("#")[0].strip() for line in lines) if host]
    if not hosts:
        raise OptionError(f"--hosts {path}: no machine listed; expected one per line")
    for host in hosts:
        if host.startswith("-"):
            raise OptionError(f"--hosts {path}: {host!r} is not the name of a machine")
    return hosts
