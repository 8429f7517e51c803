"""`download_file` against a local https server that misbehaves."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import pytest
from helpers.https_server import Server

from mnssd.errors import DownloadError
from mnssd.fetch.download import Checksum, download_file

CONTENT = np.random.default_rng(0).bytes(700_001)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CHECKSUM = Checksum("sha256", SHA256)

Get = Callable[..., Path]


@pytest.fixture
def get(server: Server, cafile: str, tmp_path: Path) -> Get:
    server.files["/x.tar"] = CONTENT

    def get(*urls: str, **options: Any) -> Path:
        options = {"checksum": CHECKSUM, "size": len(CONTENT), "cafile": cafile, **options}
        download_file(urls or [f"{server.url}/x.tar"], tmp_path / "to" / "x.tar", **options)
        return tmp_path / "to" / "x.tar"

    return get


def files(tmp_path: Path) -> List[str]:
    return sorted(path.name for path in (tmp_path / "to").glob("*"))


def test_existing_file_is_not_downloaded_again(server: Server, get: Get, tmp_path: Path) -> None:
    assert get().read_bytes() == CONTENT
    assert files(tmp_path) == ["x.tar"]
    get()
    assert server.requests == [("/x.tar", None)]


def test_response_without_a_length(server: Server, get: Get) -> None:
    server.faults = ["no length"]
    assert get().read_bytes() == CONTENT


def test_interrupted_download_resumes(server: Server, get: Get) -> None:
    server.faults = [("cut", 300_000), ("status", 503), ("cut", 0), ("cut", 1000)]
    assert get().read_bytes() == CONTENT
    ranges = [range_header for _, range_header in server.requests]
    assert ranges == [None, "bytes=300000-", "bytes=300000-", "bytes=300000-", "bytes=301000-"]


def test_later_call_resumes(server: Server, get: Get, tmp_path: Path) -> None:
    server.faults = [("cut", 300_000), *[("status", 500)] * 4]
    with pytest.raises(DownloadError, match=r"x\.tar.*500"):
        get()
    assert len(server.requests) == 5
    assert files(tmp_path) == ["x.tar.part"]
    assert get().read_bytes() == CONTENT
    assert server.requests[-1] == ("/x.tar", "bytes=300000-")


@pytest.mark.parametrize("fault", ["no range", "wrong range"])
def test_server_that_cannot_resume(fault: str, server: Server, get: Get) -> None:
    server.faults = [("cut", 300_000), fault]
    assert get().read_bytes() == CONTENT
    ranges = [range_header for _, range_header in server.requests]
    assert ranges == [None, "bytes=300000-", None][: 2 if fault == "no range" else 3]


@pytest.mark.parametrize("old", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)])
def test_part_of_another_file_is_replaced(old: bytes, get: Get, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "x.tar.part").write_bytes(old)
    assert get().read_bytes() == CONTENT


def test_complete_part_needs_no_request(server: Server, get: Get, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "x.tar.part").write_bytes(CONTENT)
    assert get().read_bytes() == CONTENT
    assert server.requests == []


def test_wrong_content_is_deleted(server: Server, get: Get, tmp_path: Path) -> None:
    server.files["/x.tar"] = CONTENT[:-1] + b"?"
    with pytest.raises(DownloadError, match=SHA256):
        get()
    assert files(tmp_path) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [None, "no length"])
def test_longer_content_is_refused(fault: Any, server: Server, get: Get, tmp_path: Path) -> None:
    server.files["/x.tar"] = CONTENT + b"?"
    server.faults = [fault]
    with pytest.raises(DownloadError, match="700001"):
        get()
    assert files(tmp_path) == []


def test_endless_response_is_cut(server: Server, get: Get, tmp_path: Path) -> None:
    server.faults = ["endless"]
    with pytest.raises(DownloadError, match="700001"):
        get()
    assert files(tmp_path) == []


def test_next_url_is_tried(server: Server, get: Get) -> None:
    assert get(f"{server.url}/gone", f"{server.url}/x.tar").read_bytes() == CONTENT


def test_not_found_is_not_retried(server: Server, get: Get) -> None:
    with pytest.raises(DownloadError, match=r"x\.tar.*/gone.*404"):
        get(f"{server.url}/gone")
    assert len(server.requests) == 1


def test_plain_http_is_refused(server: Server, get: Get) -> None:
    with pytest.raises(DownloadError, match="http://localhost:1/x"):
        get("http://localhost:1/x.tar")
    server.faults = [("redirect", "http://localhost:1/x.tar")]
    with pytest.raises(DownloadError, match="http://localhost:1/x"):
        get()
    assert len(server.requests) == 1
    server.faults = [("redirect", "/x.tar")]
    assert get().read_bytes() == CONTENT


def test_unknown_certificate_is_refused(server: Server, get: Get, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
        get(cafile=None)
    assert files(tmp_path) == []
    assert server.requests == []


def test_unreachable_server(get: Get) -> None:
    with pytest.raises(DownloadError, match=r"x\.tar.*https://localhost:1"):
        get("https://localhost:1/x.tar")


def test_existing_file_with_other_content_is_kept(get: Get, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "x.tar").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"to/x\.tar"):
        get()
    assert (tmp_path / "to" / "x.tar").read_bytes() == b"mine"


def test_folder_that_cannot_be_created(server: Server, get: Get, tmp_path: Path) -> None:
    (tmp_path / "to").write_bytes(b"a file")
    with pytest.raises(DownloadError, match=r"to/x\.tar"):
        get()
    assert server.requests == []
