"""Re-estimation of BatchNorm statistics, for training from pretrained weights."""

from __future__ import annotations

from itertools import islice
from typing import Any, Collection, Dict, List, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

from ..data.loader import Loader
from ..runtime.settings import wait_all
from .freezing import all_among, layers

IMAGES = 160
"""Number of images for the statistics: 7,840 values per channel even for a 7x7 map."""


def recalibrate_batchnorm(block: Any, loaded: Collection[Any], batches: Loader, ctx: Any) -> str:
    """Re-estimate BatchNorm statistics on the training images without changing the outputs of `block`.

    In training, BatchNorm normalizes with the statistics of the batch. If the training images differ from
    those of the pretrained weights, these statistics differ from the stored ones, and the first step would
    destroy the pretrained features. Here the running statistics become those of the training images, and
    gamma and beta absorb the difference: ``gamma / sd (x - mean) + beta`` stays the same function.

    Parameters
    ----------
    block : mxnet.gluon.HybridBlock
        With one input, not hybridized.
    loaded : collection of mxnet.gluon.Parameter
        Pretrained parameters; BatchNorms that are not among them, or are frozen, do not change.
    batches : Loader
        Training batches, images first.

    Returns
    -------
    str
        A message for the user.
    """
    trained = [x for x in layers(block) if isinstance(x, nn.BatchNorm) and x.gamma.grad_req != "null"]
    norms = [norm for norm in trained if all_among([norm], loaded)]
    if not norms:
        return "BatchNorm statistics not re-estimated: no pretrained BatchNorm is trained"
    moments: Dict[int, List[Tuple[np.ndarray, np.ndarray]]] = {id(norm): [] for norm in norms}

    def record(norm: Any, inputs: Tuple[Any, ...]) -> None:
        moments[id(norm)].append(_moments(inputs[0]))

    hooks = [norm.register_forward_pre_hook(record) for norm in norms]
    count = 0
    try:
        for batch in islice(batches.epoch(0), -(-IMAGES // batches.batch_size)):
            block(mx.nd.array(batch.arrays[0], ctx=ctx))
            count += len(batch.indices)
    finally:
        for hook in hooks:
            hook.detach()
    for norm in norms:
        _set(norm, *_pooled(moments[id(norm)]))
    wait_all()
    return f"re-estimated the statistics of {len(norms)} BatchNorms from {count} images; outputs unchanged"


def _moments(x: Any) -> Tuple[np.ndarray, np.ndarray]:
    """Mean and variance per channel; NumPy is many times faster than MXNet here."""
    pixels = x.asnumpy()
    return pixels.mean(axis=(0, 2, 3), dtype=np.float64), pixels.var(axis=(0, 2, 3), dtype=np.float64)


def _pooled(moments: List[Tuple[np.ndarray, np.ndarray]]) -> Tuple[np.ndarray, np.ndarray]:
    """Mean and variance over all batches."""
    means, variances = (np.array(parts) for parts in zip(*moments))
    return means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)


def _set(norm: Any, mean: np.ndarray, variance: np.ndarray) -> None:
    """Set the statistics of `norm`, and gamma and beta so that its function stays the same."""
    epsilon = norm._kwargs["eps"]
    old_mean, old_variance = (p.data().asnumpy() for p in (norm.running_mean, norm.running_var))
    slope = norm.gamma.data().asnumpy() / np.sqrt(old_variance + epsilon)
    norm.beta.set_data(mx.nd.array(norm.beta.data().asnumpy() + slope * (mean - old_mean)))
    norm.gamma.set_data(mx.nd.array(slope * np.sqrt(variance + epsilon)))
    norm.running_mean.set_data(mx.nd.array(mean))
    norm.running_var.set_data(mx.nd.array(variance))
