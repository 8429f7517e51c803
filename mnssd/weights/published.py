"""Published weights by name: which file a name means, and the cache that holds the files."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Optional, Tuple, Union
from urllib.parse import urlsplit

from ..errors import DownloadError, OptionError, WeightsError
from ..fetch.download import Checksum, digest_of, download_file, unpack_member
from ..files import atomic_path
from ..nn.choices import DEFAULTS, RESHAPING
from ..options import unknown_name
from .catalog import CATALOG, DETECTORS, PublishedDetector, PublishedWeights
from .content import describe_missing

HOME = "MNSSD_HOME"
"""Environment variable: folder of downloaded files."""

GLUON_REPOSITORY = "MXNET_GLUON_REPO"
"""Environment variable of MXNet and GluonCV: mirror of their model zoos."""

NONE, IMAGENET = "none", "imagenet"
"""Values of ``--weights`` that are neither names nor files: random weights, and the best published ones."""


Published = Union[PublishedWeights, PublishedDetector]


class Choice(NamedTuple):
    """Initial weights: a name in `CATALOG`, a path, or None for random ones; and a line for the user."""

    weights: Optional[str]
    note: str = ""


def cache_folder(kind: str = "weights") -> Path:
    """Folder of downloaded files of one kind: in ``MNSSD_HOME``, else in the user's cache folder."""
    home = os.environ.get(HOME)
    if home:
        return Path(home).expanduser() / kind
    if sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:  # XDG Base Directory Specification: relative paths are ignored
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        caches = given if given.is_absolute() else Path.home() / ".cache"
    return caches / "mnssd" / kind


def cached_path(entry: Published) -> Path:
    """Where the cache has a file, or will have it."""
    return cache_folder() / entry.file


def find_published(name: str) -> Published:
    """The entry of the catalog with a name; raises OptionError with similar names if there is none."""
    entries: Tuple[Published, ...] = (*CATALOG, *DETECTORS)
    for entry in entries:
        if entry.name == name:
            return entry
    raise OptionError(unknown_name("weights", name, [entry.name for entry in entries]))


def _named(name: str) -> Optional[PublishedWeights]:
    return next((entry for entry in CATALOG if entry.name == name), None)


def best_published(network: str, width: float, activation: str = "") -> Optional[PublishedWeights]:
    """What ``imagenet`` means for a network; None if nothing is published for it.

    An empty `activation` accepts those trained with any.
    """
    return next(
        (e for e in CATALOG if _fits(e, network, width) and activation in ("", e.activation or activation)),
        None,
    )


def _fits(entry: PublishedWeights, network: str, width: float) -> bool:
    return entry.network == network and abs(entry.width - width) < 1e-6


def choose_weights(
    weights: Optional[str],
    network: str,
    width: float,
    activation: str = "",
    *,
    pruned: bool = False,
    options: Optional[Mapping[str, Any]] = None,
) -> Choice:
    """What ``--weights`` means for a network, before anything is downloaded.

    Parameters
    ----------
    weights : str, optional
        ``none`` or None, ``imagenet``, a name in `CATALOG`, or the path of a file.
    network, width, activation
        The network to load them into.
    pruned : bool
        Whether it has other channel counts than published ones.
    options : mapping, optional
        Options of its backbone. Published weights have the defaults of those that change shapes.

    Raises
    ------
    WeightsError
        If the weights of a name are for another network, or one with other options.
    """
    if weights in (None, "", NONE):
        return Choice(None)
    unusual = {n: v for n, v in (options or {}).items() if n in RESHAPING and v != DEFAULTS[n]}
    if weights == IMAGENET:
        best = None if pruned or unusual else best_published(network, width, activation)
        if best is None:
            return Choice(None, _none_published(network, width, activation, pruned, unusual))
        return Choice(best.name, _description(best, activation))
    entry = _named(weights)
    if entry is None:
        return Choice(weights)
    if not _fits(entry, network, width):
        raise WeightsError(
            f"weights {weights}: for {entry.network} at width {entry.width:g}, not for {network} at "
            f"width {width:g}; change --network and --width, or use --weights {IMAGENET}"
        )
    if unusual:
        usual = _with_options(network, {name: DEFAULTS[name] for name in unusual})
        raise WeightsError(
            f"weights {weights}: for {usual}, not for {_with_options(network, unusual)}; omit the option, or "
            f"use --weights {NONE}"
        )
    return Choice(weights, _description(entry, activation))


def weights_path(weights: str) -> str:
    """Path of the file that a name or a path means; published files are downloaded into the cache.

    Raises
    ------
    WeightsError
        If `weights` is neither a name in `CATALOG` nor a file.
    DownloadError
        As `fetch_published`.
    """
    entry = _named(weights)
    if entry is not None:
        return str(fetch_published(entry))
    problem = describe_missing(weights)
    if problem is None:
        return weights
    known = [IMAGENET, NONE, *(entry.name for entry in (*CATALOG, *DETECTORS))]
    near = "" if os.path.exists(weights) else f"; {unknown_name('name', weights, known)}"
    raise WeightsError(f"{weights}: {problem}{near}")


def _description(entry: PublishedWeights, activation: str) -> str:
    text = f"weights {entry.name}, ImageNet top-1 {entry.top1:g}"
    if activation in ("", entry.activation or activation):
        return text
    return f"{text}, trained with --activation {entry.activation}; the network has {activation}"


def _with_options(network: str, options: Mapping[str, Any]) -> str:
    return " ".join([f"{network} with", *(f"--{name} {value}" for name, value in options.items())])


def _none_published(
    network: str, width: float, activation: str, pruned: bool, unusual: Mapping[str, Any]
) -> str:
    name, start = f"{network} at width {width:g}", "it starts from random weights"
    if pruned:
        return f"no published weights fit a pruned {network}; {start}"
    if unusual:
        return f"no published weights for {_with_options(network, unusual)}; {start}"
    other = best_published(network, width)
    if other is not None:
        return (
            f"no published weights for {name} with --activation {activation}; {start}. "
            f"{other.name} needs --activation {other.activation}"
        )
    widths = ", ".join(f"{w:g}" for w in sorted({e.width for e in CATALOG if e.network == network}))
    return f"no published weights for {name}; {start}" + (
        f". Widths that have some: {widths}" if widths else ""
    )


def fetch_published(entry: Published) -> Path:
    """Path of a published file in the cache, downloaded if it is missing, after a line on stderr.

    Raises
    ------
    DownloadError
        If the file cannot be downloaded, or the one in the cache is damaged.
    """
    path = cached_path(entry)
    address = _address(entry)
    is_missing = not path.exists()
    if is_missing:
        host = urlsplit(address).hostname
        print(
            f"downloading {entry.description} ({megabytes(entry)}, {entry.license}) from {host} to {path}",
            file=sys.stderr,
        )
    try:
        download_file(
            (address,), path, checksum=_checksum(entry), max_bytes=2 * entry.size + (1 << 20),
            member=entry.member,
        )  # fmt: skip
    except DownloadError as error:
        raise DownloadError(_ways_out(entry, address, error) if is_missing else str(error)) from error
    return path


def _ways_out(entry: Published, address: str, error: DownloadError) -> str:
    is_detector = isinstance(entry, PublishedDetector)
    other = "give a run or export of your own" if is_detector else "start from random weights with --weights "
    return (
        f"{entry.description}: {error}. Without a network:\n"
        f"  - download {address} elsewhere and run `mnssd weights add FILE` here,\n"
        f"  - or copy {cache_folder()} from a machine that has it (or set {HOME}),\n"
        f"  - or {other}" + ("" if is_detector else f"{NONE} (in Python weights='{NONE}')")
    )


def add_to_cache(path: Path) -> Tuple[Published, Path]:
    """Copy a file of published weights or an archive of a detector, recognized by its digest, into the cache.

    Returns
    -------
    PublishedWeights or PublishedDetector
        What it is.
    Path
        Its place in the cache.

    Raises
    ------
    WeightsError
        If it is missing, or none of the published files; the message says what is known.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        entry, member = _recognize(path)
        target = cached_path(entry)
        if target.exists() and _checksum(entry).problem(target) is None:
            return entry, target
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            if member:
                unpack_member(path, member, temporary)
            else:
                shutil.copyfile(path, temporary)
    except OSError as error:
        raise WeightsError(f"{error.filename or path}: {error.strerror or error}") from error
    return entry, target


def _recognize(path: Path) -> Tuple[Published, str]:
    """The entry whose file `path` is, or is an archive of: entry, and name in the archive."""
    entries: Tuple[Published, ...] = (*CATALOG, *DETECTORS)
    for entry in entries:
        if _checksum(entry).problem(path) is None:
            return entry, ""
    for entry in entries:
        if entry.member and _checksum(entry).problem(path, entry.member) is None:
            return entry, entry.member
    digest = digest_of(path, "sha256")
    names = {entry.file: entry for entry in entries}
    names.update({Path(urlsplit(e.address).path).name: e for e in entries if e.member})
    same = names.get(path.name)
    known = "`mnssd weights` lists those that are known"
    if same is not None:
        known = f"its name is that of {same.name}, whose digest is {same.checksum}; download it again"
    raise WeightsError(
        f"{path}: none of the published files ({path.stat().st_size} bytes, sha256:{digest}); {known}. "
        f"Other files are used by their paths: --weights {path}"
    )


def _checksum(entry: Published) -> Checksum:
    algorithm, digits = entry.checksum.split(":")
    return Checksum(algorithm, digits)


def _address(entry: Published) -> str:
    repository = os.environ.get(GLUON_REPOSITORY)
    if repository and entry.member:
        return f"{repository.rstrip('/')}/gluon/models/{entry.address.rpartition('/')[2]}"
    return entry.address


def megabytes(entry: Published) -> str:
    """Size as text."""
    return f"{entry.size / 1e6:.0f} MB"
