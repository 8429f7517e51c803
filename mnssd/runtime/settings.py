"""Thread and engine settings, context and random seeds.

MXNet and NumPy are imported by the functions that need them only; Python 3.6 syntax as in `environment`.
"""

import functools
import logging
import os
import platform
import sys
import time
import warnings
from typing import Any, Callable, Dict, List, Set

from . import load, processor
from .environment import installed_version
from .processor import usable_cores

_log = logging.getLogger(__name__)
_first_times = load.cpu_times()


def compute_threads() -> int:
    """Number of OpenMP threads: three quarters of the cores, both of two; the rest read images.

    A training step has about a thousand short parallel regions, and in each of them all threads wait for one
    that has lost its core to a reader. On two cores, reading between the steps costs less.
    """
    cores = usable_cores()
    return cores - cores // 4


def engine_threads() -> int:
    """Number of threads of the engines other than MXNet: OMP_NUM_THREADS if the user has set it.

    Else the cores that other programs leave: beside two trainings, ONNX Runtime took 66 ms per detection with
    two threads and 35 ms with one. `configure` sets the variable too, so its own number says nothing.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "")
    given = int(threads) if threads.isdigit() else 0
    if given and given != compute_threads():
        return given
    cores = usable_cores()
    return load.threads_beside(used_by_others(), cores) if cores > 1 else 1


def image_workers() -> int:
    """Number of threads that read and augment images: the cores without an OpenMP thread."""
    return max(0, usable_cores() - computing_threads())


def computing_threads() -> int:
    """Number of OpenMP threads that OMP_NUM_THREADS asks for, else `compute_threads`."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdigit() else compute_threads()


# Environment variables that MXNet's libraries read while they are loaded, and their values. OMP_WAIT_POLICY
# is not set: with PASSIVE, threads sleep between the parallel regions of a step and wake late. On a two-core
# virtual machine that took 0.65 s per step instead of 0.20 s (SSD 160, width 0.5).
SETTINGS: Dict[str, Callable[[], str]] = {
    # MXNet's default is half of the logical CPUs, which is one thread on two physical cores.
    "OMP_NUM_THREADS": lambda: str(compute_threads()),
}


SMALL_STEP = 200_000.0
"""Work of a training step, in the unit of `tune_for_small_steps`, below which one thread is faster.

Measured on two cores with benchmarks/threads.py, see benchmarks/THREADS.md.
"""


def configure() -> List[str]:
    """Set the variables in `SETTINGS` that the user has not set; returns their names.

    If MXNet has been imported already, it sets none and warns.
    """
    unset = [variable for variable in SETTINGS if variable not in os.environ]
    if unset and "mxnet" in sys.modules:
        warnings.warn(
            f"mxnet was imported before mnssd, so that {', '.join(unset)} could not be set for this machine; "
            "import mnssd first",
            RuntimeWarning,
            stacklevel=3,
        )
        return []
    for variable in unset:
        os.environ[variable] = SETTINGS[variable]()
    _chosen.update(unset)
    return unset


_chosen: Set[str] = set()  # variables set by `configure`, not by the user


def original_environment() -> Dict[str, str]:
    """The environment without the variables set by `configure`, for a child process that sets its own."""
    return {name: value for name, value in os.environ.items() if name not in _chosen}


def tune_for_small_steps(pixels: float) -> bool:
    """Use one OpenMP thread if training steps are small; call it before MXNet is imported.

    The parallel regions of a small step are so short that threads mostly wait for each other. On two cores
    the second core is then better used to read images. More cores were not measured and keep their setting.
    `pixels` is the area of the network input times batch size times width multiplier.

    Returns whether one thread was chosen; never if the user has set OMP_NUM_THREADS.
    """
    is_late = "mxnet" in sys.modules
    if is_late or pixels >= SMALL_STEP or "OMP_NUM_THREADS" not in _chosen or usable_cores() > 2:
        return False
    os.environ["OMP_NUM_THREADS"] = "1"
    return True


SHORTEST, LONGEST, SAMPLE = 0.1, 60.0, 0.2
"""Seconds since the import after which its times say how busy the machine is, until which they do, and
seconds of a measurement otherwise."""


def used_by_others() -> float:
    """CPUs that other programs use, on average since the import or, if that is too long ago, now."""
    before, now = _first_times, load.cpu_times()
    if before and now and not SHORTEST <= now.clock - before.clock <= LONGEST:
        time.sleep(SAMPLE)
        before, now = now, load.cpu_times()
    return load.used_by_others(before, now)


def leave_busy_cores() -> int:
    """Compute with fewer threads if other programs use cores of this machine, and log that.

    In each parallel region all threads wait for one that shares its core, and OpenMP's sleep meanwhile: they
    wake up late. On two cores beside a program that used one of them, a training step took 6.3 s with two
    threads and 1.05 s with one (0.94 and 1.24 s on an idle machine; benchmarks/THREADS.md).

    Call it before MXNet is imported. Returns the number of threads; it does not change if the user has set
    OMP_NUM_THREADS.
    """
    threads = computing_threads()
    if "mxnet" in sys.modules or "OMP_NUM_THREADS" not in _chosen or threads == 1:
        return threads
    others = used_by_others()
    fitting = load.threads_beside(others, threads)
    if fitting < threads:
        os.environ["OMP_NUM_THREADS"] = str(fitting)
        _log.warning(
            "other programs use %.1f of %d CPUs, so this one computes with %d instead of %d threads, which "
            "would wait for each other; OMP_NUM_THREADS=%d keeps all",
            others, len(processor.allowed_cpus()), fitting, threads, threads,
        )  # fmt: skip
    return fitting


LARGE_BLOCK = 4 << 20
"""Smallest memory block, in bytes, that is returned to the system when freed."""


def release_freed_memory() -> bool:
    """Return freed memory blocks of at least `LARGE_BLOCK` bytes to the system, for long training runs.

    By default glibc comes to keep freed blocks of up to 32 MB, and fragmentation makes the process grow for
    some epochs. With this setting, training at 300x300 with batch size 16 stayed within 11 MB from the second
    to the tenth epoch, at 100 MB less.

    Returns whether it was set; never if the user has set MALLOC_MMAP_THRESHOLD_.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    import ctypes

    threshold = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
    try:
        return bool(ctypes.CDLL(None).mallopt(threshold, LARGE_BLOCK))
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False


def use_synchronous_engine() -> bool:
    """Run operators in the calling thread (MXNet's NaiveEngine), for inference on single images.

    Handing operators over to engine threads takes about 0.5 ms per image, a twentieth of MobileNetV2's time
    at 300x300. Training and evaluation keep the engine threads because they prepare images meanwhile.

    Call it before MXNet is imported. Returns whether it was set; never if the user has set MXNET_ENGINE_TYPE.
    """
    if "mxnet" in sys.modules or "MXNET_ENGINE_TYPE" in os.environ:
        return False
    os.environ["MXNET_ENGINE_TYPE"] = "NaiveEngine"
    return True


@functools.lru_cache(maxsize=None)
def start_engine_silently() -> None:
    """Start MXNet's engine, once, without its line on stderr.

    MXNet 1.9.1 announces any engine but the default ("MXNet start using engine: NaiveEngine"), and no setting
    prevents it. It writes from C++, so the file descriptor is redirected. To see it:
    ``MXNET_ENGINE_TYPE=NaiveEngine python -c "import mxnet; mxnet.nd.waitall()"``.
    """
    import mxnet as mx

    sys.stderr.flush()
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        mx.nd.waitall()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def describe() -> Dict[str, Any]:
    """Processor, cores, settings, system and versions, for logs, benchmarks and bug reports."""
    import mnssd

    packages = ("mxnet", "gluoncv", "numpy", "opencv-python-headless", "opencv-python")
    versions = {package: installed_version(package) for package in packages}
    return {
        "cpu": processor.model(),
        "instruction_set": processor.instruction_set(),
        "logical_cpus": os.cpu_count(),
        "usable_cores": usable_cores(),
        "settings": {variable: os.environ.get(variable) for variable in SETTINGS},
        "system": platform.platform(),
        "versions": {
            "mnssd": mnssd.__version__,
            "python": platform.python_version(),
            **{package: version for package, version in versions.items() if version},
        },
    }


def wait_all() -> None:
    """Wait for all MXNet operations; call it before reading the parameters of a network.

    In inference, a convolution of MXNet 1.9.1 that is not hybridized converts its weights to oneDNN's layout
    in place, unknown to the engine and possibly after the forward pass has returned. Reading them meanwhile
    returns a mixture of both layouts. To reproduce: run a MobileNetV2 once, read all arrays, call
    ``mx.nd.waitall()`` and read them again. In one of sixty networks an array differed.
    """
    import mxnet as mx

    mx.nd.waitall()


def check_context_name(name: str) -> None:
    """Raise OptionError if `name` is not one of `pick_context`. Does not import MXNet."""
    from ..errors import OptionError

    kind, colon, number = name.partition(":")
    if kind not in ("auto", "cpu", "gpu") or (colon and (kind != "gpu" or not number.isdigit())):
        raise OptionError(f"--ctx {name!r}: unknown context; use auto, cpu, gpu or gpu:N")


def pick_context(name: str = "auto") -> Any:
    """MXNet context by name: ``cpu``, ``gpu``, ``gpu:N``, or ``auto`` for the first GPU, else the CPU.

    Raises OptionError if the name is invalid, or MXNet does not find that GPU.
    """
    from ..errors import OptionError

    check_context_name(name)
    kind, _, number = name.partition(":")
    leave_busy_cores()
    import mxnet as mx

    if os.environ.get("MXNET_ENGINE_TYPE") == "NaiveEngine":
        start_engine_silently()
    if kind == "cpu":
        return mx.cpu()
    gpus = _gpu_count()
    if kind == "auto":
        return mx.gpu() if gpus else mx.cpu()
    index = int(number or 0)
    if not gpus:
        raise OptionError(
            f"--ctx {name}: MXNet found no GPU; use --ctx cpu, or a build with CUDA (mxnet-cu...), as the "
            "package `mxnet` runs on the CPU only"
        )
    if index >= gpus:
        raise OptionError(f"--ctx {name}: MXNet found {gpus} GPU(s); the last is gpu:{gpus - 1}")
    return mx.gpu(index)


def _gpu_count() -> int:
    import mxnet as mx

    try:
        return int(mx.context.num_gpus())
    except mx.MXNetError:  # a build with CUDA on a machine without its driver
        return 0


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and MXNet's global generators.

    Raises OptionError if the seed is not in 0..2**31 - 1, the range that all three accept.
    """
    from ..errors import OptionError

    if not 0 <= seed < 2**31:
        raise OptionError(f"--seed {seed}: expected an integer from 0 to {2**31 - 1}")
    import random

    import mxnet as mx
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
