"""Exports: what plain MXNet makes of them, what is written, and that a failed one leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import mxnet as mx
import numpy as np
import pytest
from helpers.detectors import CLASSES, SIZE, make_net, network_answer, write_image, write_images, write_run

from mnssd.cli.main import run_command
from mnssd.data.image import read_image, resize_for_network, to_network_input
from mnssd.data.shapes.dataset import make_shapes
from mnssd.errors import ExportError, ImageError, OptionError
from mnssd.export import folder as folder_module
from mnssd.export.detector import export_detector
from mnssd.nn.ssd import SCORE_FLOOR

# What somebody without mnssd does: everything is taken from the JSON file.
PLAIN = """
import json, sys
sys.modules["mnssd"] = None  # importing it would now fail
import cv2, numpy as np, mxnet as mx

folder, sidecar_name, answer, *images = sys.argv[1:]
sidecar = json.load(open(f"{folder}/{sidecar_name}"))
files, spec = sidecar["files"], sidecar["input"]
net = mx.gluon.SymbolBlock.imports(
    f"{folder}/{files['symbol']['file']}", [spec["name"]], f"{folder}/{files['params']['file']}"
)
planes = []
for image in images:
    pixels = cv2.cvtColor(cv2.imread(image), cv2.COLOR_BGR2RGB)
    pixels = cv2.resize(pixels, tuple(spec["size"]), interpolation=cv2.INTER_LINEAR)
    planes.append(((pixels * spec["scale"] - spec["mean"]) / spec["std"]).transpose(2, 0, 1))
x = mx.nd.array(np.stack(planes), dtype=spec["dtype"])
assert list(x.shape[1:]) == spec["shape"][1:]
out = [o.asnumpy() for o in net(x)]
assert [f"{n}" for n in net._cached_graph[1].list_outputs()] == [o["name"] for o in sidecar["outputs"]]
assert [list(o.shape[1:]) for o in out] == [o["shape"][1:] for o in sidecar["outputs"]]
np.savez(answer, *out)
"""


@pytest.fixture(scope="module")
def trained() -> Tuple[Any, Any]:
    """A network and its structure."""
    return make_net()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> List[str]:
    """Images, more than one batch of them."""
    return write_images(tmp_path_factory.mktemp("images"), 10)


@pytest.fixture(scope="module")
def exported(trained: Tuple[Any, Any], images: List[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export called ``pets``."""
    folder = tmp_path_factory.mktemp("exports") / "deep" / "pets"
    export_detector(trained[0], folder, images, "pets", trained[1])
    return folder


def read_json(folder: Path, name: str = "pets") -> Dict[str, Any]:
    """The JSON file of an export."""
    return json.loads((folder / f"{name}.json").read_text())


def rows(ids: np.ndarray, scores: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Detections of one image as (class, score, box), in an order that rounding does not change."""
    found = np.hstack([ids, scores, boxes])[ids[:, 0] >= 0]
    return found[np.lexsort([found[:, 2].round(0), found[:, 0]])]


@pytest.mark.parametrize("head", ["ssd", "ssdlite"])
def test_plain_mxnet_gives_the_same_detections(
    head: str, exported: Path, trained: Tuple[Any, Any], images: List[str], tmp_path: Path
) -> None:
    net = trained[0]
    if head == "ssdlite":
        net, spec = make_net(1, head, "mobilenet_v1")
        exported = tmp_path / "lite"
        export_detector(net, exported, images, "pets", spec)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-c", PLAIN, str(exported), "pets.json", str(tmp_path / "answer.npz"), *images[:3]],
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    answer = list(np.load(tmp_path / "answer.npz").values())
    x = to_network_input([resize_for_network(read_image(path), SIZE) for path in images[:3]])
    expected = network_answer(net, x)
    for i in range(3):
        theirs, ours = rows(*(a[i] for a in answer)), rows(*(a[i] for a in expected))
        assert len(ours) > 20
        assert len(np.unique(ours[:, 0])) == len(CLASSES)
        np.testing.assert_array_equal(theirs[:, 0], ours[:, 0])
        np.testing.assert_allclose(theirs[:, 1], ours[:, 1], atol=1e-4)
        np.testing.assert_allclose(theirs[:, 2:], ours[:, 2:], atol=0.1)


def test_sidecar_says_everything(exported: Path, trained: Tuple[Any, Any], images: List[str]) -> None:
    net, spec = trained
    sidecar = read_json(exported)
    assert (sidecar["format"], sidecar["schema_version"], sidecar["name"]) == ("mnssd-export", 2, "pets")
    assert sorted(path.name for path in exported.iterdir()) == [
        "pets-0000.params",
        "pets-symbol.json",
        "pets.json",
    ]
    for entry in sidecar["files"].values():
        assert (exported / entry["file"]).stat().st_size == entry["bytes"]
    assert sidecar["input"]["layout"] == "NCHW"
    assert sidecar["input"]["shape"] == [None, 3, SIZE[1], SIZE[0]]
    assert sidecar["classes"] == list(CLASSES)
    assert sidecar["detector"] == spec.as_dict()
    assert sidecar["thresholds"] == {
        "score": SCORE_FLOOR,
        "nms_iou": net.nms_thresh,
        "nms_candidates": net.nms_topk,
        "max_detections": net.post_nms,
    }
    assert sidecar["versions"]["mxnet"] == mx.__version__
    for comparison in (sidecar["comparison"]["plain"], sidecar["comparison"]["fused"]):
        assert comparison["images"] == len(images)
        assert comparison["detections"] > 200
        assert 0 < comparison["heads_max_difference"] < 1e-3
        assert comparison["score_max_difference"] <= 1e-4
        assert comparison["box_max_difference"] <= 0.1


def test_graph_is_folded_and_its_heads_are_named(
    exported: Path, trained: Tuple[Any, Any], images: List[str]
) -> None:
    symbol = mx.sym.load(str(exported / "pets-symbol.json"))
    assert not [node for node in json.loads(symbol.tojson())["nodes"] if "BatchNorm" in node["op"]]
    assert symbol.list_auxiliary_states() == []
    inside = symbol.get_internals()
    heads = mx.sym.Group([inside[head["name"]] for head in read_json(exported)["heads"]])
    block = mx.gluon.SymbolBlock(heads, [mx.sym.var("data", dtype="float32")])
    block.collect_params().load(str(exported / "pets-0000.params"), ignore_extra=True)
    x = mx.nd.array(to_network_input([resize_for_network(read_image(images[0]), SIZE)]))
    for got, expected, head in zip(block(x), trained[0].heads(x), read_json(exported)["heads"]):
        assert list(got.shape[1:]) == head["shape"][1:]
        largest = float(expected.abs().max().asscalar())
        np.testing.assert_allclose(got.asnumpy(), expected.asnumpy(), rtol=0, atol=1e-4 * largest)


def test_thresholds_travel(trained: Tuple[Any, Any], images: List[str], tmp_path: Path) -> None:
    net, _ = make_net()
    net.set_nms(0.3, 100, 7)
    export_detector(net, tmp_path / "e", images[:2], "pets")
    sidecar = read_json(tmp_path / "e")
    assert sidecar["thresholds"]["nms_iou"] == 0.3
    assert sidecar["outputs"][2]["shape"] == [None, 7, 4]
    assert sidecar["detector"] is None


def weights_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file holds slightly other weights than the network."""
    save = mx.nd.save

    def damaged(path: str, arrays: Dict[str, mx.nd.NDArray]) -> None:
        key = next(key for key in arrays if key.endswith("_folded_weight"))
        save(path, {**arrays, key: arrays[key] * 1.01})

    monkeypatch.setattr(mx.nd, "save", damaged)


def detections_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is right up to the heads, but suppresses with another threshold."""
    save = mx.sym.Symbol.save

    def damaged(self: mx.sym.Symbol, path: str) -> None:
        text = self.tojson()
        assert '"overlap_thresh": "0.45"' in text
        save(mx.sym.load_json(text.replace('"overlap_thresh": "0.45"', '"overlap_thresh": "0.6"')), path)

    monkeypatch.setattr(mx.sym.Symbol, "save", damaged)


def disk_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last file cannot be written."""

    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "write_sidecar", fails)


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        (weights_lost, ExportError, "image0.jpg: the export's class scores differ"),
        (detections_lost, ExportError, "only the (network|export) finds"),
        (disk_full, OSError, "No space"),
    ],
)
def test_failure_leaves_what_was_there(
    fault: Any,
    error: type,
    text: str,
    earlier: bool,
    trained: Tuple[Any, Any],
    images: List[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "pets"
    if earlier:
        export_detector(trained[0], folder, images[:1], "old")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    fault(monkeypatch)
    with pytest.raises(error, match=text):
        export_detector(trained[0], folder, images[:3], "new")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert len(list(tmp_path.iterdir())) == earlier


def test_weights_that_are_not_finite_are_refused(images: List[str], tmp_path: Path) -> None:
    net, _ = make_net()
    net.heads.box_predictors[0].bias.set_data(mx.nd.full(net.heads.box_predictors[0].bias.shape, np.nan))
    with pytest.raises(ExportError, match="box offsets are not finite"):
        export_detector(net, tmp_path / "e", images[:1])
    assert not list(tmp_path.iterdir())


def test_replaces_earlier_exports_and_nothing_else(
    trained: Tuple[Any, Any], images: List[str], tmp_path: Path
) -> None:
    net, folder = trained[0], tmp_path / "e"
    folder.mkdir()  # an empty folder is as good as none
    export_detector(net, folder, images[:1], "first")
    export_detector(net, folder, images[:1], "second")
    assert sorted(path.name for path in folder.iterdir())[0] == "second-0000.params"
    assert len(list(folder.iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match="holds notes.txt"):
        export_detector(net, folder, images[:1], "third")
    with pytest.raises(OptionError, match="is a file"):
        export_detector(net, folder / "notes.txt", images[:1])
    assert (folder / "second.json").exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "ä", "a b"])
def test_names_that_are_none(name: str, trained: Tuple[Any, Any], images: List[str], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="name"):
        export_detector(trained[0], tmp_path / "e", images[:1], name)


def test_images_are_needed_and_must_be_readable(trained: Tuple[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no images"):
        export_detector(trained[0], tmp_path / "e", [])
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff no")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        export_detector(trained[0], tmp_path / "e", [tmp_path / "bad.jpg"])
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jpg"]


# ---- the command -------------------------------------------------------------------------------------------


def test_command_takes_the_validation_set(
    trained: Tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_shapes(tmp_path / "shapes", 1, 5, (120, 96), 0)
    options = {"dataset": "shapes", "data_root": str(tmp_path / "shapes"), "val_splits": None}
    net, spec = trained
    run = write_run(tmp_path / "my run", net, spec, **options)
    # Its classes are not among the shapes, but images are images.
    status = run_command("export", [str(run), "--output", str(tmp_path / "e"), "--compare", "3"])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "exported"
    assert f"{tmp_path / 'e' / 'my_run-symbol.json'}" in out
    assert "detections in 3 images agree" in out
    assert read_json(tmp_path / "e", "my_run")["detector"] == spec.as_dict()


def test_command_takes_images(
    trained: Tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", *trained, dataset="voc", data_root=str(tmp_path / "gone"))
    export = ["export", [str(run), "--output", str(tmp_path / "e")]]
    assert run_command(*export) == 2
    assert "gone: the run's dataset is not there" in capsys.readouterr().err
    (tmp_path / "some" / "below").mkdir(parents=True)
    assert run_command("export", [*export[1], "--images", str(tmp_path / "some")]) == 2
    assert "no image in this folder" in capsys.readouterr().err
    write_image(tmp_path / "some" / "below" / "a.PNG", np.full((50, 60, 3), 90, np.uint8))
    more = write_images(tmp_path, 2)
    (tmp_path / "some" / "readme.txt").write_text("no image")
    assert run_command("export", [*export[1], "--images", str(tmp_path / "some"), *more, "--name", "n"]) == 0
    assert "in 3 images agree" in capsys.readouterr().out
    assert (tmp_path / "e" / "n.json").exists()


def test_command_wants_an_output_and_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("export", [str(tmp_path)]) == 2
    assert "--output DIR is missing" in capsys.readouterr().err
    assert run_command("export", [str(tmp_path), "--output", str(tmp_path / "e")]) == 1
    assert "is no run folder" in capsys.readouterr().err
    assert run_command("export", ["x", "--output", "y", "--compare", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
