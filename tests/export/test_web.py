"""Web exports without a browser: their files, the download of ONNX Runtime Web, refusals."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tarfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
import pytest
from helpers.detectors import SIZE, make_classifier, make_image, network_outputs

from mnssd.data.image import to_network_input
from mnssd.errors import DownloadError, ExportError, OptionError
from mnssd.export.detection_parity import BOX_TOLERANCE
from mnssd.export.formats import export_formats
from mnssd.export.options import ExportOptions
from mnssd.export.sidecar import read_export
from mnssd.export.web import chromium, page, runtime
from mnssd.export.write import Exported, export_network
from mnssd.inference import DISPLAY_SCORE

pytest.importorskip("onnx")

CONTENT = {
    "ort.wasm.bundle.min.mjs": b"export const a = 1;\n" * 9,
    "ort-wasm-simd-threaded.wasm": b"\0asm" * 99,
}


@pytest.fixture(scope="module")
def archive() -> bytes:
    """The npm package of ONNX Runtime Web, with little in it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in CONTENT.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture(scope="module", autouse=True)
def home(archive: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A small archive in the cache of a user who has no Chromium and no network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHROMIUM", "")
        patch.setenv("MNSSD_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("npm_config_registry", "https://127.0.0.1:9/npm/")
        patch.setattr(runtime, "ARCHIVE_SHA256", hashlib.sha256(archive).hexdigest())
        patch.setattr(runtime, "ARCHIVE_BYTES", len(archive))
        runtime.archive_path().parent.mkdir(parents=True)
        runtime.archive_path().write_bytes(archive)
        yield


@pytest.fixture(scope="module")
def exported(tiny_detector: Tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A detector as a page in a folder, and as one file."""
    return export(tiny_detector, tmp_path_factory.mktemp("exports") / "pages", "web,web-file")


def export(network: Tuple[Any, Any], folder: Path, formats: str) -> Exported:
    return export_network(*network, folder, [make_image(0), make_image(1)], "pets", ExportOptions(formats))


class Addresses(HTMLParser):
    """What a page loads, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: List[str] = []
        self.scripts: List[str] = []
        self._is_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        self._is_script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._is_script:
            self.scripts.append(data)


def test_page_in_a_folder(exported: Exported) -> None:
    names = ["index.html", "pets-web.js", "onnxruntime-web.js", "onnxruntime-web-LICENSE.txt"]
    assert [path.name for path in exported.paths] == [*names, "pets.html", "pets.json"]
    assert sorted(os.listdir(exported.paths[0].parent)) == sorted(path.name for path in exported.paths)
    text, _, runtime_text, license_text = (path.read_text() for path in exported.paths[:4])
    assert len(text) < 60_000
    assert Addresses(text).loaded == ["data:,", "pets-web.js", "onnxruntime-web.js"]
    assert not re.search("https?:|//[a-z]+[.]", text)
    assert "Microsoft" in license_text
    values = re.findall('"([^"]+)"', runtime_text)
    assert [gzip.decompress(base64.b64decode(value)) for value in values] == list(CONTENT.values())


def test_page_in_one_file(exported: Exported) -> None:
    path = exported.paths[4]
    assert Addresses(path.read_text()).loaded == ["data:,"]
    assert "Microsoft" in path.read_text()
    assert page.read_model([path]) == page.read_model(exported.paths[:4])


def test_network_in_the_page_computes_the_same(exported: Exported, tiny_detector: Tuple[Any, Any]) -> None:
    import onnxruntime

    _, sidecar = read_export(exported.paths[0].parent)
    section = sidecar["web"]
    assert section["input"]["shape"] == [None, SIZE[1], SIZE[0], 3]
    session = onnxruntime.InferenceSession(page.read_model(exported.paths[:4]))
    pixels = np.stack([make_image(seed, *SIZE) for seed in range(2)])
    outputs = session.run(section["outputs"], {section["input"]["name"]: pixels})
    expected = network_outputs(tiny_detector[0], to_network_input(list(pixels)))
    for ours, theirs in zip(outputs, expected):
        np.testing.assert_allclose(ours, theirs, atol=BOX_TOLERANCE)


def test_without_chromium_only_the_network_is_checked(exported: Exported) -> None:
    assert list(exported.parity) == ["web_model", "web_file_model"]
    assert exported.parity["web_model"].as_dict()["detections"] > 0
    folder = exported.paths[0].parent
    _, sidecar = read_export(folder)
    with pytest.raises(ExportError, match=r"index\.html"):
        export_formats["web"].load(folder, sidecar, None)


@pytest.mark.parametrize(
    "name", ["</script><b>", "<!--<script>", "\u2028 \udce9", "{{ classes }}", '"; alert(1); "']
)
def test_class_names_are_text(name: str) -> None:
    sidecar = {
        "task": "detection", "classes": [name, "dog"], "input": {"size": [96, 64]},
        "thresholds": {"score": 0.01},
    }  # fmt: skip
    settings = page._settings(sidecar, {"input": {"name": "pixels"}, "outputs": ["ids"]}, "", "")
    script = page._Script(text=f"const PAGE = {page._json(settings)};\n")
    found = Addresses(page._render(name, sidecar, [script], ""))
    assert found.loaded == ["data:,"]
    text = found.scripts[0].strip()
    assert json.loads(text[len("const PAGE = ") : -1])["classes"] == [name, "dog"]


def test_classifier(tmp_path: Path) -> None:
    exported = export(make_classifier(val_crop=0.875), tmp_path / "page", "web")
    text = exported.paths[0].read_text()
    assert '"centralPart": 0.875' in text
    assert 'type="range"' not in text


def test_detector_page_starts_with_the_usual_threshold() -> None:
    assert page.START_SCORE == DISPLAY_SCORE


@pytest.mark.slow
def test_earlier_page_is_replaced_and_other_files_are_not(
    exported: Exported, tiny_detector: Tuple[Any, Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(exported.paths[0].parent, tmp_path / "page")
    export(tiny_detector, folder, "web")
    assert not (folder / "pets.html").exists()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match="notes.txt"):
        export(tiny_detector, folder, "web")


def test_all_formats_need_no_download() -> None:
    formats = ExportOptions("all").format
    assert "onnx" in formats
    assert not {"web", "web-file"} & set(formats)


@pytest.mark.parametrize("formats", ["web", "onnx,web-file"])
def test_raw_heads_are_refused(formats: str) -> None:
    with pytest.raises(ValueError, match="raw_heads"):
        ExportOptions(formats, raw_heads=True)


def test_without_archive_and_network_nothing_is_written(
    tiny_detector: Tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNSSD_HOME", str(tmp_path / "empty"))
    with pytest.raises(DownloadError) as caught:
        export(tiny_detector, tmp_path / "page", "symbol,web")
    for way_out in (str(runtime.archive_path()), "https://127.0.0.1:9/npm/onnxruntime-web", "MNSSD_HOME"):
        assert way_out in str(caught.value)
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize("name", ["npm_config_registry", "NPM_CONFIG_REGISTRY"])
def test_registry_of_npm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("npm_config_registry")
    assert runtime.archive_address().startswith("https://registry.npmjs.org/onnxruntime-web/-/")
    monkeypatch.setenv(name, "https://mirror.example/npm")
    assert runtime.archive_address().startswith("https://mirror.example/npm/onnxruntime-web/-/")


def test_damaged_archive_is_refused(
    tiny_detector: Tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNSSD_HOME", str(tmp_path))
    runtime.archive_path().parent.mkdir()
    runtime.archive_path().write_bytes(b"damaged")
    with pytest.raises(DownloadError, match=re.escape(str(runtime.archive_path()))):
        export(tiny_detector, tmp_path / "page", "web")
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize("text", ["", "const MODEL = 1;", 'const MODEL = "AAAA";'])
def test_page_without_network_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "pets.html").write_text(text)
    with pytest.raises(ExportError, match=r"pets\.html"):
        page.read_model([tmp_path / "pets.html"])


@pytest.mark.skipif(os.name != "posix", reason="pipes")
@pytest.mark.parametrize(
    "program", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\nprintf 'no JSON\\0' >&4\ncat <&3 >/dev/null\n", None]
)
def test_chromium_that_does_not_run(
    program: Optional[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends, it is another program, or it is not a program."""
    path = tmp_path / "chromium"
    path.write_bytes((program or "text").encode())
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CHROMIUM", str(path))
    assert chromium.find_chromium() == str(path)
    with pytest.raises(ExportError, match=r"pets\.html"):
        chromium.ChromiumPage(tmp_path / "pets.html", str(path))
