"""The command `mnssd`: finds the command's module, runs it, and turns its errors into one clear message.

A command is a module ``mnssd/cli/NAME.py`` with ``add_arguments(parser)`` and ``run(args) -> int``; its
docstring is the command's help. Where it says ``INTERMIXED = True``, positional arguments may stand on both
sides of options. Only the chosen module is imported, so that ``--help`` costs nothing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from .. import __version__
from ..errors import MnssdError, OptionError
from ..options import unknown_name
from ..runtime import environment

EXIT_USAGE = 2  # as argparse does
EXIT_INTERNAL = 70  # EX_SOFTWARE of BSD's sysexits.h
EXIT_INTERRUPTED = 128 + 2  # as a shell reports a process that died of SIGINT
EXIT_BROKEN_PIPE = 128 + 13  # and of SIGPIPE


class Command(NamedTuple):
    """Where a command lives, and its line in ``mnssd --help``."""

    module: str
    help: str


COMMANDS: Dict[str, Command] = {
    "demo": Command("demo", "train, measure, export and try a detector on the built-in dataset"),
    "train-ssd": Command("train_ssd", "train an SSD detector"),
    "train-cls": Command("train_cls", "train a classifier"),
    "launch": Command("launch", "train in several processes, on one machine or many"),
    "eval-cls": Command("eval_cls", "measure a classifier"),
    "eval": Command("eval", "measure a detector as the Pascal VOC devkit does"),
    "prune": Command("prune", "take channels out of a trained network and train what is left"),
    "export": Command("export", "write a trained detector or classifier as files that plain MXNet runs"),
    "detect": Command("detect", "find objects in images"),
    "classify": Command("classify", "say what images show"),
    "summary": Command("summary", "parameters and multiply-adds of every layer of a network"),
    "report": Command("report", "a page about a run: curves, precision, mistakes, data"),
    "compare": Command("compare", "cost, time and published accuracy of the MobileNets"),
    "bench": Command("bench", "measure speed and memory on this machine"),
    "check-data": Command("check_data", "find what is wrong with a dataset"),
    "convert-data": Command(
        "convert_data", "write a dataset in another format: VOC, COCO, YOLO, CSV, RecordIO"
    ),
    "shapes": Command("shapes", "render the built-in dataset"),
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line `argv` (default: the process's) and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return _guarded(lambda: _dispatch(arguments), debug="--debug" in arguments)


def run_command(name: str, argv: Optional[Sequence[str]] = None, prog: Optional[str] = None) -> int:
    """Run one command with its own arguments and return the exit status; what the scripts call.

    Parameters
    ----------
    name : str
        A key of `COMMANDS`.
    argv : sequence of str, optional
        The arguments after the command's name; by default those of the process.
    prog : str, optional
        The program's name in the help text.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return _guarded(lambda: _run(name, arguments, prog), debug="--debug" in arguments)


def _dispatch(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="mnssd",
        description="MobileNet-SSD detectors on Apache MXNet.",
        epilog=_command_list(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mnssd {__version__}")
    _add_debug(parser)
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="one of the commands below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    return _run(args.command, args.rest)


def _command_list() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(["commands:", *lines, "", "`mnssd COMMAND --help` tells more."])


def _run(name: str, arguments: List[str], prog: Optional[str] = None) -> int:
    if name not in COMMANDS:
        raise OptionError(unknown_name("command", name, COMMANDS))
    module = importlib.import_module(f"{__package__}.{COMMANDS[name].module}")
    parser = argparse.ArgumentParser(
        prog=prog or f"mnssd {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_debug(parser)
    module.add_arguments(parser)
    parse = parser.parse_intermixed_args if getattr(module, "INTERMIXED", False) else parser.parse_args
    return int(module.run(parse(arguments)) or 0)


def _add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _guarded(command: Callable[[], int], debug: bool) -> int:
    """Run `command`; every way it can end becomes an exit status and at most one message on stderr."""
    try:
        status = _status(command)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a closed pipe or a full disk can still be handled
        return status
    except KeyboardInterrupt:
        _say("interrupted", debug)
        return EXIT_INTERRUPTED
    except MnssdError as error:
        _say(f"error: {error}", debug)
        return error.exit_code
    except OSError as error:
        _drop_unwritable_output()
        if isinstance(error, BrokenPipeError):  # the reader of our output has gone, as in `mnssd ... | head`
            return EXIT_BROKEN_PIPE
        place = f"{error.filename}: " if error.filename is not None else ""  # a full disk, a folder not ours
        _say(f"error: {place}{error.strerror or error}", debug)
        return MnssdError.exit_code
    except Exception as error:
        if isinstance(error, ImportError):
            try:
                environment.check_opencv()
            except environment.UnsuitableEnvironment as reason:
                _say(f"error: {reason}", debug)
                return MnssdError.exit_code
        advice = "please report it" if debug else "run again with --debug for the traceback; please report it"
        _say(f"internal error: {type(error).__name__}: {_gist(error)} ({advice})", debug)
        return EXIT_INTERNAL


def _status(command: Callable[[], int]) -> int:
    """Run `command`; argparse exits by itself after its help, its version or its own message."""
    try:
        return command()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_USAGE


def _say(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(message, file=sys.stderr)


def _gist(error: BaseException) -> str:
    """One line of an error's text. MXNet puts its C++ traceback first and the reason last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


def _drop_unwritable_output() -> None:
    """Empty stdout's buffer, to nowhere if need be: the interpreter would complain of it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
