r"""Small objects in large images: datasets of them, and what tiles change.

    python benchmarks/small_objects.py make OUTPUT --data-root DIR [--splits test] [--images 10] [--seed 0]
    python benchmarks/small_objects.py measure RUN OUTPUT [--tiles none,2x2,auto]

`make` cuts objects from the images of a dataset, for example BCCD or a VOCdevkit, reduces them and pastes
them onto canvases of 4,000 pixels, which are images of the dataset that are enlarged and blurred. All objects
of a canvas are reduced by the same factor, drawn from --reductions, so that their sizes stay in proportion;
only those of --sides pixels are used. The result is a dataset in VOC layout with the list `test`. Nothing is
copied into the repository.

`measure` prints a row for each value of --tiles: windows per image, mAP (VOC12), recall by the size of the
objects at any score, recall and precision at a score of .5, and seconds per image, with reading: of the
processor, and by the clock, which is longer where other programs run.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from mnssd import zoo
from mnssd.data.annotations.voc_xml import write_annotation
from mnssd.data.dataset import Dataset
from mnssd.data.image import read_image
from mnssd.data.open import open_dataset
from mnssd.data.sample import Sample
from mnssd.data.tiles import choose_grid, make_windows, parse_tiles
from mnssd.errors import MnssdError
from mnssd.inference.predict import evaluate
from mnssd.inference.tiled import smallest_anchor
from mnssd.metrics.voc import VOCResult

MARGIN = 0.15
"""Part of an object's side around it that fades into the canvas."""

GAP = 6
"""Least distance of two objects in pixels."""

BLUR = 12
"""Pixels to which the long side of a background is reduced before it is enlarged."""

TRIALS = 50
SCORE = 0.5


class Cutout(NamedTuple):
    """An object of a sample."""

    sample: Sample
    row: int

    @property
    def box(self) -> np.ndarray:
        return self.sample.boxes[self.row]

    @property
    def side(self) -> float:
        """The longer side."""
        return float((self.box[2:] - self.box[:2] + 1).max())


def cutouts(dataset: Dataset) -> List[Cutout]:
    """Objects that are not difficult and end within their image."""
    result = []
    for sample in dataset:
        inner = (sample.boxes[:, :2] > 1).all(axis=1)
        inner &= (sample.boxes[:, 2:] < np.array(sample.size) - 2).all(axis=1)
        result += [Cutout(sample, int(row)) for row in np.flatnonzero(inner & ~sample.difficult)]
    return result


def background(
    sample: Sample, pixels: np.ndarray, size: Tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """A canvas with the colors of an image around its objects."""
    outside = np.ones(pixels.shape[:2], np.float32)
    for left, top, right, bottom in sample.boxes.astype(int):
        outside[max(0, top - 3) : bottom + 4, max(0, left - 3) : right + 4] = 0
    outside += 1e-4  # where boxes cover all
    weighted = np.dstack([pixels * outside[..., None], outside]).astype(np.float32)
    scale = BLUR / max(pixels.shape[:2])
    small = cv2.resize(weighted, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 2)
    canvas = cv2.resize(small[..., :3] / small[..., 3:], size, interpolation=cv2.INTER_LINEAR)
    noise = rng.normal(0, 2, (size[1] // 2, size[0] // 2)).astype(np.float32)
    return canvas + cv2.resize(noise, size, interpolation=cv2.INTER_LINEAR)[..., None]


def paste(
    canvas: np.ndarray, pixels: np.ndarray, box: np.ndarray, reduction: float, place: np.ndarray
) -> np.ndarray:
    """Paste the object at `box` of an image with its corner at `place`; returns its inclusive box there."""
    extent = (box[2:] - box[:2] + 1).astype(float)
    new = np.maximum(1, np.rint(extent / reduction)).astype(int)
    around = np.ceil(MARGIN * new).astype(int)
    scale = new / extent
    # Maps the canvas around the object to the image: pixel centers are at whole numbers.
    left, top = box[:2] - 0.5 - (around - 0.5) / scale
    part = pixels[
        max(0, int(top) - 1) : int(np.ceil(box[3] + (around[1] + 1) / scale[1])) + 1,
        max(0, int(left) - 1) : int(np.ceil(box[2] + (around[0] + 1) / scale[0])) + 1,
    ]
    corner = np.array([max(0, int(left) - 1), max(0, int(top) - 1)])
    smooth = cv2.GaussianBlur(part, (0, 0), max(0.1, 0.45 * (reduction - 1)))
    width, height = new + 2 * around
    x = (np.arange(width) - around[0] + 0.5) / scale[0] + box[0] - 0.5 - corner[0]
    y = (np.arange(height) - around[1] + 0.5) / scale[1] + box[1] - 0.5 - corner[1]
    maps = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    patch = cv2.remap(smooth, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    fades = [np.clip(np.minimum(np.arange(n) + 1, np.arange(n, 0, -1)) / (a + 1), 0, 1)
             for n, a in zip((width, height), around)]  # fmt: skip
    alpha = (fades[1][:, None] * fades[0][None])[..., None].astype(np.float32)
    (x0, y0), (x1, y1) = place - around, place + new + around
    region = canvas[y0:y1, x0:x1]
    # The colors around the object become those of the canvas, so that no rectangle shows.
    rim = np.concatenate([patch[0], patch[-1], patch[:, 0], patch[:, -1]])
    patch += region.mean(axis=(0, 1)) - np.median(rim, axis=0)
    region += alpha * (patch - region)
    return np.concatenate([place, place + new - 1])


def place_for(
    taken: np.ndarray, size: np.ndarray, around: np.ndarray, rng: np.random.Generator
) -> Optional[np.ndarray]:
    """A free corner for an object of `size` (width, height) in pixels, or None."""
    height, width = taken.shape
    for _ in range(TRIALS):
        room = np.array([width, height]) - size - 2 * around
        if (room <= 0).any():
            return None
        corner = around + rng.integers(0, room)
        (x0, y0), (x1, y1) = np.maximum(0, corner - around - GAP), corner + size + around + GAP
        if not taken[y0:y1, x0:x1].any():
            (x0, y0), (x1, y1) = corner - around, corner + size + around
            taken[y0:y1, x0:x1] = True
            return corner
    return None


def make_canvas(
    dataset: Dataset, pixels: Dict[str, np.ndarray], args: argparse.Namespace, rng: np.random.Generator
) -> Tuple[np.ndarray, List[str], List[np.ndarray]]:
    """A canvas, and the names and boxes of its objects."""
    low, high = args.reductions
    reduction = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    usable = [cut for cut in cutouts(dataset) if args.sides[0] <= cut.side / reduction <= args.sides[1]]
    if not usable:
        raise MnssdError(f"{dataset.name}: no object has {args.sides} pixels if reduced by {reduction:.2f}")
    source = dataset[int(rng.integers(len(dataset)))]
    canvas = background(source, pixels_of(source, pixels), args.size, rng)
    taken = np.zeros(canvas.shape[:2], bool)
    names, boxes = [], []
    for _ in range(args.objects):
        cut = usable[int(rng.integers(len(usable)))]
        new = np.maximum(1, np.rint((cut.box[2:] - cut.box[:2] + 1) / reduction)).astype(int)
        place = place_for(taken, new, np.ceil(MARGIN * new).astype(int), rng)
        if place is not None:
            names.append(dataset.classes[cut.sample.labels[cut.row]])
            boxes.append(paste(canvas, pixels_of(cut.sample, pixels), cut.box, reduction, place))
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8), names, boxes


def pixels_of(sample: Sample, pixels: Dict[str, np.ndarray]) -> np.ndarray:
    """The image of a sample, read once."""
    if sample.image_path not in pixels:
        if len(pixels) > 300:
            pixels.clear()
        pixels[sample.image_path] = read_image(sample.image_path)
    return pixels[sample.image_path]


def make(args: argparse.Namespace) -> None:
    """Write the dataset."""
    output = Path(args.output)
    if output.exists() and any(output.iterdir()):
        raise MnssdError(f"{output}: is not empty; choose another folder")
    names = args.classes.split(",") if args.classes else None
    dataset = open_dataset("auto", args.data_root, args.splits, names, "eval")
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (output / part).mkdir(parents=True)
    pixels: Dict[str, np.ndarray] = {}
    ids = [f"canvas{number:03d}" for number in range(args.images)]
    for number, image_id in enumerate(ids):
        rng = np.random.default_rng([args.seed, number])
        canvas, names, boxes = make_canvas(dataset, pixels, args, rng)
        file = output / "JPEGImages" / f"{image_id}.jpg"
        cv2.imwrite(str(file), canvas[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        write_annotation(output / "Annotations" / f"{image_id}.xml", file.name, args.size, names, boxes)
        print(f"{file}: {len(boxes)} objects", flush=True)
    (output / "ImageSets" / "Main" / "test.txt").write_text("".join(f"{image_id}\n" for image_id in ids))


def at_score(result: VOCResult, score: float) -> Tuple[float, float]:
    """Recall and precision of detections from `score` on, of all classes; the latter is NaN without any."""
    matched = detections = 0.0
    for name, curve in result.curves.items():
        count = int((curve.scores >= score).sum())
        if count:
            own = curve.recall[count - 1] * result.positives[name]
            matched += own
            detections += own / max(curve.precision[count - 1], 1e-9) if own else count
    return matched / sum(result.positives.values()), matched / detections if detections else math.nan


def measure(args: argparse.Namespace) -> None:
    """Print the table."""
    net = zoo.load_detector(args.run)
    dataset = open_dataset("auto", args.output, "test", list(net.classes), "eval", allow_absent=True)
    net.hybridize()
    head: Sequence[str] = ()
    for tiles in map(parse_tiles, args.tiles.split(",")):
        windows = [
            make_windows(s.size, choose_grid(tiles, s.size, net.size, smallest_anchor(net.anchors)))
            for s in dataset
        ]
        list_of_one = Dataset(dataset.name, dataset.classes, dataset.samples[:1])
        evaluate(net, list_of_one, batch_size=args.batch_size, workers=0)  # builds the graph
        started = time.process_time(), time.perf_counter()
        result = evaluate(net, dataset, "voc12", batch_size=args.batch_size, workers=0, tiles=tiles)
        ended = time.process_time(), time.perf_counter()
        cpu, clock = ((end - start) / len(dataset) for start, end in zip(started, ended))
        recall, precision = at_score(result, SCORE)
        if not head:
            sizes = [f"{size.name} ({size.objects})" for size in result.sizes]
            head = ["tiles", "windows", "mAP", *sizes, "recall .5", "precision .5", "CPU s", "clock s"]
            print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
        row = [
            tiles, f"{np.mean([len(own) for own in windows]):.0f}", f"{result.mean_ap:.3f}",
            *(f"{size.recall:.3f}" if size.objects else "-" for size in result.sizes),
            f"{recall:.3f}", "-" if math.isnan(precision) else f"{precision:.3f}",
            f"{cpu:.2f}", f"{clock:.2f}",
        ]  # fmt: skip
        print("| " + " | ".join(row) + " |", flush=True)


def pair_of(kind: type) -> object:
    """Parser of two numbers, separated by a comma or an x."""

    def parse(text: str) -> Tuple[float, ...]:
        values = tuple(kind(part) for part in text.replace("x", ",").split(","))
        if len(values) != 2 or min(values) <= 0:
            raise ValueError
        return values

    return parse


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one of the two; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("make")
    first.add_argument("output")
    first.add_argument("--data-root", required=True)
    first.add_argument("--splits", default=None)
    first.add_argument("--classes", default=None)
    first.add_argument("--images", type=int, default=10)
    first.add_argument("--objects", type=int, default=2000)
    first.add_argument("--size", type=pair_of(int), default=(4000, 3000))
    first.add_argument("--sides", type=pair_of(float), default=(12.0, 60.0))
    first.add_argument("--reductions", type=pair_of(float), default=(2.5, 6.0))
    first.add_argument("--seed", type=int, default=0)
    second = commands.add_parser("measure")
    second.add_argument("run")
    second.add_argument("output")
    second.add_argument("--tiles", default="none,2x2,auto")
    second.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args(arguments)
    try:
        (make if args.command == "make" else measure)(args)
    except MnssdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
