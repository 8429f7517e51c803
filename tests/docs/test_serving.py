"""The server of docs/serving.md answers what the detector finds, in several threads; needs FastAPI."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, List

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from mnssd.inference.detector import Detector

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


@pytest.fixture
def client(tiny_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from fastapi.testclient import TestClient

    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "NAME").symlink_to(tiny_export)
    monkeypatch.chdir(tmp_path)
    program = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict = {"__name__": "serve"}
    exec(compile(program.replace("20_000_000", "200_000"), str(PAGE), "exec"), names)
    return TestClient(names["app"])


def test_answers_are_those_of_the_detector(client: Any, tiny_export: Path, image_files: List[str]) -> None:
    detector = Detector.load(tiny_export)
    expected = [detector(name, 0.4).to_dict() for name in image_files]
    assert all(entry["detections"] for entry in expected)
    contents = [Path(name).read_bytes() for name in image_files] * 4
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda body: client.post("/detect?score=0.4", content=body), contents))
    assert [answer.json() for answer in answers] == expected * 4


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/detect", b"", 422),
        ("/detect", b"no image", 422),
        ("/detect", bytes(200_001), 413),
        ("/detect?score=2", b"", 422),
        ("/detect?score=high", b"", 422),
        ("/nowhere", b"", 404),
    ],
)
def test_other_requests_are_refused(client: Any, path: str, content: bytes, status: int) -> None:
    answer = client.post(path, content=content)
    assert answer.status_code == status
    assert answer.json()["detail"]
