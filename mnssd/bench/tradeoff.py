"""What the two multipliers trade: cost, time on this machine and published accuracy of every MobileNet."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import mxnet as mx

from .. import zoo
from ..compress.cost import count_block
from ..graph.inference import free_dropped_blocks, inference_block
from ..nn.backbones import backbones
from .measure import median_seconds


@dataclass(frozen=True)
class Point:
    """One network at one width and one resolution."""

    network: str
    width: float
    size: int
    parameters: int
    multiply_adds: int
    milliseconds: Optional[float]
    published_top1: Optional[float]

    def as_dict(self) -> Dict[str, Any]:
        """For JSON."""
        return asdict(self)


def points(
    networks: Sequence[str], widths: Sequence[float], sizes: Sequence[int], seconds: float, ctx: mx.Context
) -> Iterator[Point]:
    """Count, and time where `seconds` is above 0, every combination: one image, weights at random.

    Parameters
    ----------
    seconds : float
        About so long is each network timed; 0 not to time.
    """
    for network in networks:
        for width in widths:
            for size in sizes:
                net, shape = zoo.build_backbone(network, width), (1, 3, size, size)
                costs = count_block(net, shape)
                taken: Optional[float] = None
                if seconds:
                    zoo.initialize(net, ctx)
                    x = mx.nd.random.normal(shape=shape, ctx=ctx)
                    net(x)
                    taken = _milliseconds(inference_block(net, (size, size), ctx), x, seconds)
                    del net
                    free_dropped_blocks()
                yield Point(
                    network, width, size, costs.parameters, costs.multiply_adds, taken,
                    backbones[network].published.get((width, size)),
                )  # fmt: skip


def _milliseconds(block: Any, x: mx.nd.NDArray, seconds: float) -> float:
    return round(median_seconds(lambda: block(x).asnumpy(), seconds) * 1e3, 3)


def draw(found: Sequence[Point], path: str) -> None:
    """The trade-off curves as an image: published accuracy, or else the size, over cost and time.

    A line joins the resolutions of one network at one width.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    timed = any(point.milliseconds is not None for point in found)
    figure, axes = pyplot.subplots(1, 2 if timed else 1, figsize=(12 if timed else 6.5, 5), squeeze=False)
    lines: Dict[Tuple[str, float], List[Point]] = {}
    for point in found:
        lines.setdefault((point.network, point.width), []).append(point)
    known = any(point.published_top1 is not None for point in found)
    for (network, width), members in lines.items():
        style = {"marker": "o" if network == "mobilenet_v2" else "s", "markersize": 4, "linewidth": 1.2}
        style["linestyle"] = "-" if network == "mobilenet_v2" else "--"
        shown = [p for p in members if not known or p.published_top1 is not None]
        heights = [p.published_top1 if known else p.size for p in shown]
        label = f"{network.replace('mobilenet_v', 'V')} x{width:g}"
        axes[0][0].plot([p.multiply_adds / 1e6 for p in shown], heights, label=label, **style)
        if timed:
            axes[0][1].plot([p.milliseconds for p in shown], heights, label=label, **style)
    for axis, title in zip(axes[0], ("multiply-adds, millions", "milliseconds an image, on this machine")):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(ticker.ScalarFormatter())
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_xlabel(title)
        axis.set_ylabel("published ImageNet top-1, %" if known else "input size, pixels")
        axis.grid(True, which="both", alpha=0.25)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
