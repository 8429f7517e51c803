"""The command line's frame: commands, exit statuses, one clear message for every way to end, plugins."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, Callable, List

import pytest

from mnssd import __version__
from mnssd.cli import main as frame
from mnssd.cli.main import COMMANDS, main, run_command
from mnssd.errors import DataError, OptionError

ROOT = Path(__file__).resolve().parents[2]

Install = Callable[[Callable[[argparse.Namespace], Any]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make a function the command `fake`."""

    def put(run: Callable[[argparse.Namespace], Any]) -> None:
        module = types.ModuleType("mnssd.cli.fake", "A command for tests.")
        module.add_arguments = lambda parser: parser.add_argument("--number", type=int)  # type: ignore
        module.run = run  # type: ignore
        monkeypatch.setitem(sys.modules, "mnssd.cli.fake", module)
        monkeypatch.setitem(COMMANDS, "fake", frame.Command("fake", "for tests", "tests"))

    return put


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def run_python(*arguments: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    keywords = {"stdout": subprocess.PIPE, **keywords}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True, **keywords
    )


@pytest.mark.parametrize("status", [0, 1, 3, None])
def test_status_of_the_command_is_returned(status: Any, install: Install) -> None:
    install(lambda args: status)
    assert main(["fake"]) == (status or 0)


def test_arguments_reach_the_command(install: Install) -> None:
    numbers = []
    install(lambda args: numbers.append(args.number))
    main(["fake", "--number", "4"])
    run_command("fake", ["--number", "5"])
    assert numbers == [4, 5]


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
def test_expected_errors_are_one_line(
    error: BaseException, status: int, message: str, install: Install, capsys: pytest.CaptureFixture
) -> None:
    install(raising(error))
    assert main(["fake"]) == status
    assert capsys.readouterr() == ("", message + "\n")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError(), "ValueError: "),
        (
            RuntimeError('Traceback (most recent call last):\n  File "a.cc"\nMXNetError: why\n'),
            "MXNetError: why",
        ),
        (ImportError("cannot import name 'x'"), "ImportError: cannot import name 'x'"),
    ],
)
def test_unexpected_errors_are_one_line_that_mentions_debug(
    error: Exception, reason: str, install: Install, capsys: pytest.CaptureFixture
) -> None:
    install(raising(error))
    assert main(["fake"]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line
    assert "--debug" in line


@pytest.mark.parametrize("arguments", [["--debug", "fake"], ["fake", "--debug"]])
@pytest.mark.parametrize("error", [DataError("a.xml: bad"), KeyError("x"), OSError(28, "full")])
def test_debug_shows_the_traceback(
    arguments: List[str], error: Exception, install: Install, capsys: pytest.CaptureFixture
) -> None:
    install(raising(error))
    assert main(arguments) != 0
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "in run" in text


def test_unknown_command_lists_near_names(capsys: pytest.CaptureFixture) -> None:
    assert main(["trian-ssd"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert [name for name in ("trian-ssd", "train-ssd", "train-cls") if name in line] == [
        "trian-ssd", "train-ssd", "train-cls",
    ]  # fmt: skip
    assert "shapes" not in line


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 2
    assert "train-ssd" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["fake", "--numbr", "1"], ["fake", "--num", "1"], ["--wrong", "fake"]])
def test_unknown_and_abbreviated_options_are_refused(
    arguments: List[str], install: Install, capsys: pytest.CaptureFixture
) -> None:
    install(lambda args: 0)
    assert main(arguments) == 2
    text = capsys.readouterr().err
    assert next(word for word in arguments if word.startswith("-")) in text
    assert "Traceback" not in text


def test_version(capsys: pytest.CaptureFixture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mnssd {__version__}\n"


def test_help_lists_every_command_in_its_group(capsys: pytest.CaptureFixture) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        group = text.split(f"\n{command.group}:\n")[1].split("\n\n")[0]
        assert f"  {name} " in group
        assert command.help in group


def test_help_of_every_command_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from mnssd.cli.main import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    status = main([name, '--help'])\n"
        "    heavy = [m for m in ('mxnet', 'gluoncv', 'cv2', 'numpy') if m in sys.modules]\n"
        "    if status or heavy: print(name, status, heavy, file=sys.stderr)\n"
    )
    done = run_python("-c", code)
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
        done = run_python(*arguments, "--help")
        assert done.returncode == 0
        return " ".join(done.stdout.split())

    assert help_of(script).replace(script, f"mnssd {command}") == help_of("-m", "mnssd", command)


def test_closed_pipe_is_silent() -> None:
    read, write = os.pipe()
    os.close(read)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = run_python("-m", "mnssd", "--help", stdout=write, env=env)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_full_disk_is_an_error() -> None:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = run_python("-m", "mnssd", "--help", stdout=full, env=env)
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


# ---- plugins -----------------------------------------------------------------------------------------------

PLUGIN = """
from mnssd.nn.backbones import Backbone, Tap, backbones
backbones.register("toynet", Backbone("toynet", None, (Tap("features.1", 16), Tap("features.2", 32))))
"""


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    path = tmp_path / "toy.py"
    path.write_text(PLUGIN)
    return str(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "mnssd", "--plugin", "FILE", "train-ssd", "--help"],
        ["-m", "mnssd", "train-cls", "--plugin", "FILE", "--help"],
        ["-m", "mnssd", "train-ssd", "--help", "--plugin=FILE"],
        ["train_ssd.py", "--plugin", "FILE", "--help"],
    ],
)
def test_plugin_adds_choices_to_help(arguments: List[str], plugin: str) -> None:
    done = run_python(*[word.replace("FILE", plugin) for word in arguments])
    assert (done.returncode, done.stderr) == (0, "")
    assert "mobilenet_v1,mobilenet_v2,toynet" in "".join(done.stdout.split())


def test_plugin_reaches_subprocesses(plugin: str) -> None:
    child = "from mnssd.nn.backbones import backbones; print(backbones.names())"
    code = (
        "import subprocess, sys\n"
        "from mnssd.cli.main import main\n"
        "main(['shapes', '--help', '--plugin', sys.argv[1]])\n"
        f"subprocess.run([sys.executable, '-c', {child!r}])\n"
    )
    assert "toynet" in run_python("-c", code, plugin).stdout


@pytest.mark.parametrize("content", [None, "import nowhere", "raise ValueError(1)", "x ="])
def test_missing_or_broken_plugin_is_refused_by_name(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    if content is not None:
        path.write_text(content)
    done = run_python("-m", "mnssd", "train-ssd", "--plugin", str(path), "--help")
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_plugins_after_a_double_dash_belong_to_the_launched_command(install: Install) -> None:
    install(lambda args: 0)
    assert list(frame._plugin_paths(["--plugin", "a.py", "--plugin=b.py", "--", "--plugin", "c.py"])) == [
        "a.py", "b.py",
    ]  # fmt: skip


# ---- invalid input names what the user typed ---------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "nowhere", "--output", "out"],
        ["eval", "nowhere"],
        ["eval-cls", "nowhere"],
        ["compare-runs", "nowhere", "nowhere"],
        ["report", "nowhere"],
        ["prune", "nowhere"],
        ["summary", "nowhere"],
        ["detect", "nowhere", "image.jpg"],
        ["classify", "nowhere", "image.jpg"],
        ["check-data", "nowhere"],
        ["convert-data", "nowhere", "out"],
        ["train-ssd", "--data-root", "nowhere"],
        ["train-cls", "--dataset", "folder", "--data-root", "nowhere"],
        ["train-ssd", "--weights", "nowhere", "--output", "out"],
        ["train-ssd", "--resume", "nowhere"],
        ["train-ssd", "--recipe", "nowhere"],
        ["bench", "export", "nowhere"],
    ],
)
def test_missing_path_is_named_as_typed(
    arguments: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) in (1, 2)
    text = capsys.readouterr().err
    assert "nowhere" in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()
