"""Gradient descent: which rates apply where, the optimizers, and their state in a checkpoint."""

from __future__ import annotations

import math
from typing import Any, Dict, Mapping, Sequence, Tuple

import mxnet as mx
import numpy as np

from .options import LoopOptions

STATES: Mapping[str, Sequence[str]] = {"sgd": ("momentum",), "adamw": ("mean", "variance")}
"""By optimizer, how the arrays that it keeps for a parameter are called in a checkpoint."""


class AdamW(mx.optimizer.Adam):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter 2019, algorithm 2).

    MXNet 1.9.1 has the operator, but no optimizer that calls it.
    """

    def _scale(self, ctx: Any) -> Any:
        """What gradients are multiplied by, as the operator wants it; made once, not for every parameter."""
        key = (self.rescale_grad, ctx)
        if getattr(self, "_key", None) != key:
            self._key, self._array = key, mx.nd.array([self.rescale_grad], ctx=ctx)
        return self._array

    def update(self, index: int, weight: Any, grad: Any, state: Tuple[Any, Any]) -> None:
        """One step of one parameter."""
        self._update_count(index)
        rate, decay, step = self._get_lr(index), self._get_wd(index), self._index_update_count[index]
        unbiased = rate * math.sqrt(1 - self.beta2**step) / (1 - self.beta1**step)
        mean, variance = state
        mx.nd.contrib.adamw_update(
            weight, grad, mean, variance, self._scale(weight.context), out=weight, lr=unbiased, eta=1.0,
            wd=rate * decay, beta1=self.beta1, beta2=self.beta2, epsilon=self.epsilon,
        )  # fmt: skip


def make_trainer(
    block: Any, options: LoopOptions, last_layers: Sequence[Any] = (), pretrained: Sequence[Any] = ()
) -> mx.gluon.Trainer:
    """The optimizer of the options, over all parameters of `block`.

    BatchNorm parameters and biases are not decayed (He et al. 2019, "Bag of tricks", section 3.1).

    The last layers may learn more slowly: no BatchNorm follows them, and they read thousands of
    activations with a positive mean, so that at a rate which suits the rest of a fresh network each of
    their steps overshoots. (On the built-in dataset, 300 steps at 0.1 give crops of the classes .45 top-1;
    with a tenth of it for the last layer, .90.) So may pretrained parameters, which know something already;
    of those in a last layer the rate is the product of both multiples.
    """
    parameters = block.collect_params()
    for name, parameter in parameters.items():
        if name.endswith(("gamma", "beta", "bias")):
            parameter.wd_mult = 0.0
    for layer in last_layers:
        for parameter in layer.collect_params().values():
            parameter.lr_mult = options.predictor_lr
    for parameter in pretrained:
        parameter.lr_mult *= options.pretrained_lr
    rates = {"learning_rate": options.lr, "wd": options.wd}
    if options.optimizer == "adamw":
        return mx.gluon.Trainer(parameters, AdamW(beta1=options.momentum, **rates), kvstore=None)
    return mx.gluon.Trainer(parameters, "sgd", {**rates, "momentum": options.momentum}, kvstore=None)


def optimizer_arrays(trainer: Any, names: Mapping[str, Any]) -> Dict[str, np.ndarray]:
    """What the optimizer keeps, as ``STATE/PARAMETER``; `names` are the parameters by structural name."""
    states, kinds = trainer._updaters[0].states, _kinds(trainer)
    position = {id(parameter): index for index, parameter in enumerate(trainer._params)}
    arrays = {}
    for name, parameter in names.items():
        state = states.get(position.get(id(parameter)))
        if state is not None:
            several = state if isinstance(state, tuple) else (state,)
            arrays.update({f"{kind}/{name}": array.asnumpy() for kind, array in zip(kinds, several)})
    return arrays


def restore_optimizer(
    trainer: Any, names: Mapping[str, Any], arrays: Mapping[str, np.ndarray], step: int
) -> None:
    """Put back what `optimizer_arrays` gave after so many steps."""
    updater, kinds = trainer._updaters[0], _kinds(trainer)
    position = {id(parameter): index for index, parameter in enumerate(trainer._params)}
    for name, parameter in names.items():
        values = [arrays[f"{kind}/{name}"] for kind in kinds if f"{kind}/{name}" in arrays]
        if not values:
            continue
        index, weight = position[id(parameter)], parameter.data()
        state = updater.optimizer.create_state_multi_precision(index, weight)
        for array, value in zip(state if isinstance(state, tuple) else (state,), values):
            array[:] = value
        updater.states[index], updater.states_synced[index] = state, True
        updater.optimizer._index_update_count[index] = step  # Adam divides by what is still missing


def _kinds(trainer: Any) -> Sequence[str]:
    return STATES["adamw" if isinstance(trainer._optimizer, AdamW) else "sgd"]
