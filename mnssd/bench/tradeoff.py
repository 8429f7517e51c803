"""Cost, speed and published accuracy of the backbones over width and input size."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import mxnet as mx

from .. import zoo
from ..compress.cost import count_block
from ..graph.inference import free_dropped_blocks, inference_block
from ..nn.backbones import backbones
from .measure import median_seconds

STYLES = (("s", "--"), ("o", "-"), ("^", "-."), ("D", ":"))
"""Marker and line of each network in the plot."""


@dataclass(frozen=True)
class Point:
    """A network at one width and input size; `milliseconds` is the latency of one image."""

    network: str
    width: float
    size: int
    parameters: int
    multiply_adds: int
    milliseconds: Optional[float]
    published_top1: Optional[float]


def points(
    networks: Sequence[str], widths: Sequence[float], sizes: Sequence[int], seconds: float, ctx: mx.Context
) -> Iterator[Point]:
    """Count and time every combination of network, width and size, with random weights.

    `seconds` is the approximate duration of each measurement; 0 skips it.
    """
    for network, width, size in product(networks, widths, sizes):
        net, shape = zoo.build_backbone(network, width), (1, 3, size, size)
        costs = count_block(net, shape)
        milliseconds = _measure(net, shape, seconds, ctx) if seconds else None
        del net
        free_dropped_blocks()
        published = backbones[network].published.get((width, size))
        yield Point(network, width, size, costs.parameters, costs.multiply_adds, milliseconds, published)


def _measure(net: Any, shape: Tuple[int, ...], seconds: float, ctx: mx.Context) -> float:
    zoo.initialize(net, ctx)
    x = mx.nd.random.normal(shape=shape, ctx=ctx)
    net(x)
    block = inference_block(net, (shape[3], shape[2]), ctx)
    return round(median_seconds(lambda: block(x).asnumpy(), seconds) * 1e3, 3)


def draw(results: Sequence[Point], path: str) -> None:
    """Plot published accuracy, or the input size if there is none, over multiply-adds and latency.

    A line joins the input sizes of one network at one width.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    timed = any(point.milliseconds is not None for point in results)
    published = any(point.published_top1 is not None for point in results)
    figure, axes = pyplot.subplots(1, 2 if timed else 1, figsize=(12 if timed else 6.5, 5), squeeze=False)
    networks = list(dict.fromkeys(point.network for point in results))
    lines: Dict[Tuple[str, float], List[Point]] = {}
    for point in results:
        lines.setdefault((point.network, point.width), []).append(point)
    for (network, width), members in lines.items():
        marker, line = STYLES[networks.index(network) % len(STYLES)]
        style = {"marker": marker, "linestyle": line, "markersize": 4, "linewidth": 1.2}
        shown = [p for p in members if not published or p.published_top1 is not None]
        heights = [p.published_top1 if published else p.size for p in shown]
        label = f"{network} x{width:g}"
        axes[0][0].plot([p.multiply_adds / 1e6 for p in shown], heights, label=label, **style)
        if timed:
            axes[0][1].plot([p.milliseconds for p in shown], heights, label=label, **style)
    for axis, title in zip(axes[0], ("multiply-adds, millions", "ms per image on this machine")):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(ticker.ScalarFormatter())
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_xlabel(title)
        axis.set_ylabel("published ImageNet top-1, %" if published else "input size, pixels")
        axis.grid(True, which="both", alpha=0.25)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
