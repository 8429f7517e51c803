"""Training on many machines: what the processes of one run do together, through MXNet's parameter server.

Each process (worker) computes the gradients of its share of every batch. They are summed on the servers, and
all take the same step with the same optimizer, so that all have the same weights at any time. The servers
hold gradients, never weights: that is what keeps out the race of MXNet 1.9.1 in which the first pull of the
weights meets the first push of gradients, and some worker goes on with the gradients for its weights.
(To see it: `Trainer(kvstore='dist_sync', update_on_kvstore=False)`, two workers, their weights after a step.)
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, List, NamedTuple, Sequence

import mxnet as mx
import numpy as np

from ..errors import MnssdError, OptionError

NEEDED = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")
"""What MXNet's parameter server reads from the environment; `mnssd launch` sets it, as others do."""

CONTROL = "control"
"""The key of what is said beside the gradients."""


class StepStatus(NamedTuple):
    """What all workers have said of a step.

    Attributes
    ----------
    weight : float
        Sum of what the losses are means over: positive anchors, or images.
    is_bad : bool
        Whether somebody's loss is not finite.
    ends : bool
        Whether somebody is to end.
    """

    weight: float
    is_bad: bool
    ends: bool


class DistributedContext:
    """The workers of a run.

    Parameters
    ----------
    threshold : float
        Of MXNet's 2-bit compression: of each number of a gradient a worker sends plus or minus this, or
        nothing, and keeps the rest for later steps. 0 for whole numbers. It applies to all that is pushed, so
        what is said beside the gradients is put into multiples of it, and gradients are not weighted.

    Attributes
    ----------
    rank, size : int
        The number of this one, from 0, and how many there are. Number 0 writes and measures.
    """

    def __init__(self, threshold: float = 0.0) -> None:
        missing = [name for name in NEEDED if name not in os.environ]
        if missing or os.environ["DMLC_ROLE"] != "worker":
            raise OptionError(
                f"--kvstore dist_sync: {missing[0] if missing else 'DMLC_ROLE=worker'} is not set; start it "
                "with: mnssd launch -n WORKERS -- train_ssd.py ..."
            )
        self._store = mx.kv.create("dist_sync")
        self.rank, self.size = int(self._store.rank), int(self._store.num_workers)
        self._gradients: List[Any] = []
        self._threshold = threshold
        self._control = mx.nd.zeros((3,))

    def follow(self, parameters: Sequence[Any]) -> None:
        """Sum the gradients of these from now on; all workers have them in the same order.

        Raises
        ------
        MnssdError
            When the workers do not begin with the same weights.
        """
        trained = [parameter for parameter in parameters if parameter.grad_req != "null"]
        self._gradients = [parameter.grad() for parameter in trained]
        for key, gradient in enumerate(self._gradients):
            self._store.init(str(key), mx.nd.zeros(gradient.shape))
        self._store.init(CONTROL, self._control)
        self._store.init("digest", mx.nd.zeros((8,)))
        mx.nd.waitall()
        self.wait()
        self.check_same(parameters)
        if self._threshold:  # from here on: a digest cannot be compressed
            self.wait()
            self._store.set_gradient_compression({"type": "2bit", "threshold": self._threshold})
            self.wait()

    def check_same(self, parameters: Sequence[Any]) -> None:
        """Raise MnssdError unless all workers have the same values; running statistics are each one's own."""
        mx.nd.waitall()
        digest = hashlib.sha256()
        for parameter in parameters:
            if parameter.grad_req != "null":
                digest.update(parameter.data().asnumpy().tobytes())
        own = np.frombuffer(digest.digest()[:8], np.uint8).astype(np.float32)
        summed = mx.nd.array(own)
        self._store.push("digest", summed)
        self._store.pull("digest", out=summed)
        if not np.array_equal(summed.asnumpy(), own * self.size):
            raise MnssdError(
                f"worker {self.rank} has other weights than the others; do all read the same files, with the "
                "same version of mnssd?"
            )

    def step(self, weight: float, is_bad: bool, ends: bool) -> StepStatus:
        """Sum the gradients, each times its worker's `weight`, in place, and say what there is to say.

        All workers call it in each step, those whose loss is not finite too.
        """
        unit = self._threshold or 1.0
        self._control[:] = mx.nd.array([unit if self._threshold else weight, is_bad * unit, ends * unit])
        self._store.push(CONTROL, self._control)
        self._store.pull(CONTROL, out=self._control)
        for key, gradient in enumerate(self._gradients):
            if not self._threshold:
                gradient *= weight
            self._store.push(str(key), gradient, priority=-key)
            self._store.pull(str(key), out=gradient, priority=-key)
        total, bad, ending = self._control.asnumpy() / unit
        return StepStatus(float(total), bad > 0, ending > 0)

    def abandon(self) -> None:
        """End without the others: after an error this process would else wait for them when it ends."""
        mx.base.check_call(mx.base._LIB.MXKVStoreSetBarrierBeforeExit(self._store.handle, 0))

    def wait(self) -> None:
        """Until all workers have come here."""
        mx.nd.waitall()
        self._store._barrier()
