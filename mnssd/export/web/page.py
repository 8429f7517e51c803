"""The files of a web page that runs a network: writing them, and reading the network back."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

import jinja2
from markupsafe import Markup

from ... import __version__
from ...errors import ExportError
from .runtime import VERSION, RuntimeFiles, read_license

START_SCORE = 0.5
"""Score threshold when a page opens, as of ``mnssd detect``."""

_SCRIPTS = ("images.js", "resize.js", "network.js", "page.js")
_POLICY = (
    "default-src 'none'; script-src 'self' file: blob: 'unsafe-inline' 'wasm-unsafe-eval';"
    " style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
"""Content security policy: a page loads its own scripts and nothing else, and sends nothing."""

_MODEL = re.compile(r'const MODEL = "([A-Za-z0-9+/=]+)";')


class _Script(NamedTuple):
    """A script of a page: its file, or its text if it is part of the page."""

    file: str = ""
    text: str = ""


def write_page(
    paths: Sequence[Path],
    name: str,
    sidecar: Mapping[str, Any],
    section: Mapping[str, Any],
    model: bytes,
    runtime: RuntimeFiles,
) -> None:
    """Write a page for an ONNX model that takes pixels.

    Parameters
    ----------
    paths : sequence of Path
        The page, the model, the runtime and its license, in one folder; or only the page, which then contains
        the others.
    name : str
        Title of the page.
    sidecar : mapping
        What the sidecar says of all formats, see `export.sidecar`.
    section : mapping
        The sidecar's section of the page, with the ``input`` and ``outputs`` of the model.
    model : bytes
        The ONNX model.
    runtime : RuntimeFiles
    """
    page, *others = paths
    texts = [
        f'const MODEL = "{_pack(model)}";\n',
        f'const RUNTIME = {{ script: "{_pack(runtime.script)}", wasm: "{_pack(runtime.wasm)}" }};\n',
    ]
    for path, text in zip(others, [*texts, read_license()]):
        path.write_text(text, encoding="utf-8")
    files = [path.name for path in others[:2]] or ["", ""]
    settings = f"const PAGE = {_json(_settings(sidecar, section, *files))};\n"
    own = "".join(_asset(file).replace('"use strict";\n', "", 1) for file in _SCRIPTS)
    scripts = [
        _Script(text=settings),
        *(_Script(file) if file else _Script(text=text) for file, text in zip(files, texts)),
        _Script(text=f'"use strict";\n{own}'),
    ]
    page.write_text(_render(name, sidecar, scripts, "" if others else read_license()), encoding="utf-8")


def read_model(paths: Sequence[Path]) -> bytes:
    """The ONNX model in the files of a page; raises ExportError, which names the file, if there is none."""
    path = paths[min(1, len(paths) - 1)]
    try:
        found = _MODEL.search(path.read_text(encoding="utf-8"))
        assert found is not None
        return gzip.decompress(base64.b64decode(found.group(1), validate=True))
    except (OSError, EOFError, ValueError, AssertionError) as error:
        raise ExportError(f"{path}: no network in it; export it again") from error


def _settings(
    sidecar: Mapping[str, Any], section: Mapping[str, Any], model_file: str, runtime_file: str
) -> Dict[str, Any]:
    """What the scripts call PAGE."""
    return {
        "task": sidecar["task"],
        "classes": sidecar["classes"],
        "size": sidecar["input"]["size"],
        "centralPart": sidecar["input"].get("central_part"),
        "input": section["input"]["name"],
        "outputs": section["outputs"],
        "modelFile": model_file,
        "runtimeFile": runtime_file,
    }


def _render(name: str, sidecar: Mapping[str, Any], scripts: List[_Script], license_text: str) -> str:
    is_detector = sidecar["task"] == "detection"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(Path(__file__).parent)),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    text = environment.get_template("page.html").render(
        name=name,
        version=__version__,
        runtime_version=VERSION,
        policy=_POLICY,
        css=Markup(_asset("page.css")),
        is_detector=is_detector,
        classes=sidecar["classes"],
        caption="Detections, boxes in pixels of the image" if is_detector else "Most probable classes",
        columns=["class", "score", "xmin", "ymin", "xmax", "ymax"]
        if is_detector
        else ["class", "probability"],
        floor=sidecar["thresholds"]["score"] if is_detector else 0,
        score=START_SCORE,
        license=license_text,
        scripts=[script._replace(text=Markup(script.text)) for script in scripts],
    )
    # Class names may hold surrogates, which UTF-8 cannot encode.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _asset(file: str) -> str:
    return (Path(__file__).parent / file).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that may stand in a script of a page."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _pack(content: bytes) -> str:
    """Base64 of a gzip stream, which is the same every time; see ``unpack`` in network.js."""
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode("ascii")
