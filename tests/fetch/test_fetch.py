"""Downloads from a local https server that can misbehave, unpacking of hostile archives, VOC end to end."""

from __future__ import annotations

import hashlib
import io
import ssl
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pytest
import trustme

from mnssd.data.classification.datasets import open_classification_dataset
from mnssd.data.formats.voc import read_voc
from mnssd.errors import DataError, DownloadError, OptionError
from mnssd.fetch import archives as download_module
from mnssd.fetch import transfer
from mnssd.fetch.archives import CIFAR10_FILES, Archive, archive_of, download_cifar10, download_voc
from mnssd.fetch.transfer import fetch, unpack_tar

CONTENT = np.random.default_rng(0).bytes(700_001)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files` over https; each request first takes one of the `tricks`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.files: Dict[str, bytes] = {"/x.tar": CONTENT}
        self.tricks: List[Any] = []
        self.requests: List[Tuple[str, Optional[str]]] = []
        self.url = f"https://localhost:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust the certificate is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        trick = self.server.tricks.pop(0) if self.server.tricks else None
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        if isinstance(trick, tuple) and trick[0] == "status":
            return self.send_error(trick[1])
        if isinstance(trick, tuple) and trick[0] == "redirect":
            self.send_response(302)
            self.send_header("Location", trick[1])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start = int(asked[len("bytes=") : -1]) if asked and trick != "no range" else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            shown = start + 1 if trick == "wrong range" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        if trick not in ("no length", "endless"):
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: trick[1]] if isinstance(trick, tuple) and trick[0] == "cut" else body)
        try:
            while trick == "endless":
                self.wfile.write(body)
        except OSError:  # the client has had enough
            pass
        return None


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    monkeypatch.setattr(transfer, "_pause", lambda seconds: None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = Server(context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cafile(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def get(server: Server, cafile: str, tmp_path: Path) -> Callable[..., Path]:
    def get(url: Any = None, **options: Any) -> Path:
        options = {"sha256": SHA256, "size": len(CONTENT), "cafile": cafile, **options}
        return fetch(url or f"{server.url}/x.tar", tmp_path / "to" / "x.tar", **options)

    return get


def left_behind(tmp_path: Path) -> List[str]:
    return sorted(path.name for path in (tmp_path / "to").glob("*"))


def test_whole_file(server: Server, get: Callable[..., Path], tmp_path: Path) -> None:
    assert get().read_bytes() == CONTENT
    assert left_behind(tmp_path) == ["x.tar"]
    get()  # and not again
    assert server.requests == [("/x.tar", None)]


def test_no_length_known(server: Server, get: Callable[..., Path]) -> None:
    server.tricks = ["no length"]
    assert get(size=None).read_bytes() == CONTENT


def test_goes_on_after_cuts(server: Server, get: Callable[..., Path]) -> None:
    server.tricks = [("cut", 300_000), ("status", 503), ("cut", 0), ("cut", 1000)]
    assert get().read_bytes() == CONTENT
    ranges = [asked for _, asked in server.requests]
    assert ranges == [None, "bytes=300000-", "bytes=300000-", "bytes=300000-", "bytes=301000-"]


def test_goes_on_in_a_later_call(server: Server, get: Callable[..., Path], tmp_path: Path) -> None:
    server.tricks = [("cut", 300_000), *[("status", 500)] * 4]
    with pytest.raises(DownloadError, match=r"gave up after 5 attempts.*500.*kept"):
        get()
    assert left_behind(tmp_path) == ["x.tar.part"]
    assert get().read_bytes() == CONTENT
    assert server.requests[-1] == ("/x.tar", "bytes=300000-")


@pytest.mark.parametrize("trick", ["no range", "wrong range"])
def test_server_that_cannot_resume(trick: str, server: Server, get: Callable[..., Path]) -> None:
    server.tricks = [("cut", 300_000), trick]
    assert get().read_bytes() == CONTENT
    ranges = [asked for _, asked in server.requests]
    assert ranges == [None, "bytes=300000-", None][: 2 if trick == "no range" else 3]


@pytest.mark.parametrize("old", [b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)])
def test_an_old_piece_of_something_else(old: bytes, get: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "x.tar.part").write_bytes(old)
    assert get().read_bytes() == CONTENT


def test_a_finished_piece_needs_no_request(server: Server, get: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "x.tar.part").write_bytes(CONTENT)
    assert get().read_bytes() == CONTENT
    assert server.requests == []


def test_wrong_content_is_removed(server: Server, get: Callable[..., Path], tmp_path: Path) -> None:
    server.files["/x.tar"] = CONTENT[:-1] + b"?"
    with pytest.raises(DownloadError, match="not what was published"):
        get()
    assert left_behind(tmp_path) == []
    assert len(server.requests) == 1


def test_wrong_length_is_not_loaded(server: Server, get: Callable[..., Path], tmp_path: Path) -> None:
    server.files["/x.tar"] = CONTENT + b"?"
    with pytest.raises(DownloadError, match="offers 700002 bytes, not the 700001"):
        get()
    server.tricks = ["no length"]
    with pytest.raises(DownloadError, match="more than the 700001"):
        get()
    with pytest.raises(DownloadError, match="offers 700002"):
        get(size=None, max_bytes=1000)
    assert left_behind(tmp_path) == []


def test_a_server_that_never_ends(server: Server, get: Callable[..., Path], tmp_path: Path) -> None:
    server.tricks = ["endless"]
    with pytest.raises(DownloadError, match="more than the 700001"):
        get()
    assert left_behind(tmp_path) == []


def test_next_url_when_one_fails(server: Server, get: Callable[..., Path]) -> None:
    assert get([f"{server.url}/gone", f"{server.url}/x.tar"]).read_bytes() == CONTENT


def test_not_found_is_final(server: Server, get: Callable[..., Path]) -> None:
    with pytest.raises(DownloadError, match=r"x\.tar could not be fetched.*/gone.*HTTP 404"):
        get(f"{server.url}/gone")
    assert len(server.requests) == 1


def test_plain_http_is_refused(server: Server, get: Callable[..., Path]) -> None:
    with pytest.raises(DownloadError, match="only https"):
        get("http://localhost:1/x.tar")
    server.tricks = [("redirect", "http://localhost:1/x.tar")]
    with pytest.raises(DownloadError, match="not https"):
        get()
    server.tricks = [("redirect", "/x.tar")]
    assert get().read_bytes() == CONTENT


def test_unknown_certificate_is_refused(server: Server, get: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="certificate"):
        get(cafile=None)
    assert left_behind(tmp_path) == []
    assert server.requests == []


def test_nobody_there(get: Callable[..., Path]) -> None:
    with pytest.raises(DownloadError, match="gave up"):
        get("https://localhost:1/x.tar")


def test_another_file_of_that_name(get: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "x.tar").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="remove it"):
        get()
    assert (tmp_path / "to" / "x.tar").read_bytes() == b"mine"


def test_folder_that_cannot_be_made(get: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "to").write_bytes(b"a file")
    with pytest.raises(DownloadError, match="cannot be written"):
        get()


def tar_of(path: Path, members: List[Any], mode: str = "w") -> Path:
    """Write a tar of (name, content) pairs and of TarInfos."""
    with tarfile.open(path, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_unpack(mode: str, tmp_path: Path) -> None:
    members = [
        special("a", tarfile.DIRTYPE),
        ("a/b.txt", b"b"),
        ("./c/d.txt", b"d"),
        special("e", tarfile.DIRTYPE),
    ]
    unpack_tar(tar_of(tmp_path / "x.tar", members, mode), tmp_path / "new" / "folder")
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
def test_hostile_archives_leave_nothing(member: Any, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "x.tar", [("good", b"good"), member])
    with pytest.raises(DownloadError, match=r"x\.tar.*not unpacked"):
        unpack_tar(archive, tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tar"]


def test_too_large_an_archive(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "x.tar", [("a", bytes(600)), ("b", bytes(600))], "w:gz")
    with pytest.raises(DownloadError, match="more than 1000 bytes"):
        unpack_tar(archive, tmp_path / "folder", max_bytes=1000)
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_every_cut_archive_is_refused(mode: str, tmp_path: Path) -> None:
    members = [(f"{number}", np.random.default_rng(number).bytes(700)) for number in range(3)]
    content = tar_of(tmp_path / "whole.tar", members, mode).read_bytes()
    end = 3 * (512 + 1024) if mode == "w" else len(content) - 8  # before the zeros; the gzip checksum
    for length in range(0, end + 1, 256 if mode == "w" else 97):
        (tmp_path / "x.tar").write_bytes(content[:length])
        with pytest.raises(DownloadError, match=r"x\.tar cannot be unpacked"):
            unpack_tar(tmp_path / "x.tar", tmp_path / "folder")
        assert not (tmp_path / "folder").exists()


def test_folder_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    with pytest.raises(DownloadError, match="there already"):
        unpack_tar(tar_of(tmp_path / "x.tar", [("mine", b"theirs")]), tmp_path / "folder")
    assert (tmp_path / "folder" / "mine").read_bytes() == b""


ANNOTATION = (
    "<annotation><size><width>40</width><height>30</height></size><object><name>cat</name>"
    "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object></annotation>"
)


def voc_members(year: str, lists: Dict[str, List[str]]) -> List[Tuple[str, bytes]]:
    folder = f"VOCdevkit/VOC{year}"
    members = []
    for split, ids in lists.items():
        members.append((f"{folder}/ImageSets/Main/{split}.txt", "\n".join(ids).encode()))
        for image_id in ids:
            members.append((f"{folder}/Annotations/{image_id}.xml", ANNOTATION.encode()))
            members.append((f"{folder}/JPEGImages/{image_id}.jpg", b"pixels"))
    return members


@pytest.fixture
def archives(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dict[str, bytes]:
    """Small stand-ins for the official archives, on the local server."""
    lists = {
        "old.tar": ("2007", {"train": ["000001"], "trainval": ["000001", "000002"]}),
        "test.tar": ("2007", {"test": ["000003"]}),
        "new.tar": ("2012", {"trainval": ["2008_000001"]}),
    }
    table, files = [], {}
    for name, (year, splits) in lists.items():
        content = tar_of(tmp_path / name, voc_members(year, splits)).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        table.append(Archive(year, tuple(splits), name, len(content), digest))
        files[f"/voc{year}/{name}"] = content
    server.files = files
    monkeypatch.setattr(download_module, "VOC_ARCHIVES", tuple(table))
    monkeypatch.setattr(
        download_module, "VOC_URLS", (server.url + "/down/{name}", server.url + "/voc{year}/{name}")
    )
    return files


def test_download_voc(archives: Dict[str, bytes], server: Server, cafile: str, tmp_path: Path) -> None:
    root = tmp_path / "data" / "VOCdevkit"
    splits = "2007_trainval+2012_trainval"
    with pytest.raises(DataError, match="--download"):
        read_voc(root, splits)
    server.tricks = [None, ("cut", 3000)]
    assert download_voc(root, splits, cafile=cafile) == ["old.tar", "new.tar"]
    assert [sample.image_id for sample in read_voc(root, splits)] == ["000001", "000002", "2008_000001"]
    assert sorted(path.name for path in root.iterdir()) == ["VOC2007", "VOC2012"]

    # The test images of 2007 come into the same folder; what is complete is not fetched again.
    server.requests.clear()
    assert download_voc(root, f"{splits}+2007_test+2007_train", cafile=cafile) == ["test.tar"]
    assert len(read_voc(root, f"{splits}+2007_test")) == 4
    assert {path for path, _ in server.requests} == {"/down/test.tar", "/voc2007/test.tar"}


@pytest.mark.parametrize(
    "lost", ["JPEGImages/000002.jpg", "Annotations/000001.xml", "ImageSets/Main/trainval.txt"]
)
def test_half_unpacked_voc_is_completed(
    lost: str, archives: Dict[str, bytes], cafile: str, tmp_path: Path
) -> None:
    root = tmp_path / "VOCdevkit"
    download_voc(root, "2007_trainval", cafile=cafile)
    (root / "VOC2007" / lost).unlink()
    (root / "VOC2007" / "mine.txt").touch()
    assert download_voc(root, "2007_trainval", cafile=cafile) == ["old.tar"]
    assert len(read_voc(root, "2007_trainval")) == 2
    assert (root / "VOC2007" / "mine.txt").exists()


def test_archive_that_the_user_has_is_used_and_stays(
    archives: Dict[str, bytes], server: Server, cafile: str, tmp_path: Path
) -> None:
    root = tmp_path / "VOCdevkit"
    root.mkdir()
    (root / "new.tar").write_bytes(archives["/voc2012/new.tar"])
    assert download_voc(root, "2012_trainval", cafile=cafile) == ["new.tar"]
    assert server.requests == []
    assert sorted(path.name for path in root.iterdir()) == ["VOC2012", "new.tar"]


def test_too_little_space(
    archives: Dict[str, bytes], cafile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download_module.shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match="needs"):
        download_voc(tmp_path / "VOCdevkit", "2012_trainval", cafile=cafile)


def test_lists_come_last(
    archives: Dict[str, bytes], cafile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever is interrupted while files are moved must not find a list of images that are not there.
    moved: List[str] = []
    replace = download_module.os.replace
    monkeypatch.setattr(download_module.os, "replace", lambda a, b: (moved.append(str(b)), replace(a, b)))
    download_voc(tmp_path / "VOCdevkit", "2007_trainval", cafile=cafile)
    kinds = ["ImageSets" in path for path in moved if "VOC2007" in path]
    assert kinds == sorted(kinds)
    assert sum(kinds) == 2


@pytest.mark.parametrize("splits", ["2012_test", "2007", "2005_train", "2007_trainval+2009_val"])
def test_what_no_archive_holds(splits: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="2007_test, 2012_train"):
        download_voc(tmp_path / "VOCdevkit", splits)
    assert not (tmp_path / "VOCdevkit").exists()


def test_download_cifar10(
    server: Server, cafile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [bytes([3]) + CONTENT[i * 3072 : (i + 1) * 3072] for i in range(12)]
    files = [records[2 * i] + records[2 * i + 1] for i in range(6)]
    members = [(f"cifar-10-batches-bin/{name}", data) for name, data in zip(CIFAR10_FILES, files)]
    content = tar_of(tmp_path / "cifar.tar.gz", members, "w:gz").read_bytes()
    server.files = {"/cifar.tar.gz": content}
    monkeypatch.setattr(download_module, "CIFAR10_SIZE", len(content))
    monkeypatch.setattr(download_module, "CIFAR10_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(download_module, "CIFAR10_URLS", (f"{server.url}/cifar.tar.gz",))
    root = tmp_path / "data"
    with pytest.raises(DataError, match="--download"):
        open_classification_dataset("cifar10", str(root), "train")
    server.tricks = [("cut", len(content) // 2)]
    assert download_cifar10(root, cafile=cafile)
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-bin"]
    train, val = (open_classification_dataset("cifar10", str(root), role) for role in ("train", "val"))
    assert (len(train), len(val), train[0].label) == (10, 2, 3)
    server.requests.clear()
    assert not download_cifar10(root, cafile=cafile)  # neither with the folder, nor with what lies in it
    assert not download_cifar10(root / "cifar-10-batches-bin", cafile=cafile)
    assert server.requests == []
    (root / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    assert download_cifar10(root, cafile=cafile)
    with pytest.raises(OptionError, match="only cifar10 is downloaded"):
        open_classification_dataset("folder", str(root), "train", download=True)


def test_official_table_is_whole() -> None:
    assert len(bytes.fromhex(download_module.CIFAR10_SHA256)) == 32
    assert all(url.startswith("https://") for url in download_module.CIFAR10_URLS)
    for archive in download_module.VOC_ARCHIVES:
        assert len(bytes.fromhex(archive.sha256)) == 32
        assert archive.size % 512 == 0
    assert archive_of("2007", "test") == "VOCtest_06-Nov-2007.tar"
    assert archive_of("2012", "test") is None
    assert all(url.startswith("https://") for url in download_module.VOC_URLS)
