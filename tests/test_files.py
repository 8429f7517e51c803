"""Atomic writes: the path holds the complete new content or what it held before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mnssd.errors import MnssdError
from mnssd.files import atomic_folder, atomic_path, atomic_write, is_temporary, write_bytes, write_json


def names(folder: Path) -> list:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("mode", "content"), [("w", "é\n"), ("wb", b"\x00\xff")])
def test_atomic_write_replaces_the_file(tmp_path: Path, mode: str, content: object) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with atomic_write(path, mode) as file:
        file.write(content)
        assert path.read_text() == "old"
        (temporary,) = (entry for entry in tmp_path.iterdir() if entry != path)
        assert is_temporary(temporary)
    expected = content.encode() if isinstance(content, str) else content
    assert path.read_bytes() == expected
    assert names(tmp_path) == ["a"]
    assert not is_temporary(path)


@pytest.mark.parametrize("old", [None, "old"])
def test_failed_write_leaves_no_trace(tmp_path: Path, old: object) -> None:
    path = tmp_path / "a"
    if old:
        path.write_text(str(old))
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as file:
        file.writelines(["half", "\ud800"])
    assert (path.read_text() if path.exists() else None) == old
    assert names(tmp_path) == (["a"] if old else [])


def test_file_reaches_the_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append("sync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("rename"), rename(*paths)))
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert calls == ["sync", "rename", "sync"]
    with atomic_write(tmp_path / "b", sync=False):
        pass
    assert calls[3:] == ["rename"]


def test_write_error_names_the_file_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.json"
    write_json(path, {"b": 1})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MnssdError, match=r"a\.json: .*No space left on device"):
        write_bytes(path, b"new")
    assert json.loads(path.read_text()) == {"b": 1}
    assert names(tmp_path) == ["a.json"]


def test_write_json_creates_the_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "a.json", [1])
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == [1]
    with pytest.raises(MnssdError, match=r"a\.json/b\.json"):
        write_json(tmp_path / "new" / "a.json" / "b.json", [1])


@pytest.mark.parametrize("existing", ["absent", "empty", "link"])
def test_atomic_folder_appears_when_complete(tmp_path: Path, existing: str) -> None:
    path = tmp_path / "made"
    if existing == "empty":
        path.mkdir()
    if existing == "link":
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to("elsewhere")
    before = names(tmp_path)
    with atomic_folder(path) as folder:
        assert folder.name == path.resolve().name
        (folder / "a").write_text("new")
        assert not path.exists() or names(path) == []
    assert (path / "a").read_text() == "new"
    assert path.is_symlink() == (existing == "link")
    assert names(tmp_path) == (before or ["made"])


def test_atomic_folder_keeps_existing_content(tmp_path: Path) -> None:
    path = tmp_path / "made"
    path.mkdir()
    (path / "a").write_text("old")
    with pytest.raises(OSError, match="made"), atomic_folder(path):
        pass
    with pytest.raises(ZeroDivisionError), atomic_folder(path, replace=True):
        raise ZeroDivisionError
    assert (path / "a").read_text() == "old"
    with atomic_folder(path, replace=True) as folder:
        (folder / "b").write_text("new")
    assert names(path) == ["b"]
    assert names(tmp_path) == ["made"]
