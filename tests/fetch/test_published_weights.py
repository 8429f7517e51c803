"""Published weights by name, from a local https server into the cache."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import zipfile
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from helpers.https_server import Server

from mnssd.cli.main import main
from mnssd.errors import DownloadError, OptionError, WeightsError
from mnssd.fetch import network
from mnssd.fetch.network import require_network
from mnssd.nn.backbones import backbones
from mnssd.weights import published
from mnssd.weights.catalog import CATALOG, IMAGENET, PublishedWeights
from mnssd.weights.published import (
    best_published,
    cache_folder,
    cached_path,
    choose_weights,
    fetch_published,
    find_published,
    weights_path,
)

TORCH, ZOO = np.random.default_rng(0).bytes(300_001), np.random.default_rng(1).bytes(200_003)


def zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNSSD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MXNET_GLUON_REPO", raising=False)
    return tmp_path / "home" / "weights"


@pytest.fixture
def entries(
    server: Server, cafile: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Tuple[PublishedWeights, PublishedWeights]:
    """A file and an archive on the local server, in place of the catalog's."""
    server.files = {"/w.pth": TORCH, "/gluon/models/z.zip": zipped("z.params", ZOO)}
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", cafile)
    sha256, sha1 = hashlib.sha256(TORCH).hexdigest(), hashlib.sha1(ZOO).hexdigest()
    torch = replace(
        find_published("torchvision/mobilenet_v2"), file="w.pth", size=len(TORCH),
        checksum=f"sha256:{sha256}", address=f"{server.url}/w.pth",
    )  # fmt: skip
    zoo = replace(
        find_published("gluoncv/mobilenetv2_0.25"), file="z.params", size=len(ZOO),
        checksum=f"sha1:{sha1}", address=f"{server.url}/gluon/models/z.zip",
    )  # fmt: skip
    monkeypatch.setattr(published, "CATALOG", (torch, zoo))
    return torch, zoo


def path_of(weights: str, width: float) -> str:
    """Path of the weights for a MobileNetV2."""
    chosen = choose_weights(weights, "mobilenet_v2", width).weights
    assert chosen is not None
    return weights_path(chosen)


def names(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.glob("*")) + sorted(path.name for path in folder.glob(".*"))


def test_names_are_downloaded_once(
    entries: Any, server: Server, home: Path, capsys: pytest.CaptureFixture
) -> None:
    for weights, width, file, content in (
        ("imagenet", 1.0, "w.pth", TORCH),
        ("torchvision/mobilenet_v2", 1.0, "w.pth", TORCH),
        ("gluoncv/mobilenetv2_0.25", 0.25, "z.params", ZOO),
        ("imagenet", 0.25, "z.params", ZOO),
    ):
        path = path_of(weights, width)
        assert path == str(home / file)
        assert Path(path).read_bytes() == content
    assert [path for path, _ in server.requests] == ["/w.pth", "/gluon/models/z.zip"]
    assert names(home) == ["w.pth", "z.params"]
    announced = capsys.readouterr().err
    for fact in ("torchvision/mobilenet_v2", "localhost", str(home / "w.pth"), "BSD-3-Clause"):
        assert fact in announced


@pytest.mark.parametrize(("index", "path"), [(0, "/w.pth"), (1, "/gluon/models/z.zip")])
def test_download_resumes(entries: Any, server: Server, home: Path, index: int, path: str) -> None:
    server.faults = [("cut", 100_000), *[("status", 500)] * 4]
    with pytest.raises(DownloadError):
        fetch_published(entries[index])
    assert [name[-5:] for name in names(home)] == [".part"]
    assert fetch_published(entries[index]).read_bytes() == (TORCH, ZOO)[index]
    assert server.requests[-1] == (path, "bytes=100000-")
    assert names(home) == [entries[index].file]


def test_wrong_content_is_refused_and_removed(entries: Any, server: Server, home: Path) -> None:
    for index, path, content in (
        (0, "/w.pth", TORCH[:-1] + b"?"),
        (0, "/w.pth", b""),
        (1, "/gluon/models/z.zip", zipped("z.params", ZOO[:-1] + b"?")),
        (1, "/gluon/models/z.zip", zipped("other.params", ZOO)),
        (1, "/gluon/models/z.zip", ZOO),
    ):
        server.files[path] = content
        with pytest.raises(DownloadError, match=re.escape(entries[index].name)):
            fetch_published(entries[index])
        assert names(home) == []


def test_first_digits_are_checked(entries: Any, server: Server, home: Path) -> None:
    digest = hashlib.sha256(TORCH).hexdigest()
    assert fetch_published(replace(entries[0], checksum=f"sha256:{digest[:8]}")).read_bytes() == TORCH
    other = replace(entries[0], file="other.pth", checksum="sha256:" + ("0" if digest[0] != "0" else "1") * 8)
    with pytest.raises(DownloadError, match=digest):
        fetch_published(other)
    assert names(home) == ["w.pth"]


def test_larger_file_is_refused(entries: Any, server: Server, home: Path) -> None:
    server.files["/w.pth"] = TORCH * 10
    for fault in (None, "no length", "endless"):
        server.faults = [fault]
        with pytest.raises(DownloadError):
            fetch_published(entries[0])
        assert names(home) == []


def test_redirect_and_missing_file(entries: Any, server: Server, home: Path) -> None:
    server.faults = [("redirect", "/w.pth")]
    assert fetch_published(replace(entries[0], address=f"{server.url}/w.pth")).read_bytes() == TORCH
    gone = replace(entries[0], file="gone.pth", address=f"{server.url}/gone.pth")
    with pytest.raises(DownloadError, match="404"):
        fetch_published(gone)


def test_mirror_of_the_gluon_zoo(
    entries: Any, server: Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MXNET_GLUON_REPO", f"{server.url}/mirror/")
    server.files["/mirror/gluon/models/z.zip"] = server.files.pop("/gluon/models/z.zip")
    assert fetch_published(entries[1]).read_bytes() == ZOO
    assert fetch_published(entries[0]).read_bytes() == TORCH


def test_without_network_the_ways_out_are_named(
    entries: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "CATALOG", (replace(entries[0], address="https://localhost:1/w.pth"),))
    with pytest.raises(DownloadError) as raised:
        path_of("imagenet", 1.0)
    for way in ("torchvision/mobilenet_v2", "https://localhost:1/w.pth", "add FILE", "none", str(home)):
        assert way in str(raised.value)
    assert names(home) == []


@pytest.mark.parametrize("proxy", ["", "http://localhost:1", "localhost:1"])
def test_network_that_does_not_answer(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: List[Any] = []
    released = threading.Event()

    def connect(address: Any, *_: Any) -> None:
        asked.append(address)
        released.wait(30)
        raise TimeoutError

    monkeypatch.setattr(network.socket, "create_connection", connect)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if proxy:
        monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(DownloadError):
        require_network("https://weights.example/w.pth", 0.05)
    released.set()
    assert asked == [("localhost", 1) if proxy else ("weights.example", 443)]


def test_processes_at_once_download_once(entries: Any, server: Server, home: Path) -> None:
    home.mkdir(parents=True)
    (home / ".w.pth.lock").touch()  # of a killed process
    paths: List[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(fetch_published(entries[0]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [home / "w.pth"] * 4
    assert [path for path, _ in server.requests] == ["/w.pth"]
    assert names(home) == ["w.pth"]


def test_damaged_file_in_the_cache_is_named(entries: Any, home: Path, server: Server) -> None:
    home.mkdir(parents=True)
    (home / "w.pth").write_bytes(TORCH[:-1])
    with pytest.raises(DownloadError, match=re.escape(str(home / "w.pth"))):
        fetch_published(entries[0])
    assert server.requests == []


def test_add(entries: Any, home: Path, tmp_path: Path, server: Server, capsys: Any) -> None:
    torch, archive, params = tmp_path / "any name", tmp_path / "z.zip", tmp_path / "copy.params"
    torch.write_bytes(TORCH)
    archive.write_bytes(zipped("z.params", ZOO))
    params.write_bytes(ZOO)
    assert main(["weights", "add", str(torch), str(archive)]) == 0
    assert (home / "w.pth").read_bytes() == TORCH
    assert (home / "z.params").read_bytes() == ZOO
    assert main(["weights", "add", str(params)]) == 0
    assert main(["weights", "fetch", "torchvision/mobilenet_v2", "gluoncv/mobilenetv2_0.25"]) == 0
    assert server.requests == []
    assert names(home) == ["w.pth", "z.params"]
    capsys.readouterr()
    assert main(["weights"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "/mobilenet" in line]
    assert len(lines) == 2
    assert all("cached" in line for line in lines)


def test_add_mends_a_damaged_file(entries: Any, home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    (home / "w.pth").write_bytes(TORCH[:-1])
    (tmp_path / "w.pth").write_bytes(TORCH)
    assert main(["weights", "add", str(tmp_path / "w.pth")]) == 0
    assert (home / "w.pth").read_bytes() == TORCH


def test_add_refuses_unknown_files_and_goes_on(entries: Any, home: Path, tmp_path: Path, capsys: Any) -> None:
    cut, empty, good = tmp_path / "w.pth", tmp_path / "empty", tmp_path / "good"
    cut.write_bytes(TORCH[:-1])
    empty.touch()
    good.write_bytes(TORCH)
    assert main(["weights", "add", str(cut), str(empty), str(tmp_path / "missing"), str(good)]) == 1
    told = capsys.readouterr().err
    for fact in (str(cut), "torchvision/mobilenet_v2", hashlib.sha256(TORCH[:-1]).hexdigest(), str(empty)):
        assert fact in told
    assert str(tmp_path / "missing") in told
    assert names(home) == ["w.pth"]


@pytest.mark.parametrize(
    "arguments", [["fetch"], ["fetch", "torchvision/mobilnet_v2"], ["add"], ["lst"], ["list", "x"]]
)
def test_wrong_usage(arguments: List[str], entries: Any, capsys: pytest.CaptureFixture) -> None:
    assert main(["weights", *arguments]) == OptionError.exit_code
    assert capsys.readouterr().err


def test_real_file_is_recognized(shared: Path, home: Path) -> None:
    assert main(["weights", "add", str(shared / "weights" / "mobilenet_v2-b0353104.pth")]) == 0
    path = path_of("imagenet", 1.0)
    assert path == str(home / "mobilenet_v2-b0353104.pth")
    assert main(["weights", "add", str(shared / "weights" / "mobilenet_v2_1_0-imagenet.params")]) == 1


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MNSSD_HOME", raising=False)
    monkeypatch.setattr(published.sys, "platform", "linux")
    for given, expected in (
        ("/caches", "/caches"),
        ("relative", tmp_path / ".cache"),
        ("", tmp_path / ".cache"),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert cache_folder() == Path(expected) / "mnssd" / "weights"
    monkeypatch.setattr(published.sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "mnssd" / "weights"
    monkeypatch.setenv("MNSSD_HOME", "~/mine")
    assert cache_folder() == tmp_path / "mine" / "weights"


@pytest.mark.parametrize(
    ("network_name", "width", "activation", "name"),
    [
        ("mobilenet_v2", 1.0, "relu", "torchvision/mobilenet_v2"),
        ("mobilenet_v2", 1.4, "relu", "timm/mobilenetv2_140"),
        ("mobilenet_v2", 0.75, "relu", "mxnet/mobilenetv2_0.75"),
        ("mobilenet_v2", 0.5, "relu", "timm/mobilenetv2_050"),
        ("mobilenet_v2", 0.25, "relu", "gluoncv/mobilenetv2_0.25"),
        ("mobilenet_v1", 1.0, "relu", "gluoncv/mobilenet1.0"),
        ("mobilenet_v1", 1.0, "relu6", "timm/mobilenetv1_100"),
        ("mobilenet_v1", 1.25, "relu6", "timm/mobilenetv1_125"),
        ("mobilenet_v1", 0.25, "relu", "gluoncv/mobilenet0.25"),
        ("mobilenet_v1", 1.25, "relu", None),
        ("mobilenet_v2", 0.35, "relu", None),
        ("of a plugin", 1.0, "relu", None),
    ],
)
def test_meaning_of_imagenet(network_name: str, width: float, activation: str, name: str) -> None:
    best = best_published(network_name, width, activation)
    assert (best.name if best else None) == name


@pytest.mark.parametrize("pruned", [False, True])
def test_random_weights_where_nothing_is_published(pruned: bool, home: Path) -> None:
    choice = choose_weights("imagenet", "mobilenet_v2", 1.0 if pruned else 0.35, "relu", pruned=pruned)
    assert choice.weights is None
    assert "mobilenet_v2" in choice.note
    assert "\n" not in choice.note
    for weights in ("none", None):
        assert choose_weights(weights, "mobilenet_v2", 1.0) == (None, "")


def test_paths_stay_paths(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.params", "imagenet"):
        Path(name).touch()
        assert path_of(f"./{name}", 1.0) == f"./{name}"


@pytest.mark.parametrize(
    ("weights", "width", "named"),
    [
        ("torchvision/mobilenetv2", 1.0, "torchvision/mobilenet_v2"),
        ("imagnet", 1.0, "imagenet"),
        ("nowhere.params", 1.0, "nowhere.params"),
        ("timm/mobilenetv2_140", 1.0, "1.4"),
        ("gluoncv/mobilenet1.0", 1.0, "mobilenet_v1"),
    ],
)
def test_names_that_do_not_fit_are_refused(weights: str, width: float, named: str, home: Path) -> None:
    with pytest.raises(WeightsError, match=re.escape(named)) as raised:
        path_of(weights, width)
    assert weights in str(raised.value)


def test_every_entry_is_complete() -> None:
    assert len({e.name for e in CATALOG}) == len({e.file for e in CATALOG}) == len(CATALOG)
    for entry in CATALOG:
        algorithm, digits = entry.checksum.split(":")
        assert len(digits) in ({"sha256": (8, 64), "sha1": (40,)}[algorithm]), entry.name
        assert re.fullmatch("[0-9a-f]+", digits), entry.name
        if len(digits) == 8 or entry.address.endswith(".zip"):  # the name has the digits
            assert digits[:8] in entry.file, entry.name
            assert digits[:8] in entry.address, entry.name
        assert entry.address.startswith("https://"), entry.name
        assert 1e6 < entry.size < 3e7, entry.name
        assert 50 < entry.top1 < 80, entry.name
        assert entry.license in ("Apache-2.0", "BSD-3-Clause"), entry.name
        backbone = backbones[entry.network]
        assert entry.activation in backbone.options.get("activation", ("",)), entry.name


def test_normalization_is_that_of_the_conversion() -> None:
    for entry in CATALOG:
        source = {"timm": "timm", "torchvision": "torchvision"}.get(entry.name.split("/")[0], "")
        for conversion in backbones[entry.network].conversions:
            if source and conversion.source.startswith(source):
                mean, std = conversion.pixel_mean, conversion.pixel_std
                expected = IMAGENET if mean is None or std is None else ((mean,) * 3, (std,) * 3)
                assert entry.pixels == expected, entry.name


@pytest.mark.parametrize("package", ["mxnet.gluon.model_zoo", "gluoncv.model_zoo"])
def test_digests_of_the_gluon_zoos(package: str) -> None:
    library = package.split(".")[0]
    top = util.find_spec(library)
    assert top is not None
    assert top.origin is not None
    source = Path(top.origin).parent.joinpath(*package.split(".")[1:], "model_store.py").read_text()
    known = {name: digest for digest, name in re.findall(r"\('([0-9a-f]{40})', '([^']+)'\)", source)}
    repository = re.search(r"apache_repo_url = '([^']+)'", source)
    assert repository is not None
    entries = [entry for entry in CATALOG if entry.name.startswith(f"{library}/")]
    assert len(entries) == 8
    for entry in entries:
        name = entry.name.split("/")[1]
        assert entry.checksum == f"sha1:{known[name]}"
        assert entry.file == f"{name}-{known[name][:8]}.params"
        assert entry.address == f"{repository.group(1)}gluon/models/{name}-{known[name][:8]}.zip"


def test_cached_path(home: Path) -> None:
    assert cached_path(CATALOG[0]) == home / "mobilenet_v2-b0353104.pth"


def test_activation_of_other_weights_is_told(home: Path) -> None:
    assert "relu6" in choose_weights("imagenet", "mobilenet_v1", 1.25, "relu").note
    assert choose_weights("imagenet", "mobilenet_v1", 1.25, "relu").weights is None
    assert "relu6" in choose_weights("timm/mobilenetv1_100", "mobilenet_v1", 1.0, "relu").note
