"""The standalone programs of the documentation find the detections of the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, List, Sequence, Tuple

import cv2
import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import CLASSES, SIZE, make_image, write_image, write_images, write_run

from mnssd.export.options import ExportOptions
from mnssd.export.write import export_network
from mnssd.inference.detector import Detector


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> List[str]:
    """Images so small that `Detector` reads them at full size, as the programs do."""
    return write_images(tmp_path_factory.mktemp("images"), 2)


@pytest.fixture(scope="module")
def exports(
    tiny_detector: Tuple[Any, Any],
    tiny_export: Path,
    images: List[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run and exports of its network, one folder each; ``pets`` has all formats."""
    folder = tmp_path_factory.mktemp("exports")
    (folder / "pets").symlink_to(tiny_export)
    for name, options in (
        ("pixels", ExportOptions(("onnx",), pixels=True)),
        ("raw", ExportOptions(("onnx",), raw_heads=True)),
    ):
        export_network(*tiny_detector, folder / name, images, name, options)
    write_run(folder / "run", *tiny_detector)
    return folder


def code_of(page: str, language: str = "python") -> List[str]:
    """Code blocks of a page."""
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    return [part.split("```")[0] for part in text.split(f"```{language}\n")[1:]]


def check_output(command: Sequence[str], detector: Detector, photo: str, names: Sequence[str]) -> None:
    """Compare the detections that a program prints with those of `detector`."""
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in printed.splitlines()]
    detections = detector(photo, score=0.5)
    expected = [(str(names[CLASSES.index(name)]), score, box) for name, score, box in detections]
    assert len(lines) == len(expected) > 3
    edges = [side - 1 for side in detections.size] * 2
    for name, *numbers in lines:
        score, *box = map(float, numbers)
        clipped = np.clip(box, 0, edges)  # the programs do not clip
        matches = [
            detection
            for detection in expected
            if detection[0] == name
            and abs(detection[1] - score) < 2e-3
            and np.abs(detection[2] - clipped).max() < 0.5
        ]
        assert matches, (name, score, box)
        expected.remove(matches[0])


@pytest.mark.parametrize(
    ("page", "number", "export", "engine"),
    [
        ("onnx.md", 0, "pets", ""), ("onnx.md", 0, "pixels", ""), ("onnx.md", 1, "raw", ""),
        ("mxnet.md", 0, "pets", ""), pytest.param("mxnet.md", 1, "pets", "", marks=pytest.mark.slow),
        pytest.param("mxnet.md", 2, "pets", "mxnet-int8", marks=pytest.mark.slow),
        ("openvino.md", 0, "pets", "openvino"), ("tflite.md", 0, "pets", "tflite"),
        ("ncnn.md", 0, "pets", "ncnn"),
    ],
)  # fmt: skip
def test_python_program(
    page: str, number: int, export: str, engine: str, exports: Path, images: List[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if engine == "openvino":
        if find_spec("openvino") is None:
            pytest.skip("OpenVINO is not installed")
        monkeypatch.setenv("CI", "true")  # or OpenVINO sends that it was imported
    if engine == "tflite" and (find_spec("ai_edge_litert") is None or find_spec("tflite") is None):
        pytest.skip("LiteRT is not installed")
    if engine == "ncnn" and find_spec("ncnn") is None:
        pytest.skip("ncnn is not installed")
    program = code_of(page)[number]
    assert "mnssd" not in program
    description = str(exports / export / f"{export}.json")
    command = [sys.executable, "-c", program, description, images[0]]
    detector = Detector.load(exports / export, engine=engine) if engine else Detector.load(exports / "run")
    check_output(command, detector, images[0], CLASSES)


def test_all_python_programs_are_run() -> None:
    pages = ("onnx.md", "mxnet.md", "openvino.md", "tflite.md", "ncnn.md")
    assert [len(code_of(page)) for page in pages] == [2, 3, 1, 1, 1]


NCNN_DIR = os.environ.get("NCNN_DIR", "")
"""Folder in which ncnn is installed, with its headers."""


@pytest.mark.skipif(not NCNN_DIR or shutil.which("g++") is None, reason="needs g++ and NCNN_DIR")
def test_cpp_program_of_ncnn(exports: Path, tmp_path: Path) -> None:
    if not (exports / "pets" / "pets.ncnn.bin").exists():
        pytest.skip("ncnn is not installed")
    (program,) = code_of("ncnn.md", "cpp")
    (tmp_path / "detect.cpp").write_text(program)
    build = [
        "g++", "-O1", "-std=c++11", "-Wall", "-Werror", "-fopenmp", "-I", f"{NCNN_DIR}/include",
        str(tmp_path / "detect.cpp"), "-L", f"{NCNN_DIR}/lib", "-lncnn", "-o", str(tmp_path / "detect"),
    ]  # fmt: skip
    subprocess.run(build, check=True)
    start, size = str(exports / "pets" / "pets"), [str(side) for side in SIZE]
    exact = write_image(tmp_path / "exact.ppm", make_image(4, *SIZE))
    command = [str(tmp_path / "detect"), start, *size]
    names = list(map(str, range(len(CLASSES))))
    check_output([*command, exact], Detector.load(exports / "run"), exact, names)
    (tmp_path / "text.ppm").write_bytes(b"no image")
    broken = [[str(tmp_path / "absent"), *size, exact], [start, *size, str(tmp_path / "text.ppm")]]
    for arguments, named in zip(broken, ("absent", "text.ppm")):
        done: Any = subprocess.run([command[0], *arguments], capture_output=True, text=True)
        assert done.returncode == 1
        assert named in done.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_cpp_program(exports: Path, images: List[str], tmp_path: Path) -> None:
    (program,) = code_of("mxnet.md", "cpp")
    (tmp_path / "detect.cpp").write_text(program)
    home = Path(mx.__path__[0])
    build = [
        "g++", "-O1", "-std=c++11", "-Wall", "-Werror", "-I", str(home / "include"),
        str(tmp_path / "detect.cpp"), "-L", str(home), f"-Wl,-rpath,{home}", "-l:libmxnet.so",
        "-o", str(tmp_path / "detect"),
    ]  # fmt: skip
    subprocess.run(build, check=True)
    start, size = str(exports / "pets" / "pets"), [str(side) for side in SIZE]
    # At the input size, because OpenCV rounds differently when it interpolates; then at another size.
    exact = write_image(tmp_path / "exact.ppm", make_image(4, *SIZE))
    command = [str(tmp_path / "detect"), start, *size]
    check_output(
        [*command, exact], Detector.load(exports / "run"), exact, list(map(str, range(len(CLASSES))))
    )
    wide = cv2.resize(make_image(4, *SIZE), (2 * SIZE[0], SIZE[1]), interpolation=cv2.INTER_NEAREST)
    boxes = []
    for photo in (exact, write_image(tmp_path / "wide.ppm", wide)):
        printed = subprocess.run([*command, photo], check=True, capture_output=True, text=True).stdout
        boxes.append([float(value) for value in printed.splitlines()[0].split()[2:]])
    np.testing.assert_allclose(boxes[1], np.multiply(boxes[0], [2, 1, 2, 1]), rtol=0, atol=3)
    for broken in ([start, *size, images[0]], [str(tmp_path / "absent"), *size, exact]):
        done: Any = subprocess.run([command[0], *broken], capture_output=True, text=True)
        assert done.returncode == 1
        assert str(broken[0] if "absent" in broken[0] else broken[-1]) in done.stderr
