"""Render the built-in dataset: shapes on busy backgrounds, in Pascal VOC layout.

Nothing is rendered when the folder already holds the same set.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--output", default="data/shapes", help="folder of the set (default: %(default)s)")
    parser.add_argument("--train", type=int, default=800, help="images to train on (default: %(default)s)")
    parser.add_argument("--val", type=int, default=200, help="images to measure on (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=320, help="side of an image in pixels (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, other images (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Render, with a bar, and say where the set is."""
    from tqdm import tqdm

    from ..data.shapes.dataset import SHAPE_CLASSES, make_shapes

    with tqdm(total=args.train + args.val, desc="rendering", unit="image", leave=False, disable=None) as bar:
        rendered = make_shapes(
            args.output, args.train, args.val, (args.size, args.size), args.seed, progress=bar.update
        )
    what = f"{args.train} + {args.val} images of {', '.join(SHAPE_CLASSES)}"
    print(f"{args.output}: {what}" + ("" if rendered else " were already there"))
    return 0
