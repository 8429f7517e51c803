"""A working directory as the documentation assumes it: datasets, weights, small runs and their exports."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np
import pytest

from mnssd import zoo
from mnssd.cli.main import main
from mnssd.data.shapes.dataset import make_shapes
from mnssd.fetch.download import digest_of
from mnssd.weights import published
from mnssd.weights.published import best_published

TINY: Dict[str, Any] = {"width": 0.25, "size": 96, "epochs": 1, "batch_size": 8, "workers": 0}
"""Training options that keep a run of the documentation short."""

TINY_CLASSIFIER: Dict[str, Any] = {**TINY, "size": 64}


WEIGHTS = "mobilenet_v2_1_0-imagenet.params"
"""A file of weights for the networks of `TINY`."""


def publish(path: Path, patch: pytest.MonkeyPatch) -> None:
    """Make a file the published weights for the networks of `TINY`, and put it into the cache."""
    entry = best_published("mobilenet_v2", TINY["width"])
    assert entry is not None
    mine = replace(entry, file=path.name, checksum=f"sha256:{digest_of(path, 'sha256')}")
    patch.setattr(published, "CATALOG", (mine, *published.CATALOG))
    published.add_to_cache(path)


def as_arguments(options: Dict[str, Any]) -> List[str]:
    """The options as command-line arguments."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def make_user_folder(folder: Path) -> None:
    """Create the files that README and docs name, with few small images."""
    make_shapes(folder / "data" / "shapes", train=16, val=6, size=(96, 96))
    for name in ("photos", "FOLDER", "BCCD"):
        shutil.copytree(folder / "data" / "shapes", folder / name)
    test_list = folder / "BCCD" / "ImageSets" / "Main" / "test.txt"
    images = sorted((folder / "BCCD" / "JPEGImages").iterdir())
    test_list.write_text("".join(f"{path.stem}\n" for path in images[:5]))
    _make_devkit(folder / "data" / "VOCdevkit")
    (folder / "new").mkdir()
    for target in ("photo.jpg", "new/one.jpg"):
        shutil.copy(next((folder / "photos" / "JPEGImages").iterdir()), folder / target)
    _make_video(folder / "clip.mp4")
    _make_weights(folder / WEIGHTS)
    _make_timm_weights(folder / "mobilenetv2_050.safetensors")
    _train(folder)


def _make_devkit(folder: Path) -> None:
    """VOC2007 and VOC2012 with the image lists and some of the classes of Pascal VOC."""
    names = ("cat", "dog", "person", "cow", "horse", "sheep")
    years = {"2007": ("trainval", "test"), "2012": ("trainval", "train", "val")}
    for seed, (year, lists) in enumerate(years.items()):
        root = folder / f"VOC{year}"
        make_shapes(root, train=8, val=4, size=(96, 96), seed=seed)
        shapes = (root / "classes.txt").read_text().split()
        (root / "classes.txt").unlink()
        for path in list((root / "Annotations").iterdir()):
            text = path.read_text()
            for shape, name in zip(shapes, names):
                text = text.replace(f"<name>{shape}<", f"<name>{name}<")
            path.write_text(text.replace(path.stem, f"{year}_{path.stem}"))
            path.rename(path.with_name(f"{year}_{path.name}"))
        for path in list((root / "JPEGImages").iterdir()):
            path.rename(path.with_name(f"{year}_{path.name}"))
        sets = root / "ImageSets" / "Main"
        train, val = (
            [f"{year}_{line}" for line in (sets / f"{name}.txt").read_text().split()]
            for name in ("train", "val")
        )
        for path in list(sets.iterdir()):
            path.unlink()
        for name in lists:
            ids = {"train": train, "val": val, "trainval": train + val, "test": val}[name]
            (sets / f"{name}.txt").write_text("".join(f"{image_id}\n" for image_id in ids))


def _make_video(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (640, 480))
    for level in range(3):
        writer.write(np.full((480, 640, 3), 60 * level, np.uint8))
    writer.release()


def _make_weights(path: Path) -> None:
    import mxnet as mx

    net = zoo.build_backbone("mobilenet_v2", TINY["width"])
    zoo.initialize(net)
    net(mx.nd.zeros((1, 3, 64, 64)))
    net.save_parameters(str(path))


def _make_timm_weights(path: Path) -> None:
    """A file with timm's channels, in a container of its own."""
    import mxnet as mx
    from safetensors.numpy import save_file

    net = zoo.build_backbone("mobilenet_v2", 0.5, variant={"divisor": 8})
    zoo.initialize(net)
    net(mx.nd.zeros((1, 3, 64, 64)))
    parameters = net._collect_params_with_prefix()
    save_file({name: parameter.data().asnumpy() for name, parameter in parameters.items()}, str(path))


def _train(folder: Path) -> None:
    """The runs and exports that commands of the documentation start from."""
    small = [*as_arguments(TINY), "--weights=none", "--val-interval=1", "--no-report"]
    for name, data in {"NAME": "photos", "cells": "BCCD"}.items():
        root = ["--data-root", str(folder / data)]
        assert main(["train-ssd", *root, *small, "--output", str(folder / "runs" / name)]) == 0
    for name in ("photos", "trial", "larger", "shapes"):
        shutil.copytree(folder / "runs" / "NAME", folder / "runs" / name)
    for number, path in enumerate(sorted((folder / "photos" / "JPEGImages").iterdir())):
        target = folder / "photos" / ("train" if number % 3 else "val") / ("cat" if number % 2 else "dog")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    data = ["--dataset", "folder", "--data-root", str(folder / "photos")]
    small = [*as_arguments(TINY_CLASSIFIER), "--weights=none"]
    assert main(["train-cls", *data, *small, "--output", str(folder / "runs" / "CLASSES")]) == 0
    for name in ("NAME", "cells", "CLASSES"):
        export = ["export", str(folder / "runs" / name), "--output", str(folder / "exports" / name)]
        assert main([*export, "--format", "symbol" if name != "NAME" else "symbol,onnx,int8"]) == 0
    shutil.copytree(folder / "exports" / "NAME", folder / "exports" / "shapes")
