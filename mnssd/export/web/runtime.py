"""ONNX Runtime Web: a pinned version from the npm registry, kept in the cache."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ...errors import DownloadError
from ...fetch.download import Checksum, download_file
from ...weights.published import HOME, cache_folder

VERSION = "1.30.0"
ARCHIVE_BYTES = 33_106_585
ARCHIVE_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"

LICENSE_FILE = "onnxruntime-web-LICENSE.txt"

REGISTRY = "npm_config_registry"
"""Environment variable of npm, in small or capital letters: another registry than npm's own."""

_SCRIPT = "package/dist/ort.wasm.bundle.min.mjs"
_WASM = "package/dist/ort-wasm-simd-threaded.wasm"
"""The build for processors. It also runs with one thread, as pages without special headers must."""


class RuntimeFiles(NamedTuple):
    """What a page needs of ONNX Runtime Web: its module in JavaScript, and the program in WebAssembly."""

    script: bytes
    wasm: bytes


def archive_path() -> Path:
    """Where the cache has the archive of the npm package, or will have it."""
    return cache_folder("web") / f"onnxruntime-web-{VERSION}.tgz"


def archive_address() -> str:
    """Where the archive is downloaded from."""
    registry = os.environ.get(REGISTRY) or os.environ.get(REGISTRY.upper()) or "https://registry.npmjs.org"
    return f"{registry.rstrip('/')}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"


def fetch_archive() -> Path:
    """The archive in the cache, downloaded if it is missing, after a line on stderr.

    Raises
    ------
    DownloadError
        If it cannot be downloaded, or the one in the cache is damaged.
    """
    path, address = archive_path(), archive_address()
    is_missing = not path.exists()
    if is_missing:
        print(
            f"downloading ONNX Runtime Web {VERSION} ({ARCHIVE_BYTES / 1e6:.0f} MB, MIT license) from"
            f" {urlsplit(address).hostname} to {path}",
            file=sys.stderr,
        )
    checksum = Checksum("sha256", ARCHIVE_SHA256)
    try:
        download_file((address,), path, checksum=checksum, size=ARCHIVE_BYTES)
    except DownloadError as error:
        if not is_missing:
            raise
        raise DownloadError(
            f"ONNX Runtime Web: {error}. Without a network:\n"
            f"  - download {address} elsewhere (npm pack onnxruntime-web@{VERSION}) and copy it to {path},\n"
            f"  - or set {HOME} to a folder that has it,\n"
            "  - or export without the formats web and web-file"
        ) from error
    return path


def read_runtime() -> RuntimeFiles:
    """The files of the archive that a page needs; raises DownloadError as `fetch_archive`."""
    with tarfile.open(fetch_archive()) as archive:
        return RuntimeFiles(_member(archive, _SCRIPT), _member(archive, _WASM))


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None  # the archive has the right digest
    return file.read()


def read_license() -> str:
    """Text of the license of ONNX Runtime Web, whose archive has none."""
    return (Path(__file__).parent / LICENSE_FILE).read_text(encoding="utf-8")
