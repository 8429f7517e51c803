"""`unpack_tar` on hostile and damaged archives."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.https_server import write_tar

from mnssd.errors import DownloadError
from mnssd.fetch.archives import unpack_tar

LIMIT = 1 << 20


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_files_and_folders_are_unpacked(mode: str, tmp_path: Path) -> None:
    members = [
        special("a", tarfile.DIRTYPE), ("a/b.txt", b"b"), ("./c/d.txt", b"d"), special("e", tarfile.DIRTYPE),
    ]  # fmt: skip
    unpack_tar(write_tar(tmp_path / "x.tar", members, mode), tmp_path / "new" / "folder", max_bytes=LIMIT)
    assert (tmp_path / "new/folder/a/b.txt").read_bytes() == b"b"
    assert (tmp_path / "new/folder/c/d.txt").read_bytes() == b"d"
    assert (tmp_path / "new/folder/e").is_dir()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["folder"]


@pytest.mark.parametrize(
    "member",
    [
        ("../evil", b""),
        ("a/../../evil", b""),
        ("/tmp/evil", b""),
        ("a\\..\\..\\evil", b""),
        ("C:/evil", b""),
        special("link", tarfile.SYMTYPE, "/etc"),
        special("link", tarfile.SYMTYPE, "good"),
        special("link", tarfile.LNKTYPE, "good"),
        special("device", tarfile.CHRTYPE),
        special("device", tarfile.BLKTYPE),
        special("pipe", tarfile.FIFOTYPE),
        special("../folder", tarfile.DIRTYPE),
    ],
    ids=lambda member: member[0] if isinstance(member, tuple) else f"{member.name} {member.type!r}",
)
def test_hostile_archive_leaves_no_files(member: Any, tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "x.tar", [("good", b"good"), member])
    name = member[0] if isinstance(member, tuple) else member.name
    with pytest.raises(DownloadError, match=r"x\.tar") as raised:
        unpack_tar(archive, tmp_path / "folder", max_bytes=LIMIT)
    assert repr(name) in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tar"]


def test_content_over_the_limit_is_refused(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "x.tar", [("a", bytes(600)), ("b", bytes(600))], "w:gz")
    with pytest.raises(DownloadError, match=r"x\.tar.*1000"):
        unpack_tar(archive, tmp_path / "folder", max_bytes=1000)
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_truncated_archive_is_refused(mode: str, tmp_path: Path) -> None:
    members = [(f"{number}", np.random.default_rng(number).bytes(700)) for number in range(3)]
    content = write_tar(tmp_path / "whole.tar", members, mode).read_bytes()
    end = 3 * (512 + 1024) if mode == "w" else len(content) - 8  # before the zeros; the gzip checksum
    for length in range(0, end + 1, 256 if mode == "w" else 97):
        (tmp_path / "x.tar").write_bytes(content[:length])
        with pytest.raises(DownloadError, match=r"x\.tar"):
            unpack_tar(tmp_path / "x.tar", tmp_path / "folder", max_bytes=LIMIT)
        assert not (tmp_path / "folder").exists()


def test_existing_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    archive = write_tar(tmp_path / "x.tar", [("mine", b"theirs")])
    with pytest.raises(DownloadError, match="folder"):
        unpack_tar(archive, tmp_path / "folder", max_bytes=LIMIT)
    assert (tmp_path / "folder" / "mine").read_bytes() == b""
