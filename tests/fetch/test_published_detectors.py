"""Published detectors by name: from a local https server into the cache, imported once."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import mxnet as mx
import numpy as np
import pytest

pytest.importorskip("tflite")
pytest.importorskip("google.protobuf")

from helpers.frozen_files import write_ssd as write_frozen
from helpers.https_server import Server
from helpers.tflite_files import write_ssd

from mnssd import Detector, zoo
from mnssd.cli.main import main
from mnssd.errors import DownloadError, WeightsError
from mnssd.tasks.imported_start import with_structure
from mnssd.tasks.save_run import save_run
from mnssd.train.options import DetectionTraining
from mnssd.weights import detectors, published
from mnssd.weights.catalog import DETECTORS

CLASSES = ("cat", "dog", "cow", "hen", "pig")


def zipped(files: Dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def packed(files: Dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> List[bytes]:
    """The two archives, with narrow networks of random weights."""
    folder, image = tmp_path_factory.mktemp("archives"), np.zeros((1, 96, 96, 3), np.uint8)
    write_ssd(folder / "detect.tflite", image)
    write_frozen(folder / "net.pb", image, columns=91, width=0.25, norm="folded")
    model = {"detect.tflite": (folder / "detect.tflite").read_bytes()}
    labels = {"labelmap.txt": "\n".join(["???", *CLASSES]).encode()}
    lite = {DETECTORS[1].model: (folder / "net.pb").read_bytes()}
    return [zipped({**model, **labels}), packed(lite)]


@pytest.fixture
def home(
    archives: List[bytes], server: Server, cafile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The cache, and a table whose archives are on the local server."""
    monkeypatch.setenv("MNSSD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", cafile)
    entries = []
    for entry, content in zip(DETECTORS, archives):
        server.files[f"/{entry.file}"] = content
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        address = f"{server.url}/{entry.file}"
        entries.append(replace(entry, size=len(content), checksum=digest, address=address))
    for module in (detectors, published):
        monkeypatch.setattr(module, "DETECTORS", tuple(entries))
    return tmp_path / "home" / "weights"


def test_detector_by_name_is_downloaded_and_imported_once(
    home: Path, server: Server, image_files: List[str], capsys: Any
) -> None:
    assert main(["detect", "--detector", "coco", *image_files[:2], "--score", "0.2"]) == 0
    announced = capsys.readouterr().err
    for fact in ("detector coco", "localhost", "Apache-2.0", str(home)):
        assert fact in announced
    detector = Detector.load("coco")
    assert detector.classes == CLASSES
    assert detector.size == (96, 96)
    assert main(["detect", "coco", image_files[0]]) == 0
    assert [path for path, _ in server.requests] == [f"/{DETECTORS[0].file}"]
    assert sorted(path.name for path in home.iterdir()) == [DETECTORS[0].file, "runs"]


def test_training_starts_from_a_name(home: Path) -> None:
    options = with_structure(DetectionTraining, {"weights": "coco"})
    assert Path(options["weights"]).name == "best.params"
    assert Path(options["weights"]).is_file()
    assert (options["network"], options["size"]) == ("mobilenet_v1", (96, 96))


def test_classes_of_coco_by_their_numbers(home: Path, capsys: Any) -> None:
    assert main(["weights", "fetch", "coco-ssdlite"]) == 0
    run = capsys.readouterr().out.strip().split(": ", 1)[1]
    net = zoo.load_detector(run)
    assert len(net.classes) == 80
    assert (net.classes[0], net.classes[11], net.classes[-1]) == ("person", "stop sign", "toothbrush")
    assert Detector.load("coco-ssdlite").classes == net.classes


def test_add_and_list(home: Path, server: Server, archives: List[bytes], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "any name").write_bytes(archives[0])
    assert main(["weights", "add", str(tmp_path / "any name")]) == 0
    assert main(["weights"]) == 0
    rows = {row.split()[0]: row for row in capsys.readouterr().out.splitlines() if row[:4] == "coco"}
    assert sorted(rows) == ["coco", "coco-ssdlite"]
    assert "cached" in rows["coco"]
    assert "cached" not in rows["coco-ssdlite"]
    assert Detector.load("coco").classes == CLASSES
    assert server.requests == []


def test_without_network_the_ways_out_are_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, image_files: List[str], capsys: Any
) -> None:
    entry = replace(DETECTORS[0], address="https://localhost:1/w.zip")
    monkeypatch.setattr(detectors, "DETECTORS", (entry,))
    assert main(["detect", "--detector", "coco", image_files[0]]) == DownloadError.exit_code
    told = capsys.readouterr().err
    for fact in ("detector coco", "https://localhost:1/w.zip", "add FILE", str(home)):
        assert fact in told
    assert not (home / "runs").exists()


def test_archive_without_the_file_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in detectors.DETECTORS:
        monkeypatch.setattr(detectors, "DETECTORS", (replace(entry, model="other"),))
        with pytest.raises(WeightsError, match=entry.file):
            Detector.load(entry.name)
    assert list((home / "runs").iterdir()) == []


@pytest.mark.slow
def test_a_run_of_the_same_name_is_meant(
    home: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = zoo.get_model("ssd_96_mobilenet_v1_0.25", ["bus"], weights="none")
    net(mx.nd.zeros((1, 3, 96, 96)))
    save_run(net, "coco", {})
    assert Detector.load("coco").classes == ("bus",)
    assert server.requests == []


def test_real_file_by_name(shared: Path, home: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shared / "import"
    files = {
        "detect.tflite": "coco-ssd-mobilenet-v1-075-300-uint8.tflite",
        "labelmap.txt": "coco-labelmap.txt",
    }
    content = zipped({name: (folder / file).read_bytes() for name, file in files.items()})
    server.files["/real.zip"] = content
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    entry = replace(DETECTORS[0], size=len(content), checksum=digest, address=f"{server.url}/real.zip")
    monkeypatch.setattr(detectors, "DETECTORS", (entry,))
    detector = Detector.load("coco")
    assert detector.size == (300, 300)
    assert len(detector.classes) == 80
    assert {"person", "dog", "car"} < set(detector.classes)
