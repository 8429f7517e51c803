"""The `mnssd` command: finds the module of a command, runs it, and turns errors into one clear message.

A command is a module ``mnssd/cli/NAME.py`` with ``add_arguments(parser)``, which adds its options, and
``run(args)``, which returns the exit status; its docstring is the description in its help.
``INTERMIXED = True`` allows positional arguments on both sides of options. Only the module of the command is
imported, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from .. import __version__
from ..data.formats import allow_dataset
from ..errors import MnssdError, OptionError
from ..files import check_writable
from ..options import unknown_name
from ..runtime import environment
from ..runtime.plugins import add_plugin
from .streams import check_output, drop, guarded_streams, keep_going_without_reader, show_notes

EXIT_USAGE = 2  # as argparse
EXIT_INTERNAL = 70  # EX_SOFTWARE of BSD's sysexits.h
EXIT_INTERRUPTED = 128 + 2  # as a shell reports a process that was ended by SIGINT
EXIT_BROKEN_PIPE = 128 + 13  # and by SIGPIPE


class Command(NamedTuple):
    """Module of a command, its line in ``mnssd --help``, and the group that it is listed in."""

    module: str
    help: str
    group: str


COMMANDS: Dict[str, Command] = {
    "demo": Command("demo", "train, evaluate, export and run a detector on the built-in dataset", "train"),
    "train-ssd": Command("train_ssd", "train an SSD detector", "train"),
    "train-cls": Command("train_cls", "train an image classifier", "train"),
    "launch": Command("launch", "train in several processes, on one machine or several", "train"),
    "import": Command("import_model", "import a network that another framework trained", "train"),
    "prune": Command("prune", "remove channels of a trained network and train the rest further", "train"),
    "eval": Command("eval", "evaluate a detector with the metrics of Pascal VOC or COCO", "evaluate"),
    "eval-cls": Command("eval_cls", "evaluate a classifier", "evaluate"),
    "compare-runs": Command(
        "compare_runs", "say whether one run is better than another beyond chance", "evaluate"
    ),
    "report": Command("report", "write an HTML report about a run of a detector", "evaluate"),
    "export": Command("export", "export a trained detector or classifier to files", "export and use"),
    "detect": Command("detect", "detect objects in images and videos", "export and use"),
    "classify": Command("classify", "classify images", "export and use"),
    "check-data": Command("check_data", "find errors in a dataset", "data"),
    "check-labels": Command("check_labels", "find labels that look wrong to a trained detector", "data"),
    "suggest": Command("suggest", "suggest which images to label next", "data"),
    "convert-data": Command("convert_data", "convert a dataset to another format", "data"),
    "shapes": Command("shapes", "render the built-in dataset", "data"),
    "weights": Command("weights", "list, download and cache published ImageNet weights", "data"),
    "summary": Command("summary", "parameters and multiply-adds of each layer of a network", "measure"),
    "compare": Command("compare", "compare networks: cost, speed and published accuracy", "measure"),
    "bench": Command("bench", "measure speed and memory on this machine", "measure"),
    "info": Command("info", "versions, processor, threads, installed engines; for bug reports", "measure"),
}


PRINTING = frozenset({
    "eval", "eval-cls", "compare-runs", "detect", "classify", "check-data", "check-labels", "suggest",
    "summary", "compare", "bench", "info",
})  # fmt: skip
"""Commands that only print, unless one of `FILE_OPTIONS` is given: they end when nobody reads it."""

FILE_OPTIONS = (
    "output", "json", "jsonl", "coco", "voc", "mot", "cvat", "label_studio", "fix", "save_detections",
)  # fmt: skip


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command line `argv`, by default that of the process; returns the exit status."""
    return _guarded(_dispatch, argv)


def run_command(name: str, argv: Optional[Sequence[str]] = None, prog: Optional[str] = None) -> int:
    """Run one command, a key of `COMMANDS`; returns the exit status. The scripts call this.

    `argv` are the arguments after the command's name, by default those of the process; `prog` is the name of
    the program in the help.
    """
    return _guarded(lambda arguments: _run(name, arguments, prog), argv)


def _dispatch(arguments: List[str]) -> int:
    parser = _new_parser("mnssd", "MobileNet-SSD detectors and MobileNet classifiers on Apache MXNet.")
    parser.usage = "mnssd [-h] [--version] [--debug] [--plugin FILE] COMMAND ..."
    parser.epilog = _command_list()
    parser.add_argument("--version", action="version", version=f"mnssd {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    _load_plugins(arguments)
    return _run(args.command, args.rest)


def _command_list() -> str:
    width, groups = max(map(len, COMMANDS)), dict.fromkeys(command.group for command in COMMANDS.values())
    lines = []
    for group in groups:
        lines += [f"{group}:"]
        lines += [f"  {name:{width}}  {c.help}" for name, c in COMMANDS.items() if c.group == group]
        lines += [""]
    return "\n".join([*lines, "`mnssd COMMAND --help` lists the options of a command."])


def _run(name: str, arguments: List[str], prog: Optional[str] = None) -> int:
    if name not in COMMANDS:
        raise OptionError(unknown_name("command", name, COMMANDS))
    _load_plugins(arguments)
    module = importlib.import_module(f"{__package__}.{COMMANDS[name].module}")
    show_notes()
    parser = _new_parser(prog or f"mnssd {name}", module.__doc__ or "")
    module.add_arguments(parser)
    parse = parser.parse_intermixed_args if getattr(module, "INTERMIXED", False) else parser.parse_args
    args = parse(arguments)
    allow_dataset(getattr(args, "dataset", None))
    if name not in PRINTING or any(isinstance(vars(args).get(option), str) for option in FILE_OPTIONS):
        keep_going_without_reader()
    if isinstance(getattr(args, "json", None), str):  # of some commands it is a flag
        check_writable(args.json)  # not only when the results are there
    return int(module.run(args) or 0)


def _new_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options of all commands."""
    parser = argparse.ArgumentParser(prog, description=description, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--plugin", action="append", metavar="FILE",
        help="Python file that registers backbones, dataset formats or export formats; repeatable",
    )  # fmt: skip
    return parser


def _load_plugins(arguments: Sequence[str]) -> None:
    """Load the plugins of a command line, before its parser is built: they add choices to its options."""
    for path in _plugin_paths(arguments):
        add_plugin(path)


def _plugin_paths(arguments: Sequence[str]) -> Iterator[str]:
    for index, argument in enumerate(arguments):
        if argument == "--":
            return
        if argument == "--plugin" and index + 1 < len(arguments):
            yield arguments[index + 1]
        elif argument.startswith("--plugin="):
            yield argument[len("--plugin=") :]


def _guarded(command: Callable[[List[str]], int], argv: Optional[Sequence[str]]) -> int:
    """Run `command` with streams whose readers may go away; returns its exit status."""
    with guarded_streams():
        return _status(command, list(sys.argv[1:] if argv is None else argv))


def _status(command: Callable[[List[str]], int], arguments: List[str]) -> int:
    """Exit status of `command`; every error becomes one and at most one message on stderr."""
    debug = "--debug" in arguments
    try:
        try:
            status = command(arguments)
        except SystemExit as stop:  # argparse, after help, version or its own error message
            status = stop.code if isinstance(stop.code, int) else EXIT_USAGE
        sys.stdout.flush()  # here, where a closed pipe or a full disk can still be handled
        check_output()
        return status
    except KeyboardInterrupt:
        _print_error("interrupted", debug)
        return EXIT_INTERRUPTED
    except MnssdError as error:
        _print_error(f"error: {error}", debug)
        return error.exit_code
    except OSError as error:
        _discard_unwritable_output()
        if isinstance(error, BrokenPipeError):  # as in `mnssd ... | head`
            return EXIT_BROKEN_PIPE
        place = f"{error.filename}: " if error.filename is not None else ""
        _print_error(f"error: {place}{error.strerror or error}", debug)
        return MnssdError.exit_code
    except Exception as error:
        if isinstance(error, ImportError):
            try:
                environment.check_opencv()
            except environment.UnsuitableEnvironment as reason:
                _print_error(f"error: {reason}", debug)
                return MnssdError.exit_code
        advice = "please report it" if debug else "please report it, with the output of --debug"
        _print_error(f"internal error: {type(error).__name__}: {_first_line(error)} ({advice})", debug)
        return EXIT_INTERNAL


def _print_error(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(message, file=sys.stderr)


def _first_line(error: BaseException) -> str:
    """First line of an error's text, or the last if MXNet's C++ traceback precedes the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]


def _discard_unwritable_output() -> None:
    """Empty stdout's buffer into nothing if it cannot be written, or the interpreter reports it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        drop(sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
