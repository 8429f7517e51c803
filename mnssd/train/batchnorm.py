"""Starting from weights that were trained on other images: BatchNorm's statistics."""

from __future__ import annotations

from itertools import islice
from typing import Any, Dict, Iterable, List, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

from ..data.loader import Loader
from ..runtime.settings import wait_all
from .freezing import layers

IMAGES = 160
"""That the statistics are taken from: of a map of 7x7, 7,840 places."""


def recalibrate_batchnorm(block: Any, loaded: Iterable[Any], batches: Loader, ctx: Any) -> str:
    """Give BatchNorm layers the statistics of these images, without a change in what the block answers.

    In training a BatchNorm normalises with the statistics of the batch. Where the user's images are of
    another kind than those that the weights were trained on (six animals, not a thousand things), these
    are other statistics than the stored ones, and the trained features are gone in the first step. Here
    every layer's own statistics become those of the user's images, and its gamma and beta take up the
    difference: ``gamma / sd (x - mean) + beta`` stays the function it was, and now the batch gives it too.

    Parameters
    ----------
    block : mxnet.gluon.HybridBlock
        Not hybridized, of one input.
    loaded : iterable of mxnet.gluon.Parameter
        Those that came from the weights; other BatchNorms stay as they are, and frozen ones.
    batches : Loader
        Of training: augmented images, first in each batch.
    ctx : mxnet.Context

    Returns
    -------
    str
        A line for the user.
    """
    known = {id(parameter) for parameter in loaded}
    norms = [
        layer
        for layer in layers(block)
        if isinstance(layer, nn.BatchNorm)
        and layer.gamma.grad_req != "null"
        and all(id(parameter) in known for parameter in layer.params.values())
    ]
    if not norms:
        return "no BatchNorm of the weights learns, so none takes statistics of these images"
    seen: Dict[int, List[Tuple[np.ndarray, np.ndarray]]] = {id(norm): [] for norm in norms}

    def look(norm: Any, inputs: Tuple[Any, ...]) -> None:
        seen[id(norm)].append(_moments(inputs[0]))

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    count = 0
    try:
        for batch in islice(batches.epoch(0), -(-IMAGES // batches.batch_size)):
            block(mx.nd.array(batch.arrays[0], ctx=ctx))
            count += len(batch.indices)
    finally:
        for hook in hooks:
            hook.detach()
    for norm in norms:
        _set(norm, *_pooled(seen[id(norm)]))
    wait_all()
    return f"statistics of {len(norms)} BatchNorms taken from {count} training images; same answers as before"


def _moments(x: Any) -> Tuple[np.ndarray, np.ndarray]:
    """Mean and variance a channel. In NumPy: MXNet's own sums take many times longer."""
    pixels = x.asnumpy()
    return pixels.mean(axis=(0, 2, 3), dtype=np.float64), pixels.var(axis=(0, 2, 3), dtype=np.float64)


def _pooled(moments: List[Tuple[np.ndarray, np.ndarray]]) -> Tuple[np.ndarray, np.ndarray]:
    """Of all batches together."""
    means, variances = (np.array(parts) for parts in zip(*moments))
    return means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)


def _set(norm: Any, mean: np.ndarray, variance: np.ndarray) -> None:
    epsilon = norm._kwargs["eps"]
    old_mean, old_variance = (p.data().asnumpy() for p in (norm.running_mean, norm.running_var))
    slope = norm.gamma.data().asnumpy() / np.sqrt(old_variance + epsilon)
    norm.beta.set_data(mx.nd.array(norm.beta.data().asnumpy() + slope * (mean - old_mean)))
    norm.gamma.set_data(mx.nd.array(slope * np.sqrt(variance + epsilon)))
    norm.running_mean.set_data(mx.nd.array(mean))
    norm.running_var.set_data(mx.nd.array(variance))
