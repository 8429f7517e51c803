"""Download of Pascal VOC and CIFAR-10 from a local server, end to end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest
from helpers.https_server import Server, write_tar

from mnssd.data import downloads
from mnssd.data.classification.datasets import open_classification_dataset
from mnssd.data.downloads import CIFAR10_FILES, VOCArchive, archive_of, download_cifar10, download_voc
from mnssd.data.formats.voc import read_voc
from mnssd.errors import DataError, DownloadError, OptionError
from mnssd.fetch import archives

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
def voc_files(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dict[str, bytes]:
    """Small substitutes for the official VOC archives, on the local server."""
    lists = {
        "old.tar": ("2007", {"train": ["000001"], "trainval": ["000001", "000002"]}),
        "test.tar": ("2007", {"test": ["000003"]}),
        "new.tar": ("2012", {"trainval": ["2008_000001"]}),
    }
    table, files = [], {}
    for name, (year, splits) in lists.items():
        content = write_tar(tmp_path / name, voc_members(year, splits)).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        table.append(VOCArchive(year, tuple(splits), name, len(content), digest))
        files[f"/voc{year}/{name}"] = content
    server.files = files
    monkeypatch.setattr(downloads, "VOC_ARCHIVES", tuple(table))
    monkeypatch.setattr(
        downloads, "VOC_URLS", (server.url + "/down/{name}", server.url + "/voc{year}/{name}")
    )
    return files


def test_voc_downloads_only_incomplete_splits(
    voc_files: Dict[str, bytes], server: Server, cafile: str, tmp_path: Path
) -> None:
    root = tmp_path / "data" / "VOCdevkit"
    splits = "2007_trainval+2012_trainval"
    with pytest.raises(DataError, match="--download"):
        read_voc(root, splits)
    server.faults = [None, ("cut", 3000)]
    assert download_voc(root, splits, cafile=cafile) == ["old.tar", "new.tar"]
    assert [sample.image_id for sample in read_voc(root, splits)] == ["000001", "000002", "2008_000001"]
    assert sorted(path.name for path in root.iterdir()) == ["VOC2007", "VOC2012"]

    server.requests.clear()
    assert download_voc(root, f"{splits}+2007_test+2007_train", cafile=cafile) == ["test.tar"]
    assert len(read_voc(root, f"{splits}+2007_test")) == 4
    assert {path for path, _ in server.requests} == {"/down/test.tar", "/voc2007/test.tar"}


@pytest.mark.parametrize(
    "missing", ["JPEGImages/000002.jpg", "Annotations/000001.xml", "ImageSets/Main/trainval.txt"]
)
def test_incomplete_split_is_completed(
    missing: str, voc_files: Dict[str, bytes], cafile: str, tmp_path: Path
) -> None:
    root = tmp_path / "VOCdevkit"
    download_voc(root, "2007_trainval", cafile=cafile)
    (root / "VOC2007" / missing).unlink()
    (root / "VOC2007" / "mine.txt").touch()
    assert download_voc(root, "2007_trainval", cafile=cafile) == ["old.tar"]
    assert len(read_voc(root, "2007_trainval")) == 2
    assert (root / "VOC2007" / "mine.txt").exists()


def test_existing_archive_is_used_and_kept(
    voc_files: Dict[str, bytes], server: Server, cafile: str, tmp_path: Path
) -> None:
    root = tmp_path / "VOCdevkit"
    root.mkdir()
    (root / "new.tar").write_bytes(voc_files["/voc2012/new.tar"])
    assert download_voc(root, "2012_trainval", cafile=cafile) == ["new.tar"]
    assert server.requests == []
    assert sorted(path.name for path in root.iterdir()) == ["VOC2012", "new.tar"]


def test_leftovers_of_a_killed_process_are_removed(
    voc_files: Dict[str, bytes], cafile: str, tmp_path: Path
) -> None:
    left = tmp_path / "VOCdevkit" / ".new.tar.content" / ".content.x.unfinished" / "content"
    left.mkdir(parents=True)
    download_voc(tmp_path / "VOCdevkit", "2012_trainval", cafile=cafile)
    assert [path.name for path in (tmp_path / "VOCdevkit").iterdir()] == ["VOC2012"]


def test_too_little_space(
    voc_files: Dict[str, bytes],
    server: Server,
    cafile: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = archives.shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"VOCdevkit.*new\.tar"):
        download_voc(tmp_path / "VOCdevkit", "2012_trainval", cafile=cafile)
    assert server.requests == []


def test_image_lists_are_moved_last(
    voc_files: Dict[str, bytes], cafile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted move must not leave a list of images that do not exist."""
    moved: List[str] = []
    replace = archives.os.replace
    monkeypatch.setattr(archives.os, "replace", lambda a, b: (moved.append(str(b)), replace(a, b)))
    download_voc(tmp_path / "VOCdevkit", "2007_trainval", cafile=cafile)
    kinds = ["ImageSets" in path for path in moved if "VOC2007" in path]
    assert kinds == sorted(kinds)
    assert sum(kinds) == 2


@pytest.mark.parametrize("splits", ["2012_test", "2007", "2005_train", "2007_trainval+2009_val"])
def test_split_without_a_public_archive(splits: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as raised:
        download_voc(tmp_path / "VOCdevkit", splits)
    assert str(raised.value).startswith(splits.split("+")[-1])
    assert "2007_test, 2012_train" in str(raised.value)
    assert not (tmp_path / "VOCdevkit").exists()


def test_cifar10_is_downloaded_once(
    server: Server, cafile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).bytes(12 * 3072)
    records = [bytes([3]) + pixels[i * 3072 : (i + 1) * 3072] for i in range(12)]
    files = [records[2 * i] + records[2 * i + 1] for i in range(6)]
    members = [(f"cifar-10-batches-bin/{name}", data) for name, data in zip(CIFAR10_FILES, files)]
    content = write_tar(tmp_path / "cifar.tar.gz", members, "w:gz").read_bytes()
    server.files = {"/cifar.tar.gz": content}
    digest = hashlib.sha256(content).hexdigest()
    archive = archives.Archive("c.tar.gz", len(content), digest, (f"{server.url}/cifar.tar.gz",))
    monkeypatch.setattr(downloads, "CIFAR10_ARCHIVE", archive)
    root = tmp_path / "data"
    with pytest.raises(DataError, match="--download"):
        open_classification_dataset("cifar10", str(root), "train")
    server.faults = [("cut", len(content) // 2)]
    assert download_cifar10(root, cafile=cafile)
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-bin"]
    train, val = (open_classification_dataset("cifar10", str(root), role) for role in ("train", "val"))
    assert (len(train), len(val), train[0].label) == (10, 2, 3)
    server.requests.clear()
    assert not download_cifar10(root, cafile=cafile)
    assert not download_cifar10(root / "cifar-10-batches-bin", cafile=cafile)
    assert server.requests == []
    (root / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    assert download_cifar10(root, cafile=cafile)
    with pytest.raises(OptionError, match="cifar10"):
        open_classification_dataset("folder", str(root), "train", download=True)


def test_archive_table_is_well_formed() -> None:
    assert len(bytes.fromhex(downloads.CIFAR10_ARCHIVE.sha256)) == 32
    for archive in downloads.VOC_ARCHIVES:
        assert len(bytes.fromhex(archive.sha256)) == 32
        assert archive.size % 512 == 0
    for url in (*downloads.CIFAR10_ARCHIVE.urls, *downloads.VOC_URLS):
        assert url.startswith("https://")
    assert archive_of("2007", "test") == "VOCtest_06-Nov-2007.tar"
    assert archive_of("2012", "test") is None
