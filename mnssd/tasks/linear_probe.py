"""Linear probe: fit a classifier's new last layer to the features of its pretrained backbone."""

from __future__ import annotations

from itertools import islice
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import nn
from scipy.optimize import minimize

from ..data.loader import Loader
from ..runtime.settings import wait_all
from ..train.freezing import layers

IMAGES = 4096
"""Maximum number of training images; each costs two forward passes and 10 kB of features."""

DECAYS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Weight decays, tried in this order until the loss on the held-out images rises."""

HELD_OUT = 5
"""Every fifth image is held out."""

ITERATIONS = 60
"""Maximum iterations of L-BFGS."""


class LinearLayer(NamedTuple):
    """Weights ``(D, C)`` and bias ``(C,)`` of a fitted layer, and its weight decay.

    `accuracy` is that on the held-out images of the layer fitted to the others.
    """

    weights: np.ndarray
    bias: Optional[np.ndarray]
    decay: float
    accuracy: float


def fit_linear_probe(
    net: Any, batches: Loader, targets_of: Callable[[np.ndarray], np.ndarray], ctx: Any, mirror: bool
) -> str:
    """Fit the last layer of `net` to the features of the training images; returns a message for the user.

    A last layer with random weights sends random gradients into the pretrained layers and destroys their
    features before it has learned to use them. If it is fitted first, little remains to be corrected (Kumar
    et al. 2022, "Fine-tuning can distort pretrained features").

    The layer is a multinomial logistic regression on the average-pooled features, with the weight decay that
    predicts held-out images best.

    Parameters
    ----------
    net : mnssd.nn.MobileNetV1 or mnssd.nn.MobileNetV2
        Not hybridized, with one layer in `last_layers`.
    batches : Loader
        Training images preprocessed as in validation, images first in each batch, labels second. (On crops of
        VOC the accuracy on held-out images is .87; with augmented images it is .81.)
    targets_of : callable
        ``(B,)`` labels -> ``(B, C)`` targets; the sums of the rows are the weights of the images.
    mirror : bool
        Whether to add the mirror image of each image.
    """
    features, labels = extract_features(net.features, batches, ctx, mirror)
    (layer,) = last_layers(net)
    fitted = fit_linear_layer(features, targets_of(labels), layer.bias is not None)
    layer.weight.set_data(mx.nd.array(fitted.weights.T.reshape(layer.weight.shape), ctx=ctx))
    if fitted.bias is not None:
        layer.bias.set_data(mx.nd.array(fitted.bias, ctx=ctx))
    wait_all()
    return (
        f"linear probe: last layer fitted to {len(labels)} training images (weight decay {fitted.decay:g}), "
        f"accuracy {fitted.accuracy:.3f} on held-out ones"
    )


def last_layers(net: Any) -> List[Any]:
    """The layers with weights after a classifier's features; a linear probe needs a single one."""
    return [part for part in layers(net.output) if isinstance(part, (nn.Dense, nn.Conv2D))]


def fit_linear_layer(features: np.ndarray, targets: np.ndarray, with_bias: bool) -> LinearLayer:
    """Fit a linear layer to all images, with the weight decay that has the lowest loss on held-out images.

    `features` are ``(N, V, D)`` float32, of V views of each image; `targets` are ``(N, C)`` float32.
    """
    count, views, width = features.shape
    held_out = np.repeat(np.arange(count) % HELD_OUT == 0, views)
    if count < 2 * HELD_OUT:
        held_out[:] = True  # too few images: select on the ones it is fitted to
    features, targets = features.reshape(-1, width), np.repeat(targets, views, axis=0)
    deviation = features.std(axis=0)
    scale = deviation + 0.1 * deviation.mean() + np.float32(1e-6)
    mean = features.mean(axis=0) if with_bias else np.zeros_like(scale)
    scaled = np.ones((len(features), width + with_bias), np.float32)
    scaled[:, :width] = (features - mean) / scale
    fitted = ~held_out if not held_out.all() else held_out
    best, solution = (float("inf"), DECAYS[0], 0.0), np.zeros((scaled.shape[1], targets.shape[1]))
    for decay in DECAYS:
        solution = logistic_regression(scaled[fitted], targets[fitted], decay, with_bias, solution)
        logits = scaled[held_out] @ solution.astype(np.float32)
        loss = _loss(logits, targets[held_out])[0]
        if loss >= best[0]:
            break
        correct = logits.argmax(axis=1) == targets[held_out].argmax(axis=1)
        best = (loss, decay, float(correct.mean()))
    _, decay, accuracy = best
    solution = logistic_regression(scaled, targets, decay, with_bias, solution)
    weights = solution[:width] / scale[:, None]
    return LinearLayer(weights, solution[-1] - mean @ weights if with_bias else None, decay, accuracy)


def logistic_regression(
    features: np.ndarray, targets: np.ndarray, decay: float, with_bias: bool, start: np.ndarray
) -> np.ndarray:
    """Weights ``(D, C)`` that minimize the mean cross entropy plus `decay` / 2 times their squared sum.

    With a bias, the last feature is 1 and its weights are not decayed.
    """
    decays = np.full((features.shape[1], 1), decay)
    decays[-1] *= not with_bias

    def objective(flat: np.ndarray) -> Tuple[float, np.ndarray]:
        weights = flat.reshape(start.shape)
        loss, slope = _loss(features @ weights.astype(np.float32), targets)
        gradient = features.T @ slope + decays * weights
        return loss + 0.5 * float((decays * weights**2).sum()), gradient.astype(np.float64).ravel()

    result = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    return result.x.reshape(start.shape)


def _loss(logits: np.ndarray, targets: np.ndarray) -> Tuple[float, np.ndarray]:
    """Mean cross entropy, and its gradient ``(N, C)``."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    sums = powers.sum(axis=1, keepdims=True)
    weight = targets.sum(axis=1, keepdims=True)
    loss = (weight * np.log(sums) - (targets * shifted).sum(axis=1, keepdims=True)).mean()
    return float(loss), (weight * powers / sums - targets) / len(logits)


def extract_features(features: Any, batches: Loader, ctx: Any, mirror: bool) -> Tuple[np.ndarray, np.ndarray]:
    """Features ``(N, V, D)`` and labels ``(N,)``, each image once, in the order of the dataset."""
    outputs: List[np.ndarray] = []
    labels: List[np.ndarray] = []
    indices: List[int] = []
    features.hybridize(static_alloc=True, static_shape=True)
    try:
        for batch in islice(batches.epoch(0), max(1, IMAGES // batches.batch_size)):
            images = batch.arrays[0]
            views = [images, images[:, :, :, ::-1]] if mirror else [images]
            pooled = [features(mx.nd.array(view, ctx=ctx)).asnumpy() for view in views]
            outputs.append(np.stack([output.reshape(len(images), -1) for output in pooled], axis=1))
            labels.append(batch.arrays[1])
            indices.extend(batch.indices)
    finally:
        features.hybridize(False)
    first = np.unique(indices, return_index=True)[1]  # a small dataset is repeated within an epoch
    return np.concatenate(outputs)[first], np.concatenate(labels)[first]
