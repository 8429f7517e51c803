"""Image cache: the same pixels as decoding, also with damaged, stale or missing entries."""

from __future__ import annotations

import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from helpers.detectors import make_image, write_image

from mnssd.data import image_cache
from mnssd.data.image import read_image
from mnssd.data.image_cache import ImageCache
from mnssd.data.sample import Sample
from mnssd.errors import ImageError, OptionError


@pytest.fixture
def photo(tmp_path: Path) -> str:
    return write_image(tmp_path / "photo.jpg", make_image(0, 203, 101))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> List[Any]:
    """Arguments of each call of `read_image`."""
    calls: List[Any] = []

    def counting(path: Any, reduction: int = 1) -> np.ndarray:
        calls.append((path, reduction))
        return read_image(path, reduction)

    monkeypatch.setattr(image_cache, "read_image", counting)
    return calls


def entries(cache: ImageCache) -> List[Path]:
    return sorted(path for path in cache.folder.rglob("*") if path.is_file())


def test_image_is_decoded_once_per_reduction(photo: str, tmp_path: Path, decoded: List[Any]) -> None:
    cache = ImageCache(tmp_path / "deep" / "cache")
    for _ in range(3):
        for reduction in (1, 2):
            image = cache.read(photo, reduction)
            np.testing.assert_array_equal(image, read_image(photo, reduction))
            image[:] = 0  # the reader's own copy
    assert decoded == [(photo, 1), (photo, 2)]
    np.testing.assert_array_equal(ImageCache(cache.folder).read(Path(photo)), read_image(photo))
    assert len(decoded) == 2  # another run, another kind of path
    assert len(entries(cache)) == 2


def test_changed_file_is_decoded_again(photo: str, tmp_path: Path, decoded: List[Any]) -> None:
    cache = ImageCache(tmp_path / "cache")
    cache.read(photo)
    before = os.stat(photo)
    write_image(Path(photo), make_image(5, 203, 101))
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    np.testing.assert_array_equal(cache.read(photo), read_image(photo))
    assert len(decoded) == 2


@pytest.mark.parametrize("damage", ["empty", "short", "long", "one bit", "another file", "a folder"])
def test_damaged_entry_is_replaced(damage: str, photo: str, tmp_path: Path, decoded: List[Any]) -> None:
    cache = ImageCache(tmp_path / "cache")
    cache.read(photo)
    (entry,) = entries(cache)
    content = entry.read_bytes()
    flipped = content[:500] + bytes([content[500] ^ 1]) + content[501:]
    bad = {"empty": b"", "short": content[:-1], "long": content + b"x", "one bit": flipped}
    if damage == "a folder":
        entry.unlink()
        entry.mkdir()
        with pytest.warns(RuntimeWarning, match="cache"):
            np.testing.assert_array_equal(cache.read(photo), read_image(photo))
        return
    entry.write_bytes(bad.get(damage, b"not an image at all, but long enough for a head"))
    np.testing.assert_array_equal(cache.read(photo), read_image(photo))
    assert len(decoded) == 2
    cache.read(photo)
    assert len(decoded) == 2
    assert entry.read_bytes() == content


def test_deleted_folder_is_reported_once_and_images_are_decoded(photo: str, tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache")
    shutil.rmtree(cache.folder)
    with pytest.warns(RuntimeWarning, match="cache"):
        cache.read(photo)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no second warning
        np.testing.assert_array_equal(cache.read(photo), read_image(photo))


def test_unreadable_image_raises_the_error_of_read_image(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache")
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    for path in ("bad.jpg", "missing.jpg", "nul\0.jpg"):
        with pytest.raises(ImageError) as with_cache:
            cache.read(str(tmp_path / path))
        with pytest.raises(ImageError) as without:
            read_image(str(tmp_path / path))
        assert str(with_cache.value) == str(without.value)
    assert entries(cache) == []


def test_threads_share_one_entry(photo: str, tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache")
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda _: cache.read(photo), range(64)))
    for image in images:
        np.testing.assert_array_equal(image, images[0])
    assert len(entries(cache)) == 1  # no temporary files


def test_needed_disk_space_is_checked(photo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.zeros(0)
    sample = Sample("a", photo, nothing, nothing, nothing, (4001, 3000))
    cache = ImageCache(tmp_path / "cache")
    assert "0.06 GB" in cache.check_space([sample] * 100, (300, 300))  # 501 x 375 each
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 10**7))
    with pytest.raises(OptionError, match=r"cache: .*0\.1 GB.*0\.0 GB"):
        cache.check_space([sample] * 100, (300, 300))


def test_folder_that_cannot_be_created_is_named(photo: str) -> None:
    with pytest.raises(OptionError, match=r"photo\.jpg"):
        ImageCache(Path(photo) / "cache")
