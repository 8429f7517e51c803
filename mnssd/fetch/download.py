"""Download of one file: https only, checked by SHA-256, resumable, atomic."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence, Tuple

from tqdm import tqdm

from ..errors import DownloadError
from ..files import replace_file

if TYPE_CHECKING:
    import requests

_CHUNK = 1 << 18
_TIMEOUT = (20, 60)  # seconds to connect, and between two chunks
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_ATTEMPTS = 5  # in a row without progress
_PROGRESS = 1 << 20  # bytes that count as progress


def download_file(
    urls: Sequence[str],
    destination: Path,
    *,
    sha256: str,
    size: int,
    cafile: Optional[str] = None,
    progress: bool = True,
) -> None:
    """Download a file unless it exists.

    Received bytes are kept in ``destination.part``, from which an interrupted download continues, after a
    pause or in a later call. The file is renamed to `destination` once its digest is verified.

    Parameters
    ----------
    urls : sequence of str
        Tried in turn; https only, redirects included.
    destination : Path
        Missing folders are created.
    sha256 : str
        Digest of the file, 64 hexadecimal digits.
    size : int
        Bytes.
    cafile : str, optional
        CA certificates to trust instead of the default ones.
    progress : bool
        Show a progress bar if stderr is a terminal.

    Raises
    ------
    DownloadError
        If no URL works or has the right content, or if the file cannot be written. Wrong content is deleted;
        the part of an interrupted download is kept.
    """
    for url in urls:
        if not url.lower().startswith("https://"):
            raise DownloadError(f"{url}: not an https URL; downloads require https")
    request = _Request(part_path(destination), sha256, size, cafile, progress)
    try:
        if destination.exists():
            problem = _digest_problem(destination, sha256)
            if problem:
                raise DownloadError(f"{destination}: exists, but {problem}; delete it and try again")
            return
        destination.parent.mkdir(parents=True, exist_ok=True)
        _download_from_any(urls, request)
        replace_file(request.part, destination)
    except OSError as error:
        raise DownloadError(f"{destination}: cannot be written ({error.strerror or error})") from error


def part_path(destination: Path) -> Path:
    """The file in which `download_file` keeps what it has received so far."""
    return destination.with_name(destination.name + ".part")


class _Request(NamedTuple):
    """The arguments of `download_file` that do not depend on the URL."""

    part: Path
    sha256: str
    size: int
    cafile: Optional[str]
    progress: bool


class _Interrupted(Exception):
    """A transfer failed in a way that may not happen again."""


def _download_from_any(urls: Sequence[str], request: _Request) -> None:
    problems = []
    for url in urls:
        try:
            with _session() as session:
                _download_complete(session, url, request)
            return
        except DownloadError as error:
            problems.append(f"{url}: {error}")
    resume = "; run the same command again to resume" if request.part.exists() else ""
    raise DownloadError(f"{request.part.stem}: download failed ({'; '.join(problems)}){resume}")


def _session() -> requests.Session:
    import requests  # slow to import, and needed for downloads only

    session = requests.Session()
    session.adapters.pop("http://")  # redirects to plain http fail, too
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "mnssd"})
    return session


def _download_complete(session: requests.Session, url: str, request: _Request) -> None:
    """Complete `request.part` and verify it, resuming after interruptions."""
    part, failures = request.part, 0
    resumed = _length(part) > 0
    while True:
        before = _length(part)
        try:
            if before != request.size:
                _transfer(session, url, request)
        except _Interrupted as error:
            failures = 1 if _length(part) >= before + _PROGRESS else failures + 1
            if failures == _ATTEMPTS:
                raise DownloadError(f"gave up after {failures} attempts ({error})") from error
            resumed = resumed or _length(part) > 0
            _pause(2 ** (failures - 1))
            continue
        problem = _digest_problem(part, request.sha256)
        if problem is None:
            return
        part.unlink()
        if not resumed:
            raise DownloadError(f"{problem}; it was deleted")
        resumed = False  # the earlier part may have been wrong: start again once


def _transfer(session: requests.Session, url: str, request: _Request) -> None:
    """Append the response to one request to the part; replace the part if it cannot be resumed."""
    import requests
    import urllib3

    have = _length(request.part)
    try:
        with session.get(
            url,
            headers={"Range": f"bytes={have}-"} if have else None,
            stream=True,
            timeout=_TIMEOUT,
            verify=request.cafile or True,
        ) as response:
            total, have = _check_response(response, request.part, have)
            if total not in (None, request.size):
                raise DownloadError(f"the server has {total} bytes, expected {request.size}")
            have = _receive(response, request, have)
    except requests.exceptions.InvalidSchema as error:
        raise DownloadError(f"redirects to a URL that is not https ({error})") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise DownloadError(f"untrusted certificate ({error})") from error
        raise _Interrupted(str(error)) from error
    except (ConnectionError, ssl.SSLError, TimeoutError) as error:
        raise _Interrupted(str(error)) from error
    if have > request.size:
        request.part.unlink()
        raise DownloadError(f"the server sent more than the expected {request.size} bytes")
    if have < request.size:
        raise _Interrupted(f"connection closed after {have} of {request.size} bytes")


def _receive(response: requests.Response, request: _Request, have: int) -> int:
    """Write the content of `response`; returns the new length, too large if the server sent too much."""
    bar = tqdm(
        desc=request.part.stem,
        total=request.size,
        initial=have,
        unit="B",
        unit_scale=True,
        disable=None if request.progress else True,
    )
    with bar, request.part.open("ab" if have else "wb") as file:
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            have += len(chunk)
            if have > request.size:
                break
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    return have


def _check_response(response: requests.Response, part: Path, have: int) -> Tuple[Optional[int], int]:
    """Length of the whole file, None if unknown, and the offset at which the response's content starts."""
    status = response.status_code
    length = response.headers.get("Content-Length", "")
    if status == 200:  # the whole file, also from servers that cannot resume
        return (int(length) if length.isdigit() else None), 0
    if status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if match and int(match.group(1)) == have:
            return (None if match.group(2) == "*" else int(match.group(2))), have
    if status in (206, 416):  # the part does not match the server's file
        part.unlink()
        raise _Interrupted("the server could not resume the download")
    reason = f"HTTP {status} {response.reason}"
    if status in _TRANSIENT_STATUS:
        raise _Interrupted(reason)
    raise DownloadError(reason)


def _pause(seconds: float) -> None:
    time.sleep(seconds)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest_problem(path: Path, sha256: str) -> Optional[str]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    if digest.hexdigest() == sha256.lower():
        return None
    return f"its SHA-256 is {digest.hexdigest()}, expected {sha256}"
