"""Starting from weights that were trained on other classes: the classifier's last layer."""

from __future__ import annotations

from itertools import islice
from typing import Any, Callable, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from scipy.optimize import minimize

from ..data.loader import Loader
from ..runtime.settings import wait_all
from ..train.freezing import layers

IMAGES = 4096
"""Training images that the layer is fitted to, at most: each costs two forward passes, its features 10 kB."""

DECAYS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Weight decays that are tried, strongest first, until images that were held out say enough."""

HELD_OUT = 5
"""Every fifth image."""

ITERATIONS = 60


def fit_linear_probe(
    net: Any, batches: Loader, targets_of: Callable[[np.ndarray], np.ndarray], ctx: Any, mirror: bool
) -> str:
    """Fit the new last layer to what the loaded network sees in the training images.

    A last layer of random weights sends random gradients through the trained layers below it, and what
    they knew is gone before it has learned to read it. Fitted first, with everything else as it is, it
    leaves little to correct (Kumar et al. 2022, "Fine-tuning can distort pretrained features").

    It is a multinomial logistic regression on the features (mean over the map), which has one best answer;
    its weight decay is the one that predicts images held out best.

    Parameters
    ----------
    net : mnssd.nn.MobileNetV1 or mnssd.nn.MobileNetV2
        Not hybridized.
    batches : Loader
        Training images as they will be looked at when measuring, not augmented: images first in each batch,
        labels second. (On crops of VOC, of the images held out it told .81 when fitted to and asked about
        randomly cropped, recoloured ones, and .87 with whole ones.)
    targets_of : callable
        ``(B,)`` labels -> ``(B, C)`` what the network shall answer; rows may weigh more or less than 1.
    ctx : mxnet.Context
    mirror : bool
        Whether the mirror image of each is of the same class, and so fitted to, too.

    Returns
    -------
    str
        A line for the user.
    """
    features, labels = look(net.features, batches, ctx, mirror)
    (layer,) = (part for part in layers(net.output) if isinstance(part, (nn.Dense, nn.Conv2D)))
    weights, bias, decay, right = choose(features, targets_of(labels), layer.bias is not None)
    layer.weight.set_data(mx.nd.array(weights.T.reshape(layer.weight.shape), ctx=ctx))
    if bias is not None:
        layer.bias.set_data(mx.nd.array(bias, ctx=ctx))
    wait_all()
    return (
        f"last layer fitted to {len(labels)} training images (weight decay {decay:g}); it tells {right:.3f} "
        "of those held out"
    )


def choose(
    features: np.ndarray, targets: np.ndarray, with_bias: bool
) -> Tuple[np.ndarray, Optional[np.ndarray], float, float]:
    """The best linear layer, by its loss on every fifth image, fitted again to all of them.

    Parameters
    ----------
    features : numpy.ndarray
        ``(N, V, D)`` float32, of V iter_frames of each image.
    targets : numpy.ndarray
        ``(N, C)`` float32.
    with_bias : bool

    Returns
    -------
    weights : numpy.ndarray
        ``(D, C)``.
    bias : numpy.ndarray or None
        ``(C,)``.
    decay : float
    right : float
        Share of the iter_frames held out that were told right, by the layer fitted to the other images.
    """
    count, iter_frames, width = features.shape
    held = np.repeat(np.arange(count) % HELD_OUT == 0, iter_frames)
    if count < 2 * HELD_OUT:
        held[:] = True  # so few that nothing can be held out
    features, targets = features.reshape(-1, width), np.repeat(targets, iter_frames, axis=0)
    deviation = features.std(axis=0)
    scale = deviation + 0.1 * deviation.mean() + np.float32(1e-6)
    middle = features.mean(axis=0) if with_bias else np.zeros_like(scale)
    scaled = np.ones((len(features), width + with_bias), np.float32)
    scaled[:, :width] = (features - middle) / scale
    learned = ~held if not held.all() else held
    best, solution = (float("inf"), DECAYS[0], 0.0), np.zeros((scaled.shape[1], targets.shape[1]))
    for decay in DECAYS:
        solution = regress(scaled[learned], targets[learned], decay, with_bias, solution)
        answers = scaled[held] @ solution.astype(np.float32)
        loss = _loss(answers, targets[held])[0]
        if loss >= best[0]:
            break
        best = (loss, decay, float((answers.argmax(axis=1) == targets[held].argmax(axis=1)).mean()))
    _, decay, right = best
    solution = regress(scaled, targets, decay, with_bias, solution)
    weights = solution[:width] / scale[:, None]
    return weights, solution[-1] - middle @ weights if with_bias else None, decay, right


def regress(
    features: np.ndarray, targets: np.ndarray, decay: float, with_bias: bool, start: np.ndarray
) -> np.ndarray:
    """``(D, C)`` weights of the least mean cross entropy plus half of `decay` times their squared sum.

    With a bias the last feature is 1, and its weights do not decay.
    """
    decays = np.full((features.shape[1], 1), decay)
    decays[-1] *= not with_bias

    def objective(flat: np.ndarray) -> Tuple[float, np.ndarray]:
        weights = flat.reshape(start.shape)
        loss, slope = _loss(features @ weights.astype(np.float32), targets)
        gradient = features.T @ slope + decays * weights
        return loss + 0.5 * float((decays * weights**2).sum()), gradient.astype(np.float64).ravel()

    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    return found.x.reshape(start.shape)


def _loss(answers: np.ndarray, targets: np.ndarray) -> Tuple[float, np.ndarray]:
    """Mean cross entropy, and its gradient ``(N, C)``."""
    shifted = answers - answers.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    sums = powers.sum(axis=1, keepdims=True)
    weight = targets.sum(axis=1, keepdims=True)
    loss = (weight * np.log(sums) - (targets * shifted).sum(axis=1, keepdims=True)).mean()
    return float(loss), (weight * powers / sums - targets) / len(answers)


def look(features: Any, batches: Loader, ctx: Any, mirror: bool) -> Tuple[np.ndarray, np.ndarray]:
    """``(N, V, D)`` features and ``(N,)`` labels of the images, each image once, in the dataset's order."""
    seen: List[np.ndarray] = []
    labels: List[np.ndarray] = []
    indices: List[int] = []
    features.hybridize(static_alloc=True, static_shape=True)
    try:
        for batch in islice(batches.epoch(0), max(1, IMAGES // batches.batch_size)):
            images = batch.arrays[0]
            iter_frames = [images, images[:, :, :, ::-1]] if mirror else [images]
            answers = [features(mx.nd.array(view, ctx=ctx)).asnumpy() for view in iter_frames]
            seen.append(np.stack([answer.reshape(len(images), -1) for answer in answers], axis=1))
            labels.append(batch.arrays[1])
            indices.extend(batch.indices)
    finally:
        features.hybridize(False)
    once = np.unique(indices, return_index=True)[1]  # few images come several times in an epoch
    return np.concatenate(seen)[once], np.concatenate(labels)[once]
