"""docs/from-gluoncv.md: every row of its tables is run, GluonCV's side and the side here."""

from __future__ import annotations

import functools
import importlib
import re
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import gluoncv
import mxnet as mx
import numpy as np
import PIL.ImageFile
import pytest
from helpers.detectors import make_image, write_image
from helpers.devkit import make_devkit
from matplotlib import pyplot
from mxnet import autograd, gluon

import mnssd
from mnssd import zoo

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "from-gluoncv.md").read_text(encoding="utf-8")
NAME = "ssd_300_mobilenet0.25_voc"
CHECK = re.compile(r"`([^`]+)`(?: (is|raises) `([^`]+)`)?")
SHORT = {"epochs": 1, "batch_size": 2, "workers": 1, "val_interval": 1, "hold_out": 0.4}


def table(heading: str) -> List[List[str]]:
    """Cells of the rows of the table whose first heading this is."""
    lines = PAGE[PAGE.index(f"| {heading} |") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
REPLACED, FAULTS = table("In GluonCV you wrote"), table("Fault")


def execute(cell: str, names: Dict[str, Any]) -> None:
    """Run the code of a cell in order, and compare what it says of the results."""
    for code, verb, value in CHECK.findall(cell):
        if verb == "raises":
            with pytest.raises(Exception, match="") as raised:  # noqa: PT011  (the type is compared)
                exec(code, names)
            assert raised.type.__name__ == value, code
        elif verb == "is":
            assert repr(eval(code, names)) == value, code
        else:
            exec(code, names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A devkit with faults of annotations, an image, a truncated image, and weights of GluonCV."""
    folder = tmp_path_factory.mktemp("from")
    root = make_devkit(folder) / "VOC2012"
    edits = {"dragon": ("large", ("<name>cat<", "<name>Dragon<")), "zero": ("one", ("<xmin>21<", "<xmin>0<"))}
    for name, (source, (old, new)) in edits.items():
        text = (root / "Annotations" / f"{source}.xml").read_text()
        assert old in text
        (root / "Annotations" / f"{name}.xml").write_text(text.replace(old, new))
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(
            (root / "JPEGImages" / f"{source}.jpg").read_bytes()
        )
    for name in (*edits, "empty"):
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(f"{name}\n")
    path = Path(write_image(folder / "photo.jpg", make_image(0)))
    (folder / "cut.jpg").write_bytes(path.read_bytes()[:2000])
    net = gluoncv.model_zoo.get_model(NAME, pretrained_base=False)
    net.initialize()
    net(mx.nd.zeros((1, 3, 96, 96)))
    for key, parameter in net.collect_params().items():
        if key.endswith("moving_var"):
            parameter.set_data(mx.nd.ones(parameter.shape))
    net.save_parameters(str(folder / "theirs.params"))
    return folder


@pytest.fixture(scope="module")
def nets() -> Tuple[Any, Any]:
    """The network of GluonCV and the one here, with random weights."""
    theirs, ours = gluoncv.model_zoo.get_model(NAME, pretrained_base=False), zoo.get_model(NAME)
    theirs.initialize()
    theirs(mx.nd.zeros((1, 3, 96, 96)))
    zoo.initialize(ours)
    return theirs, ours


@pytest.fixture
def names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dict[str, Any]]:
    """What the code of the page imports, and the variables that it starts from."""
    from gluoncv.data.transforms.presets.ssd import SSDDefaultValTransform

    from mnssd.nn.anchors import make_anchors

    monkeypatch.chdir(folder)
    monkeypatch.setattr(PIL.ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    importlib.import_module("gluoncv.data.mhp")
    anchors = mx.nd.array(make_anchors([(2, 2)] * 6, (96, 96))[None])
    gt_boxes, gt_ids = mx.nd.array([[[10, 10, 60, 60]]]), mx.nd.array([[[1]]])
    no_boxes, no_ids = -mx.nd.ones((1, 1, 4)), -mx.nd.ones((1, 1, 1))
    x, transform = mx.nd.zeros((1, 3, 300, 300)), SSDDefaultValTransform(96, 96)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names: Dict[str, Any] = {
            "anchors": anchors, "gt_boxes": gt_boxes, "gt_ids": gt_ids, "no_boxes": no_boxes,
            "no_ids": no_ids, "x": x, "transform": transform,
        }  # fmt: skip
        exec(PROGRAMS[-1], names)
        yield names
    pyplot.close("all")


def test_every_row_of_the_replacements(names: Dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, each side with the results of its own rows above; trainings are short."""
    train = functools.partial(mnssd.train_detector, **SHORT, train_splits="2012_val", weights="none")
    monkeypatch.setattr(mnssd, "train_detector", train)
    theirs, ours = dict(names), dict(names)
    for left, right in REPLACED:
        execute(left, theirs)
        execute(right, ours)
    assert ours["net"].classes == ("cat", "emu")
    assert len(ours["loader"]) == len(theirs["loader"]) == 1
    for a, b in zip(theirs["targets"], ours["targets"]):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), atol=1e-3)


@pytest.mark.parametrize("row", FAULTS, ids=[row[0][:40] for row in FAULTS])
def test_every_fault_is_one_and_is_mended(
    row: List[str], names: Dict[str, Any], nets: Tuple[Any, Any]
) -> None:
    _, left, right = row
    theirs, ours = dict(names), dict(names)
    theirs["net"], ours["net"] = nets
    for net in nets:
        net.hybridize(False)
    execute(left, theirs)
    execute(right, ours)


def test_programs_of_the_page(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training is a short one."""
    monkeypatch.chdir(folder)
    train = functools.partial(
        mnssd.train_detector, **SHORT, train_splits="2012_val", output=str(tmp_path / "run")
    )
    monkeypatch.setattr(mnssd, "train_detector", train)
    names: Dict[str, Any] = {}
    for block in PROGRAMS[:-1]:
        exec(block, names)
    assert (names["run"].path / "best.params").exists()
    with autograd.train_mode():
        assert len(names["net"](mx.nd.zeros((1, 3, 96, 96)))) == 3
    assert isinstance(names["net"], gluon.HybridBlock)
