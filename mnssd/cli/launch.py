"""Train in several processes, on this machine or on many, through MXNet's parameter server.

    mnssd launch -n 2 -s 1 -- train_ssd.py --dataset voc ...

Starts a scheduler, servers and workers, and shows what each says with its name before it. When one fails, all
are ended. --batch-size is that of the whole: each worker has its share of every batch, so the learning rate
stays as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List

from ..errors import OptionError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how many, where, and what."""
    parser.add_argument("-n", "--workers", type=int, required=True, metavar="N", help="processes that train")
    parser.add_argument(
        "-s", "--servers", type=int, default=1, metavar="N", help="processes that sum gradients (default: 1)"
    )
    parser.add_argument(
        "--hosts", metavar="FILE",
        help="machines to use in turn, by ssh, a line each; the project lies in the same place on all",
    )  # fmt: skip
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- SCRIPT ...",
        help="train_ssd.py or train_cls.py, and its arguments",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Start, watch, end; returns the exit status."""
    command: List[str] = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise OptionError("what is to be run? mnssd launch -n 2 -- train_ssd.py --dataset voc ...")
    if args.workers < 1 or args.servers < 1:
        raise OptionError("there is at least one worker, and one server")
    hosts: List[str] = []
    if args.hosts:
        try:
            text = Path(args.hosts).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"{args.hosts}: cannot be read ({error}); it has a machine a line") from error
        hosts = [line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip()]
        if not hosts:
            raise OptionError(f"{args.hosts}: names no machine")
        if any(host.startswith("-") for host in hosts):
            raise OptionError(f"{args.hosts}: a machine's name does not begin with '-'")
    if not any(word.startswith("--kvstore") for word in command):
        command = [*command, "--kvstore", "dist_sync"]

    from ..distributed.launch import launch

    launch(command, args.workers, args.servers, hosts)
    return 0
