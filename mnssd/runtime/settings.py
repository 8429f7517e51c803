"""Settings for this machine, context, seeds.

Nothing here loads MXNet or NumPy at import. The functions that need them import them inside. Syntax as in
`environment`.
"""

import os
import platform
import sys
import warnings
from typing import Any, Callable, Dict, List, Set

from . import processor
from .environment import installed_version
from .processor import usable_cores

# ---- threads --------------------------------------------------------------------------


def compute_threads() -> int:
    """OpenMP threads: three quarters of the cores, on two cores both; the others are left for images.

    A training step is a thousand short parallel regions, and a computing thread that has lost its core to a
    reader holds up all others in each of them. On two cores it costs less to read between the steps.
    """
    cores = usable_cores()
    return cores - cores // 4


def image_workers() -> int:
    """Threads that read and augment images beside the computation: the cores that computing leaves."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    computing = int(threads) if threads.isdigit() else compute_threads()
    return max(0, usable_cores() - computing)


# Environment variables that MXNet's libraries read while they are loaded, and what mnssd sets them to.
# OMP_WAIT_POLICY stays unset: with PASSIVE, threads sleep between the thousand parallel regions of a step and
# are woken late. Measured on a two-core virtual machine: 0.65 s a step against 0.20 s (SSD 160, width 0.5).
SETTINGS: Dict[str, Callable[[], str]] = {
    # MXNet takes half of the logical CPUs, thinking of hyper-threads: on two real cores it runs one thread.
    "OMP_NUM_THREADS": lambda: str(compute_threads()),
}


# Measured on two cores with `benchmarks/threads.py`, see benchmarks/THREADS.md.
SMALL_STEP = 200_000.0


def configure() -> List[str]:
    """Set the variables of `SETTINGS` that the user has not set; to be called before MXNet is loaded.

    Returns
    -------
    list of str
        The variables that were set.

    Warns
    -----
    RuntimeWarning
        If MXNet is loaded already, so that variables the user has not set come too late.
    """
    unset = [variable for variable in SETTINGS if variable not in os.environ]
    if unset and "mxnet" in sys.modules:
        warnings.warn(
            f"mxnet was imported before mnssd, which could not choose {', '.join(unset)} for this machine; "
            "import mnssd first",
            RuntimeWarning,
            stacklevel=3,
        )
        return []
    for variable in unset:
        os.environ[variable] = SETTINGS[variable]()
    _chosen.update(unset)
    return unset


_chosen: Set[str] = set()  # what `configure` has set, so that nothing the user has set is changed


def users_environment() -> Dict[str, str]:
    """The environment as the user gave it, for a process of ours that is to choose for itself."""
    return {name: value for name, value in os.environ.items() if name not in _chosen}


def suit_small_steps(pixels: float) -> bool:
    """One computing thread where a training step is small; to be called before MXNet is loaded.

    The parallel regions of a small step are so short that the threads spend their time waiting for one
    another. On two cores the second thread then does more for reading images.

    Parameters
    ----------
    pixels : float
        Of the network input, times the batch, times the width multiplier: what a step's work grows with.

    Returns
    -------
    bool
        Whether the number of threads is now 1 by this choice. Never when the user has set OMP_NUM_THREADS.
    """
    late = "mxnet" in sys.modules
    # On more cores it was not measured, so nothing is changed there.
    if late or pixels >= SMALL_STEP or "OMP_NUM_THREADS" not in _chosen or usable_cores() > 2:
        return False
    os.environ["OMP_NUM_THREADS"] = "1"
    return True


LARGE_BLOCK = 4 << 20
"""Bytes from which on a block of memory goes back to the system as soon as it is freed."""


def return_freed_memory() -> bool:
    """Let large blocks of memory go back to the system when they are freed; for processes that run for hours.

    The C library of Linux begins to keep freed blocks of up to 32 MB for itself once it has seen some, and
    the memory of a training process grows for some epochs by what lies scattered. With `LARGE_BLOCK`, a
    detector at 300x300 and batch 16 stayed within 11 MB from its second epoch to its tenth, and 100 MB lower.

    Returns
    -------
    bool
        Whether the C library has agreed. Never when the user has set MALLOC_MMAP_THRESHOLD_.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    import ctypes

    threshold = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
    try:
        return bool(ctypes.CDLL(None).mallopt(threshold, LARGE_BLOCK))
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False


def suit_single_images() -> bool:
    """No threads between the program and the operators, where images are detected one after the other.

    MXNet hands every call over to threads of its engine, and the program sleeps until they have done; a
    program that has nothing else to do meanwhile loses half a millisecond by it, a twentieth of the time that
    MobileNetV2 takes for 300x300 pixels. Training and evaluation prepare images meanwhile, so they keep it.

    To be called before MXNet is loaded, and loads it.

    Returns
    -------
    bool
        Whether it is so by this choice. Never when the user has set MXNET_ENGINE_TYPE.
    """
    if "mxnet" in sys.modules or "MXNET_ENGINE_TYPE" in os.environ:
        return False
    os.environ["MXNET_ENGINE_TYPE"] = "NaiveEngine"
    start_engine_silently()
    return True


def start_engine_silently() -> None:
    """Start MXNet's engine without the line that it writes to stderr.

    MXNet 1.9.1 announces every engine but its default ("MXNet start using engine: NaiveEngine"), and no
    setting stops it; it writes from C++, so the file descriptor is turned away.
    """
    import mxnet as mx

    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        mx.nd.waitall()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def describe() -> Dict[str, Any]:
    """What a log or a benchmark says about the machine: processor, cores, settings, versions."""
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
    """Wait until MXNet has done everything, before the arrays of a network are read.

    In inference, a convolution of MXNet 1.9.1 that is not hybridized moves its weights into oneDNN's layout,
    in place, and later than the forward pass that asked for it. Who reads the array meanwhile gets a mixture
    of both layouts, for the engine knows of no writer. To see it: make a MobileNetV2, run it once, read every
    array, call ``mx.nd.waitall()`` and read them again. In one of sixty networks an array differed.
    """
    import mxnet as mx

    mx.nd.waitall()


# ---- context and seeds -------------------------------------------------------------------------------------


def pick_context(name: str = "auto") -> Any:
    """The MXNet context of a name.

    Parameters
    ----------
    name : str
        ``auto`` (the first GPU if MXNet sees one, else the CPU), ``cpu``, ``gpu`` or ``gpu:N``.

    Returns
    -------
    mxnet.Context

    Raises
    ------
    mnssd.errors.OptionError
        If the name is none of these, or asks for a GPU that MXNet does not see.
    """
    from ..errors import OptionError

    kind, colon, number = name.partition(":")
    if kind not in ("auto", "cpu", "gpu") or (colon and (kind != "gpu" or not number.isdigit())):
        raise OptionError(f"--ctx {name!r} is unknown; use auto, cpu, gpu or gpu:N")
    import mxnet as mx

    if kind == "cpu":
        return mx.cpu()
    gpus = _gpu_count()
    if kind == "auto":
        return mx.gpu() if gpus else mx.cpu()
    index = int(number or 0)
    if not gpus:
        raise OptionError(
            f"--ctx {name}: this MXNet sees no GPU (the package `mxnet` runs on the CPU only; "
            "the builds with CUDA are called mxnet-cu...). Use --ctx cpu"
        )
    if index >= gpus:
        raise OptionError(f"--ctx {name}: MXNet sees {gpus} GPU(s); the last is gpu:{gpus - 1}")
    return mx.gpu(index)


def _gpu_count() -> int:
    import mxnet as mx

    try:
        return int(mx.context.num_gpus())
    except mx.MXNetError:  # a build with CUDA on a machine without its driver
        return 0


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and MXNet's global generators.

    Raises
    ------
    mnssd.errors.OptionError
        If the seed is not in 0 .. 2**31 - 1, the range all three accept.
    """
    from ..errors import OptionError

    if not 0 <= seed < 2**31:
        raise OptionError(f"--seed {seed}: use a whole number from 0 to {2**31 - 1}")
    import random

    import mxnet as mx
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
