"""Download of one file: https only, checked by its digest, resumable, atomic, by one process at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import ssl
import sys
import time
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Iterator, NamedTuple, Optional, Sequence, Tuple

from tqdm import tqdm

from ..errors import DownloadError
from ..files import atomic_path, replace_file
from .network import require_network

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import requests

_CHUNK = 1 << 18
_TIMEOUT = (20, 60)  # seconds to connect, and between two chunks
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_ATTEMPTS = 5  # in a row without progress
_PROGRESS = 1 << 20  # bytes that count as progress


class Checksum(NamedTuple):
    """Digest of a file in hexadecimal digits; only the first ones if no more are published."""

    algorithm: str  # a name in `hashlib`
    digits: str

    def problem(self, path: Path, member: str = "") -> Optional[str]:
        """What is wrong with the file, or with a `member` of it if it is a zip archive; None if it is right.

        Raises OSError if the file cannot be read.
        """
        try:
            digest = digest_of(path, self.algorithm, member)
        except _BAD_ARCHIVE as error:
            return f"it is not a zip archive with {member} ({error})"
        if digest.startswith(self.digits.lower()):
            return None
        name = self.algorithm.upper().replace("SHA", "SHA-")
        return f"its {name} is {digest}, expected {self.digits}"


_BAD_ARCHIVE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError, NotImplementedError)
"""What `zipfile` raises for files that are damaged, encrypted, or no archives."""


def digest_of(path: Path, algorithm: str, member: str = "") -> str:
    """Hexadecimal digest of a file, or of a member of a zip archive."""
    digest = hashlib.new(algorithm)
    with _open_content(path, member) as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def unpack_member(archive: Path, member: str, target: Path) -> None:
    """Write one file of a zip archive to `target`."""
    with _open_content(archive, member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file)


@contextlib.contextmanager
def _open_content(path: Path, member: str) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        if not member:
            yield stack.enter_context(path.open("rb"))
        else:
            yield stack.enter_context(stack.enter_context(zipfile.ZipFile(path)).open(member))


def download_file(
    urls: Sequence[str],
    destination: Path,
    *,
    checksum: Checksum,
    size: Optional[int] = None,
    max_bytes: int = sys.maxsize,
    member: str = "",
    cafile: Optional[str] = None,
    progress: bool = True,
) -> None:
    """Download a file unless it exists.

    Received bytes are kept in ``destination.part``, from which an interrupted download continues, after a
    pause or in a later call. The file is renamed to `destination` once its digest is verified. If another
    process downloads the same file, this one waits for it.

    Parameters
    ----------
    urls : sequence of str
        Tried in turn; https only, redirects included.
    destination : Path
        Missing folders are created.
    checksum : Checksum
        Of the file, or of `member`.
    size : int, optional
        Bytes of the file at the URLs. By default what the server says.
    max_bytes : int
        More are refused.
    member : str
        Name in the zip archive at the URLs of the file to keep; by default the URLs have the file itself.
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
    request = _Request(part_path(destination), checksum, size, max_bytes, member, cafile, progress)
    try:
        if _is_present(destination, checksum):
            return
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _only_process(destination):
            if not _is_present(destination, checksum):
                _download_from_any(urls, request)
                _keep(request, destination)
    except OSError as error:
        raise DownloadError(f"{destination}: cannot be written ({error.strerror or error})") from error


def part_path(destination: Path) -> Path:
    """The file in which `download_file` keeps what it has received so far."""
    return destination.with_name(destination.name + ".part")


class _Request(NamedTuple):
    """The arguments of `download_file` that do not depend on the URL."""

    part: Path
    checksum: Checksum
    size: Optional[int]
    max_bytes: int
    member: str
    cafile: Optional[str]
    progress: bool

    def problem(self) -> Optional[str]:
        """What is wrong with the part."""
        return self.checksum.problem(self.part, self.member)


class _Interrupted(Exception):
    """A transfer failed in a way that may not happen again."""


def _is_present(destination: Path, checksum: Checksum) -> bool:
    if not destination.exists():
        return False
    problem = checksum.problem(destination)
    if problem:
        raise DownloadError(f"{destination}: exists, but {problem}; delete it and try again")
    return True


@contextlib.contextmanager
def _only_process(destination: Path) -> Iterator[None]:
    """Hold a lock file beside `destination`, deleted at the end; wait if another process holds it."""
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            path = destination.with_name(f".{destination.name}.lock")
            stack.callback(os.close, _lock(path))
            stack.callback(path.unlink, missing_ok=True)
        yield


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that downloads to {path.parent}", file=sys.stderr)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            return descriptor
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # its last holder has deleted it


def _keep(request: _Request, destination: Path) -> None:
    if not request.member:
        replace_file(request.part, destination)
        return
    with atomic_path(destination) as temporary:
        unpack_member(request.part, request.member, temporary)
    request.part.unlink()


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
    if resumed and request.size in (None, _length(part)) and request.problem() is None:
        return
    require_network(url)
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
        problem = request.problem()
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
            if request.size is not None and total not in (None, request.size):
                raise DownloadError(f"the server has {total} bytes, expected {request.size}")
            if total is not None and total > request.max_bytes:
                raise DownloadError(f"the server has {total} bytes, expected at most {request.max_bytes}")
            expected = request.size if total is None else total
            have = _receive(response, request, have, expected)
    except requests.exceptions.InvalidSchema as error:
        raise DownloadError(f"redirects to a URL that is not https ({error})") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise DownloadError(f"untrusted certificate ({error})") from error
        raise _Interrupted(str(error)) from error
    except (ConnectionError, ssl.SSLError, TimeoutError) as error:
        raise _Interrupted(str(error)) from error
    most = request.max_bytes if expected is None else expected
    if have > most:
        request.part.unlink()
        raise DownloadError(f"the server sent more than the expected {most} bytes")
    if expected is not None and have < expected:
        raise _Interrupted(f"connection closed after {have} of {expected} bytes")


def _receive(response: requests.Response, request: _Request, have: int, expected: Optional[int]) -> int:
    """Write the content of `response`; returns the new length, too large if the server sent too much."""
    most = request.max_bytes if expected is None else expected
    bar = tqdm(
        desc=request.part.stem,
        total=expected,
        initial=have,
        unit="B",
        unit_scale=True,
        disable=None if request.progress else True,
    )
    with bar, request.part.open("ab" if have else "wb") as file:
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            have += len(chunk)
            if have > most:
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
