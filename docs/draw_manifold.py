"""Draw docs/images/manifold.png: a spiral after a random embedding, a ReLU and the way back.

python docs/draw_manifold.py

Also prints, for each number of channels, the mean over 1,000 embeddings of what is lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

IMAGES = Path(__file__).parent / "images"
CHANNELS = (2, 3, 5, 15, 30)
EMBEDDINGS = 1000


class Outcome(NamedTuple):
    """What an embedding does to the spiral.

    `points` is what comes back, ``(2, points)``. `kept` is the share of points with at least two channels
    above zero, from which both coordinates can be computed. `error` is the root mean squared distance between
    the spiral and what comes back, scaled to fit best, relative to the size of the spiral.
    """

    points: np.ndarray
    kept: float
    error: float


def spiral() -> np.ndarray:
    """Two turns around the origin, ``(2, points)``."""
    angle = np.linspace(0.5, 4 * np.pi, 2000)
    return np.stack([np.cos(angle), np.sin(angle)]) * angle / angle.max()


def embed(points: np.ndarray, channels: int, seed: int) -> Outcome:
    """Embed into `channels` dimensions, apply a ReLU, and go back by the pseudo-inverse."""
    matrix = np.random.default_rng([channels, seed]).normal(size=(channels, 2))
    activated = np.maximum(matrix @ points, 0)
    back = np.linalg.pinv(matrix) @ activated
    scale = (back * points).sum() / max((back**2).sum(), 1e-12)
    error = np.sqrt(((scale * back - points) ** 2).sum() / (points**2).sum())
    return Outcome(back, float(((activated > 0).sum(axis=0) >= 2).mean()), float(error))


def draw(axis: pyplot.Axes, points: np.ndarray, title: str) -> None:
    """Draw a curve, colored from its start to its end."""
    axis.scatter(*points, c=np.linspace(0, 1, points.shape[1]), cmap="viridis", s=3)
    axis.set_title(title, fontsize=10)
    axis.set_aspect("equal", "datalim")
    axis.set_xticks([])
    axis.set_yticks([])


def main() -> None:
    """Draw the embedding with the median error of each number of channels."""
    points = spiral()
    figure, axes = pyplot.subplots(1, 1 + len(CHANNELS), figsize=(14, 2.9))
    draw(axes[0], points, "input")
    print("| n | recoverable points | error of the way back |\n|---|---|---|")
    for axis, channels in zip(axes[1:], CHANNELS):
        outcomes = [embed(points, channels, seed) for seed in range(EMBEDDINGS)]
        median = sorted(outcomes, key=lambda outcome: outcome.error)[EMBEDDINGS // 2]
        draw(axis, median.points, f"n = {channels}: {100 * median.kept:.0f} % recoverable")
        kept, error = (np.mean([getattr(each, name) for each in outcomes]) for name in ("kept", "error"))
        print(f"| {channels} | {100 * kept:.1f} % | {error:.2f} |")
    figure.tight_layout()
    figure.savefig(IMAGES / "manifold.png", dpi=80)


if __name__ == "__main__":
    main()
