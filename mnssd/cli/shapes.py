"""Render the built-in synthetic dataset: shapes on textured backgrounds, in Pascal VOC layout.

A folder that already contains the same dataset is kept.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, default, text in (
        ("--output", "data/shapes", "folder of the dataset"),
        ("--train", 800, "training images"),
        ("--val", 200, "validation images"),
        ("--size", 320, "side of the images in pixels"),
        ("--seed", 0, "random seed"),
    ):
        parser.add_argument(name, type=type(default), default=default, help=f"{text} (default: {default})")


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..data.shapes.dataset import SHAPE_CLASSES, make_shapes

    with tqdm(total=args.train + args.val, desc="rendering", unit="image", leave=False, disable=None) as bar:
        rendered = make_shapes(
            args.output, args.train, args.val, (args.size, args.size), args.seed, progress=bar.update
        )
    contents = f"{args.train} + {args.val} images of {', '.join(SHAPE_CLASSES)}"
    print(f"{args.output}: {contents}" + ("" if rendered else " (already rendered)"))
    return 0
