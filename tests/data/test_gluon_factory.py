"""``--dataset gluoncv:MODULE:NAME``: what is imported and called, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from helpers.gluon_datasets import assert_same_objects

from mnssd.cli.main import main
from mnssd.data.formats import allow_dataset, formats
from mnssd.data.open import default_splits, open_dataset
from mnssd.errors import DataError, MnssdError, OptionError

MODULE = """
import gluoncv.data as gcv
import numpy as np

CLASSES = ("circle", "cross", "ring", "square", "star", "triangle")
PIXELS = np.random.RandomState(0).randint(0, 255, (40, 50, 3)).astype(np.uint8)

class Shapes(gcv.VOCDetection):
    CLASSES = CLASSES

class Passes(Shapes):
    def __init__(self, extra=1, **options):
        super().__init__(**options)

class Three:
    classes = ["cat", "dog"]
    count = 3
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        return np.roll(PIXELS, index), np.array([[1, 2, 20, 30, index % 2]])

class Images(Three):
    def __init__(self, train=True):
        self.count = 5 if train else 2

class Holder:
    make = Three

made = Three()
number = 3

def plain():
    return Three()

def pair():
    return Three(), Images(train=False)

def by_split(split):
    return Images(train=split == "train")

def by_root(root):
    assert root == "photos", root
    return Three()

def nothing():
    pass

def fails():
    raise RuntimeError("no disk")

def needs(path):
    return Three()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a module in the working directory, whose contents are `MODULE`."""
    name = f"user_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield name
    sys.modules.pop(name, None)


def opened(name: str, root: Any = None, splits: Any = None, role: str = "train") -> Any:
    allow_dataset(name)
    return open_dataset(name, root, splits, role=role)


@pytest.mark.parametrize("name", ["plain", "made", "Three", "Holder.make"])
def test_one_dataset_is_divided(module: str, name: str) -> None:
    full = f"gluoncv:{module}:{name}"
    assert [sample.image_path for sample in opened(full, splits="all")] == [
        "Three all[0]", "Three all[1]", "Three all[2]",
    ]  # fmt: skip
    assert default_splits(full, "train") == "all:train"
    assert default_splits(full, "val") == "all:val"


@pytest.mark.parametrize(("name", "counts"), [("pair", (3, 2)), ("by_split", (5, 2)), ("Images", (5, 2))])
def test_two_datasets(module: str, name: str, counts: Any) -> None:
    full = f"gluoncv:{module}:{name}"
    assert (len(opened(full)), len(opened(full, role="val"))) == counts
    assert list(formats[full].lists(Path(formats[full].root))) == ["train", "val"]


@pytest.mark.parametrize("name", ["Shapes", "Passes"])
def test_class_of_gluoncv(module: str, name: str, shapes: str) -> None:
    folder = Path(shapes)
    dataset = opened(f"gluoncv:{module}:{name}", folder, "val")
    assert_same_objects(dataset, open_dataset("voc", folder, "val"))
    parent = opened(f"gluoncv:{module}:{name}", folder.parent, f"{folder.name}/train+{folder.name}/val")
    assert len(parent) == 32


def test_root_is_passed(module: str) -> None:
    assert len(opened(f"gluoncv:{module}:by_root", "photos", "all")) == 3


REFUSED = {
    "missing module": ("gluoncv:no_such_module:make", {}, "no_such_module"),
    "missing submodule": ("gluoncv:{}.inner:make", {}, "inner"),
    "file instead of module": ("gluoncv:{}.py:plain", {}, "py"),
    "missing name": ("gluoncv:{}:plan", {}, "plain"),
    "missing inner name": ("gluoncv:{}:Holder.maker", {}, "make"),
    "no name": ("gluoncv:{}", {}, "gluoncv:"),
    "empty name": ("gluoncv:{}:", {}, "user_"),
    "nothing": ("gluoncv", {}, "gluoncv:MODULE:NAME"),
    "no function": ("gluoncv:{}:number", {}, "number"),
    "no dataset": ("gluoncv:{}:nothing", {}, "nothing"),
    "exception": ("gluoncv:{}:fails", {}, "no disk"),
    "other parameters": ("gluoncv:{}:needs", {}, "path"),
    "root is missing": ("gluoncv:{}:by_root", {}, "root"),
    "wrong root": ("gluoncv:{}:by_root", {"root": "other"}, "other"),
    "no root": ("gluoncv:{}:plain", {"root": "photos"}, "photos"),
    "unknown list": ("gluoncv:{}:plain", {"splits": "train"}, "all"),
    "unknown list of two": ("gluoncv:{}:pair", {"splits": "test"}, "train, val"),
    "other format": ("voc:{}:plain", {}, "voc"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(module: str, kind: str) -> None:
    name, options, mentioned = REFUSED[kind]
    with pytest.raises(MnssdError) as caught:
        opened(name.format(module), **options)
    assert mentioned in str(caught.value)


@pytest.mark.parametrize(
    "content", ["raise ValueError('bad line')", "import sys; sys.exit(3)", "x = ", "1 / 0"]
)
def test_module_that_fails_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    name = f"broken_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OptionError, match=name):
        opened(f"gluoncv:{name}:make")


def test_module_that_the_user_has_not_named_is_not_imported(module: str) -> None:
    with pytest.raises(OptionError, match="plain"):
        open_dataset(f"gluoncv:{module}:plain")
    assert module not in sys.modules


def run(arguments: List[Any], capsys: pytest.CaptureFixture[str]) -> Any:
    status = main([str(argument) for argument in arguments])
    return (status, *capsys.readouterr())


def test_commands(module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = ["check-data", ".", "--no-estimate", "--json", "check.json", "--dataset"]
    assert run([*check, f"gluoncv:{module}:pair"], capsys)[0] == 1  # the images are in both lists
    result = json.loads((tmp_path / "check.json").read_text())
    assert {name: part["images"] for name, part in result["lists"].items()} == {"train": 3, "val": 2}
    assert {f["file"] for f in result["findings"] if f["code"] == "image-in-two-lists"} == {
        "Images val[0]", "Images val[1]",
    }  # fmt: skip
    assert run([*check, f"gluoncv:{module}:plain"], capsys)[0] == 0
    for target in ("voc", "recordio"):
        convert = ["convert-data", ".", target, "--dataset", f"gluoncv:{module}:plain", "--format", target]
        assert run(convert, capsys)[0] == 0
        copy = open_dataset(target, tmp_path / target, "all")
        assert_same_objects(copy, opened(f"gluoncv:{module}:plain", splits="all"))
    for name in ("missing:x", f"{module}:plan", f"{module}:fails", "x"):
        status, _, error = run([*check, f"gluoncv:{name}"], capsys)
        assert status in (1, 2)
        assert name.split(":")[0] in error
    with pytest.raises(DataError):
        open_dataset("auto", tmp_path)
