"""The command line's frame: finding commands, exit statuses, one clear message for every way to end."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, Callable

import pytest

from mnssd import __version__
from mnssd.cli import main as frame
from mnssd.cli.main import COMMANDS, main, run_command
from mnssd.errors import DataError, OptionError

ROOT = Path(__file__).resolve().parents[2]

Install = Callable[[Callable[[argparse.Namespace], Any]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make the command `fake` out of a function."""

    def put(run: Callable[[argparse.Namespace], Any]) -> None:
        module = types.ModuleType("mnssd.cli.fake", "A command for tests.")
        module.add_arguments = lambda parser: parser.add_argument("--number", type=int)  # type: ignore
        module.run = run  # type: ignore
        monkeypatch.setitem(sys.modules, "mnssd.cli.fake", module)
        monkeypatch.setitem(COMMANDS, "fake", frame.Command("fake", "for tests"))

    return put


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def command_line(*arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mnssd.cli.main", *arguments]
    return subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, **keywords)


@pytest.mark.parametrize("status", [0, 1, 3, None])
def test_the_command_s_status_is_returned(status: Any, install: Install) -> None:
    install(lambda args: status)
    assert main(["fake"]) == (status or 0)


def test_arguments_arrive(install: Install) -> None:
    seen = []
    install(lambda args: seen.append(args.number))
    main(["fake", "--number", "4"])
    run_command("fake", ["--number", "5"])
    assert seen == [4, 5]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (DataError("a.xml: bad"), 1, "error: a.xml: bad"),
        (OptionError("--lr: bad"), 2, "error: --lr: bad"),
        (PermissionError(13, "Permission denied", "/x/y"), 1, "error: /x/y: Permission denied"),
        (OSError(28, "No space left on device"), 1, "error: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_expected_ends(
    error: BaseException, status: int, message: str, install: Install, capsys: pytest.CaptureFixture
) -> None:
    install(raising(error))
    assert main(["fake"]) == status
    assert capsys.readouterr() == ("", message + "\n")


@pytest.mark.parametrize(
    ("error", "gist"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError(), "ValueError: no message"),
        (
            RuntimeError('Traceback (most recent call last):\n  File "a.cc"\nMXNetError: why\n'),
            "MXNetError: why",
        ),
        (ImportError("cannot import name 'x'"), "ImportError: cannot import name 'x'"),
    ],
)
def test_unexpected_errors(
    error: Exception, gist: str, install: Install, capsys: pytest.CaptureFixture
) -> None:
    install(raising(error))
    assert main(["fake"]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("internal error: ")
    assert gist in line
    assert "--debug" in line
    assert "report" in line


@pytest.mark.parametrize("arguments", [["--debug", "fake"], ["fake", "--debug"]])
@pytest.mark.parametrize("error", [DataError("a.xml: bad"), KeyError("x"), OSError(28, "full")])
def test_debug_shows_the_traceback(
    arguments: list, error: Exception, install: Install, capsys: pytest.CaptureFixture
) -> None:
    install(raising(error))
    assert main(arguments) != 0
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "in run" in text


def test_unknown_command_lists_near_names(capsys: pytest.CaptureFixture) -> None:
    assert main(["trian-ssd"]) == 2
    assert (
        capsys.readouterr().err
        == "error: unknown command 'trian-ssd'; did you mean train-ssd or train-cls?\n"
    )


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["fake", "--numbr", "1"], ["fake", "--num", "1"], ["--wrong", "fake"]])
def test_unknown_options_are_refused(
    arguments: list, install: Install, capsys: pytest.CaptureFixture
) -> None:
    install(lambda args: 0)
    assert main(arguments) == 2  # an abbreviation too: it would change its meaning with the next option
    assert "Traceback" not in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mnssd {__version__}\n"


def test_help_lists_every_command(capsys: pytest.CaptureFixture) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert command.help in text


def test_help_of_every_command_loads_nothing_heavy() -> None:
    """One process for all: whoever of them loads MXNet, NumPy or OpenCV is named."""
    code = (
        "import sys\n"
        "from mnssd.cli.main import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    status = main([name, '--help'])\n"
        "    heavy = [m for m in ('mxnet', 'gluoncv', 'cv2', 'numpy') if m in sys.modules]\n"
        "    if status or heavy: print(name, status, heavy, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("script", "command"),
    [
        ("train_ssd.py", "train-ssd"),
        ("eval_voc.py", "eval"),
        ("train_cls.py", "train-cls"),
        ("eval_cls.py", "eval-cls"),
    ],
)
def test_scripts_are_the_commands(script: str, command: str) -> None:
    def help_of(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments, "--help"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert done.returncode == 0
        return " ".join(done.stdout.split())

    assert help_of(script).replace(script, f"mnssd {command}") == help_of("-m", "mnssd.cli.main", command)


def test_closed_pipe_is_silent() -> None:
    read, write = os.pipe()
    os.close(read)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = command_line("--help", stdout=write, env=env)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_full_disk_is_told() -> None:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = command_line("--help", stdout=full, env=env)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")
