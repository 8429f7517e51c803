"""Render the built-in synthetic dataset: shapes on textured backgrounds, in Pascal VOC layout.

A folder that already contains the same dataset is kept.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", default="data/shapes", help="folder of the dataset (default: %(default)s)"
    )
    parser.add_argument("--train", type=int, default=800, help="training images (default: %(default)s)")
    parser.add_argument("--val", type=int, default=200, help="validation images (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=320, help="side of the images in pixels (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Render with a progress bar; returns the exit status."""
    from tqdm import tqdm

    from ..data.shapes.dataset import SHAPE_CLASSES, make_shapes

    with tqdm(total=args.train + args.val, desc="rendering", unit="image", leave=False, disable=None) as bar:
        rendered = make_shapes(
            args.output, args.train, args.val, (args.size, args.size), args.seed, progress=bar.update
        )
    contents = f"{args.train} + {args.val} images of {', '.join(SHAPE_CLASSES)}"
    print(f"{args.output}: {contents}" + ("" if rendered else " (already rendered)"))
    return 0
