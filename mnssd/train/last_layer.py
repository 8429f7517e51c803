"""Starting from weights that were trained on other classes: the classifier's last layer."""

from __future__ import annotations

from itertools import islice
from typing import Any, Callable, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from scipy.optimize import minimize

from ..data.loader import Loader
from ..runtime import settle
from .freezing import layers

IMAGES = 4096
"""Training images that the layer is fitted to, at most: each costs a forward pass, its features 5 kB."""

DECAYS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Weight decays that are tried, strongest first, until images that were held out say enough."""

HELD_OUT = 5
"""Every fifth image."""

ITERATIONS = 60


def fit_last_layer(
    net: Any, batches: Loader, targets_of: Callable[[np.ndarray], np.ndarray], ctx: Any
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
        Of training: augmented images first in each batch, labels second.
    targets_of : callable
        ``(B,)`` labels -> ``(B, C)`` what the network shall answer; rows may weigh more or less than 1.
    ctx : mxnet.Context

    Returns
    -------
    str
        A line for the user.
    """
    features, labels = _look(net.features, batches, ctx)
    (layer,) = (part for part in layers(net.output) if isinstance(part, (nn.Dense, nn.Conv2D)))
    weights, bias, decay, right = choose(features, targets_of(labels), layer.bias is not None)
    layer.weight.set_data(mx.nd.array(weights.T.reshape(layer.weight.shape), ctx=ctx))
    if bias is not None:
        layer.bias.set_data(mx.nd.array(bias, ctx=ctx))
    settle()
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
        ``(N, D)`` float32.
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
        Share of the images held out that were told right, by the layer fitted to the others.
    """
    deviation = features.std(axis=0)
    scale = deviation + 0.1 * deviation.mean() + np.float32(1e-6)
    middle = features.mean(axis=0) if with_bias else np.zeros_like(scale)
    scaled = np.ones((len(features), features.shape[1] + with_bias), np.float32)
    scaled[:, : features.shape[1]] = (features - middle) / scale
    held = np.arange(len(features)) % HELD_OUT == 0
    if len(features) < 2 * HELD_OUT:
        held[:] = True  # so few that nothing can be held out
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
    weights = solution[: features.shape[1]] / scale[:, None]
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


def _look(features: Any, batches: Loader, ctx: Any) -> Tuple[np.ndarray, np.ndarray]:
    """``(N, D)`` features and ``(N,)`` labels of the first training images."""
    seen, labels = [], []
    features.hybridize(static_alloc=True, static_shape=True)
    try:
        for batch in islice(batches.epoch(0), max(1, IMAGES // batches.batch_size)):
            answers = features(mx.nd.array(batch.arrays[0], ctx=ctx)).asnumpy()
            seen.append(answers.reshape(len(answers), -1))
            labels.append(batch.arrays[1])
    finally:
        features.hybridize(False)
    return np.concatenate(seen), np.concatenate(labels)
