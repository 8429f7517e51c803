"""Loading of plugins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mnssd.errors import OptionError
from mnssd.runtime import plugins
from mnssd.runtime.plugins import VARIABLE, add_plugin, load_plugins


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_loaded", [])
    monkeypatch.setenv(VARIABLE, "")


def write_plugin(folder: Path, name: str, code: str = "") -> Path:
    path = folder / name
    path.write_text(f"open({str(folder / 'log')!r}, 'a').write('{name} ')\n{code}")
    return path


def log(folder: Path) -> str:
    return (folder / "log").read_text() if (folder / "log").exists() else ""


def test_each_plugin_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = write_plugin(tmp_path, "a.py"), write_plugin(tmp_path, "b.py")
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(first), "", str(second), str(first)]))
    assert load_plugins() == [str(first), str(second)]
    assert load_plugins() == [str(first), str(second)]
    add_plugin(str(first))
    assert log(tmp_path) == "a.py b.py "


def test_added_plugin_is_passed_to_child_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_plugin(tmp_path, "a.py")
    monkeypatch.chdir(tmp_path)
    add_plugin("a.py")
    add_plugin(str(path))
    assert os.environ[VARIABLE] == str(path)


def test_plugin_can_use_a_registry_while_it_loads(tmp_path: Path) -> None:
    code = "from mnssd.nn.backbones import backbones\nassert backbones.names()"
    add_plugin(str(write_plugin(tmp_path, "a.py", code)))
    assert log(tmp_path) == "a.py "


@pytest.mark.parametrize("name", ["absent.py", "folder.py", "text.txt"])
def test_path_that_is_no_python_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "text.txt").touch()
    with pytest.raises(OptionError, match=name):
        add_plugin(str(tmp_path / name))
    assert os.environ[VARIABLE] == ""


@pytest.mark.parametrize("code", ["1 / 0", "import absent_module", "def ("])
def test_failing_plugin_is_named(code: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"a\.py.*(ZeroDivision|ModuleNotFound|Syntax)Error"):
        add_plugin(str(write_plugin(tmp_path, "a.py", code)))
    assert load_plugins() == []
