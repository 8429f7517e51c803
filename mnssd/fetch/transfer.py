"""Files from the network: over https only, checked against a known SHA-256, resumable, atomic."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import ssl
import tarfile
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Optional, Sequence, Tuple, Union

from tqdm import tqdm

from ..errors import DownloadError

if TYPE_CHECKING:
    import requests

_CHUNK = 1 << 18
_TIMEOUT = (20, 60)  # seconds to connect, and between two pieces of the content
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_ATTEMPTS = 5  # in a row without getting further
_PROGRESS = 1 << 20  # bytes that count as getting further


def fetch(
    urls: Union[str, Sequence[str]],
    destination: Union[str, Path],
    *,
    sha256: str,
    size: Optional[int] = None,
    max_bytes: int = 8 << 30,
    cafile: Optional[str] = None,
    progress: bool = True,
) -> Path:
    """Fetch one file, unless it is there already.

    What has come so far lies in ``destination.part``; an interrupted download goes on from there, now
    after a pause, or in a later call. The file gets its name only when its digest is right.

    Parameters
    ----------
    urls : str or sequence of str
        Where it can be had; they are tried in turn. https only, redirections included.
    destination : str or Path
        The file to write; its folder is made.
    sha256 : str
        Digest of the whole content, 64 hexadecimal digits.
    size : int, optional
        Length in bytes, when it is known.
    max_bytes : int
        Stop at this length when `size` is not known.
    cafile : str, optional
        Certificates to trust instead of the usual ones.
    progress : bool
        Show a bar, where there is a terminal.

    Returns
    -------
    Path
        `destination`.

    Raises
    ------
    DownloadError
        No url could be used, none gave the right content, or the disk cannot take it. Wrong content is
        removed; the piece of an interrupted download is kept.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    for url in urls:
        if not url.lower().startswith("https://"):
            raise DownloadError(f"{url}: only https is used for downloads")
    destination = Path(destination)
    part = part_of(destination)
    problems = []
    try:
        if destination.exists():
            problem = _wrong_content(destination, sha256)
            if problem:
                raise DownloadError(f"{destination} is there already, but {problem}; remove it and try again")
            return destination
        destination.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            try:
                with _session() as session:
                    _fetch_whole(session, url, part, sha256, size, max_bytes, cafile, progress)
            except DownloadError as error:
                problems.append(f"{url}: {error}")
                continue
            os.replace(part, destination)
            return destination
    except OSError as error:
        raise DownloadError(f"{destination} cannot be written: {error.strerror or error}") from error
    kept = ". What has come so far is kept; the same command goes on from there" if part.exists() else ""
    raise DownloadError(f"{destination.name} could not be fetched. {'; '.join(problems)}{kept}")


def part_of(destination: Path) -> Path:
    """Where `fetch` keeps what has come so far."""
    return destination.with_name(destination.name + ".part")


def unpack_tar(
    archive: Union[str, Path],
    folder: Union[str, Path],
    *,
    max_bytes: int = 16 << 30,
    progress: bool = True,
) -> Path:
    """Unpack a tar file, compressed or not, into a new folder, all of it or nothing.

    Only files and folders are accepted, under relative names without ``..``: no links, devices or
    pipes. Owners and permissions in the archive are not applied.

    Parameters
    ----------
    archive : str or Path
        The tar file.
    folder : str or Path
        The folder to make; it must not exist yet.
    max_bytes : int
        The most that its content may add up to.
    progress : bool
        Show a bar, where there is a terminal.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    DownloadError
        When the archive is damaged, holds something else or more, or `folder` cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise DownloadError(f"{folder} is there already; remove it to unpack {archive} again")
    unfinished = folder.with_name(folder.name + ".unpacking")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        total = 0
        with tarfile.open(archive) as tar:
            for member in tqdm(
                tar, desc=Path(archive).name, unit=" files", disable=None if progress else True
            ):
                total += member.size
                if total > max_bytes:
                    raise DownloadError(f"{archive} holds more than {max_bytes} bytes; it was not unpacked")
                _unpack_member(tar, member, unfinished, str(archive))
            _check_end(tar)
        os.rename(unfinished, folder)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DownloadError(f"{archive} cannot be unpacked into {folder}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


class _Interrupted(Exception):
    """A transfer that may well succeed when it is tried again."""


def _session() -> requests.Session:
    import requests  # here, so that reading a dataset does not load it

    session = requests.Session()
    session.adapters.pop("http://")  # a redirection to plain http must fail as well
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "mnssd"})
    return session


def _fetch_whole(
    session: requests.Session,
    url: str,
    part: Path,
    sha256: str,
    size: Optional[int],
    max_bytes: int,
    cafile: Optional[str],
    progress: bool,
) -> None:
    """Bring `part` to its full and right content, going on after interruptions."""
    failures = 0
    resumed = _length(part) > 0
    while True:
        before = _length(part)
        try:
            if size is None or before != size:
                _transfer(session, url, part, size, max_bytes, cafile, progress)
        except _Interrupted as error:
            failures = 1 if _length(part) >= before + _PROGRESS else failures + 1
            if failures == _ATTEMPTS:
                raise DownloadError(f"gave up after {failures} attempts ({error})") from error
            resumed = resumed or _length(part) > 0
            _pause(2 ** (failures - 1))
            continue
        problem = _wrong_content(part, sha256)
        if problem is None:
            return
        part.unlink()
        if not resumed:
            raise DownloadError(f"{problem}; it was removed")
        resumed = False  # an old piece may be what was wrong: once more from the start


def _transfer(
    session: requests.Session,
    url: str,
    part: Path,
    size: Optional[int],
    max_bytes: int,
    cafile: Optional[str],
    progress: bool,
) -> None:
    """One request: append to `part` what the server sends, or start it again."""
    import requests
    import urllib3

    limit = max_bytes if size is None else size
    have = _length(part)
    try:
        with session.get(
            url,
            headers={"Range": f"bytes={have}-"} if have else None,
            stream=True,
            timeout=_TIMEOUT,
            verify=cafile if cafile else True,
        ) as response:
            total, have = _accept(response, part, have)
            if total is not None and (total > limit or size not in (None, total)):
                raise DownloadError(f"the server offers {total} bytes, not the {limit} expected")
            with part.open("ab" if have else "wb") as file, tqdm(
                desc=part.stem,
                total=total,
                initial=have,
                unit="B",
                unit_scale=True,
                disable=None if progress else True,
            ) as bar:
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    have += len(chunk)
                    if have > limit:
                        break
                    file.write(chunk)
                    bar.update(len(chunk))
                file.flush()
                os.fsync(file.fileno())
    except requests.exceptions.InvalidSchema as error:
        raise DownloadError(f"sends on to somewhere that is not https ({error})") from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise DownloadError(f"its certificate is not trusted ({error})") from error
        raise _Interrupted(str(error)) from error
    except (ConnectionError, ssl.SSLError, TimeoutError) as error:
        raise _Interrupted(str(error)) from error
    if have > limit:
        part.unlink()
        raise DownloadError(f"the server sends more than the {limit} bytes expected")
    if total is not None and have < total:
        raise _Interrupted(f"the connection ended after {have} of {total} bytes")


def _accept(response: requests.Response, part: Path, have: int) -> Tuple[Optional[int], int]:
    """The length of the whole file, if the server says, and where in it the answer's content starts."""
    status = response.status_code
    length = response.headers.get("Content-Length", "")
    if status == 200:  # all of it, also from a server that cannot resume
        return (int(length) if length.isdigit() else None), 0
    if status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if match and int(match.group(1)) == have:
            return (None if match.group(2) == "*" else int(match.group(2))), have
    if status in (206, 416):  # what is here does not fit what is there
        part.unlink()
        raise _Interrupted("the server could not go on where the download stopped")
    reason = f"HTTP {status} {response.reason}"
    if status in _TRANSIENT_STATUS:
        raise _Interrupted(reason)
    raise DownloadError(reason)


def _pause(seconds: float) -> None:
    time.sleep(seconds)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _wrong_content(path: Path, sha256: str) -> Optional[str]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    if digest.hexdigest() == sha256.lower():
        return None
    return f"its content is not what was published (SHA-256 {digest.hexdigest()}, expected {sha256})"


def _check_end(tar: tarfile.TarFile) -> None:
    """Look for the block of zeros: tarfile takes a cut between two members, or damage there, for the end."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it is damaged or cut short at byte {tar.offset}")


def _unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: str) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or re.search(r"[\\:\0]", member.name):
        raise DownloadError(
            f"{archive} holds {member.name!r}, which leads out of its folder; it was not unpacked"
        )
    target = folder.joinpath(*name.parts)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise DownloadError(f"{archive} holds {member.name!r}, which is no plain file; it was not unpacked")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)
