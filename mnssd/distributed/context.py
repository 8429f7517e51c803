"""Distributed training: the processes of one run, synchronized through MXNet's parameter server.

Each process (rank) computes the gradients of its share of every batch. The servers sum them, and all ranks
take the same step with the same optimizer, so their weights are equal at any time. The servers hold
gradients, never weights. This avoids a race in MXNet 1.9.1: the first pull of the weights meets the first
push of gradients, and some rank continues with gradients in place of its weights. (To reproduce:
``Trainer(kvstore='dist_sync', update_on_kvstore=False)`` with two ranks; compare their weights after a step.)
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, List, NamedTuple, Sequence, Union

import mxnet as mx
import numpy as np

from ..errors import MnssdError, OptionError

NEEDED = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")
"""Environment variables of MXNet's parameter server; `mnssd launch` sets them, as other launchers do."""

CONTROL = "control"
"""Parameter server key of the status that travels with the gradients."""

DECISION, BITS = "decision", 32
"""Parameter server key of a number that the main process decides, and how many bits it has."""


class StepStatus(NamedTuple):
    """Status of a training step, equal on all ranks."""

    normalizer: float  # divisor of the summed gradients
    is_finite: bool  # on all ranks
    interrupted: bool  # whether any rank has received a signal


class SingleProcess:
    """Training in one process: the methods of `DistributedContext`, without communication."""

    rank, world_size, is_main = 0, 1, True

    def start(self, parameters: Sequence[Any]) -> None:
        """Do nothing."""

    def sum_gradients(self, normalizer: float, is_finite: bool, interrupted: bool) -> StepStatus:
        """The status of this process; the gradients are those of a mean already."""
        return StepStatus(1.0, is_finite, interrupted)

    def broadcast(self, number: int) -> int:
        """The number itself."""
        return number

    def abort(self) -> None:
        """Do nothing."""


class DistributedContext:
    """One rank of a distributed run: number `rank` of `world_size`. Rank 0, the main one, writes all files.

    Parameters
    ----------
    threshold : float
        Threshold of MXNet's 2-bit gradient compression: each gradient value is sent as plus or minus the
        threshold or zero, and the remainder is kept for later steps. 0 disables it. Compression applies to
        everything pushed, so the status is sent in multiples of it, and gradients are not weighted.
    """

    def __init__(self, threshold: float = 0.0) -> None:
        missing = [name for name in NEEDED if name not in os.environ]
        if missing or os.environ["DMLC_ROLE"] != "worker":
            raise OptionError(
                f"--kvstore dist_sync: {missing[0] if missing else 'DMLC_ROLE=worker'} is not set; start "
                "with mnssd launch -n PROCESSES -- train_ssd.py ..."
            )
        self._store = mx.kv.create("dist_sync")
        self.rank, self.world_size = int(self._store.rank), int(self._store.num_workers)
        self.is_main = self.rank == 0
        self._gradients: List[Any] = []
        self._threshold = threshold
        self._control = mx.nd.zeros((3,))

    def start(self, parameters: Sequence[Any]) -> None:
        """Register the parameters whose gradients are summed, in the same order on all ranks.

        Raises MnssdError if the ranks start with different weights.
        """
        self._gradients = [parameter.grad() for parameter in parameters if parameter.grad_req != "null"]
        for key, gradient in enumerate(self._gradients):
            self._store.init(str(key), mx.nd.zeros(gradient.shape))
        self._store.init(CONTROL, self._control)
        self._store.init(DECISION, mx.nd.zeros((BITS,)))
        self._store.init("digest", mx.nd.zeros((8,)))
        self.barrier()
        self._check_same_weights(parameters)
        if self._threshold:  # only from here on: a digest cannot be compressed
            self.barrier()
            self._store.set_gradient_compression({"type": "2bit", "threshold": self._threshold})
            self.barrier()

    def _check_same_weights(self, parameters: Sequence[Any]) -> None:
        """Raise MnssdError unless all ranks have the same weights; BatchNorm statistics may differ."""
        mx.nd.waitall()
        digest = hashlib.sha256()
        for parameter in parameters:
            if parameter.grad_req != "null":
                digest.update(parameter.data().asnumpy().tobytes())
        own = np.frombuffer(digest.digest()[:8], np.uint8).astype(np.float32)
        total = mx.nd.array(own)
        self._store.push("digest", total)
        self._store.pull("digest", out=total)
        if not np.array_equal(total.asnumpy(), own * self.world_size):
            raise MnssdError(
                f"rank {self.rank}: initial weights differ between ranks; check that all of them read the "
                "same files with the same version of mnssd"
            )

    def sum_gradients(self, normalizer: float, is_finite: bool, interrupted: bool) -> StepStatus:
        """Sum the gradients over all ranks in place, weighted by `normalizer`, and exchange the status.

        All ranks call it in every step, also those whose loss is not finite.
        """
        unit = self._threshold or 1.0
        weight = unit if self._threshold else normalizer
        self._control[:] = mx.nd.array([weight, (not is_finite) * unit, interrupted * unit])
        self._store.push(CONTROL, self._control)
        self._store.pull(CONTROL, out=self._control)
        for key, gradient in enumerate(self._gradients):
            if not self._threshold:
                gradient *= normalizer
            self._store.push(str(key), gradient, priority=-key)
            self._store.pull(str(key), out=gradient, priority=-key)
        total, not_finite, interruptions = self._control.asnumpy() / unit
        return StepStatus(float(total), bool(not_finite == 0), bool(interruptions > 0))

    def broadcast(self, number: int) -> int:
        """The non-negative number of the main process, on all ranks; all of them call it.

        Its bits are sent as 0 and the compression threshold, which compression leaves as they are.
        """
        unit = self._threshold or 1.0
        bits = mx.nd.array([(number >> i & 1) * unit * self.is_main for i in range(BITS)])
        self._store.push(DECISION, bits)
        self._store.pull(DECISION, out=bits)
        return sum(int(bit) << i for i, bit in enumerate(np.rint(bits.asnumpy() / unit)))

    def abort(self) -> None:
        """End without the other ranks: after an error this process would wait for them at exit."""
        mx.base.check_call(mx.base._LIB.MXKVStoreSetBarrierBeforeExit(self._store.handle, 0))

    def barrier(self) -> None:
        """Wait until all ranks have reached this call."""
        mx.nd.waitall()
        self._store._barrier()


Context = Union[SingleProcess, DistributedContext]

SINGLE_PROCESS = SingleProcess()
