"""What MXNet needs to find, thread settings, context, seeds. Of the other rooms it knows `processor` alone.

Nothing here loads MXNet or NumPy at import. The functions that need them import them inside.
This file and the package's ``__init__`` keep to syntax that Python 3.6 can read, so that an old Python, too,
gets `check_environment`'s sentence and no SyntaxError.
"""

import os
import platform
import sys
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from . import processor
from .processor import usable_cores

PYTHON_VERSIONS = ((3, 8), (3, 11))  # first and last: MXNet 1.9.1 imports `distutils`, gone in 3.12
NUMPY_CEILING = (1, 24)  # the first NumPy without `np.bool`, which MXNet 1.9.1 uses at import
NUMPY_PIN = "numpy==1.23.5"
OPENCV_PIN = "opencv-python-headless==4.11.0.86"


class UnsuitableEnvironment(ImportError):
    """This Python cannot run MXNet 1.9.1; the text says why and which command mends it."""


# ---- what MXNet needs to find ------------------------------------------------------------------------------


def check_environment() -> None:
    """Refuse a Python or a NumPy with which MXNet 1.9.1 would fail on import.

    Raises
    ------
    UnsuitableEnvironment
        An ImportError whose text names the fault and the one command that mends it. When nobody catches it,
        it is shown without a traceback, whose frames would only be those of our own import.
    """
    problem = _python_problem() or _package_problem()
    if problem:
        _show_without_traceback(UnsuitableEnvironment)
        raise UnsuitableEnvironment(problem)


def check_opencv() -> None:
    """Refuse an OpenCV that cannot be loaded.

    The usual case is a server without libGL and the wheel `opencv-python`, which GluonCV requires. GluonCV
    swallows that error and claims that MXNet is missing, so whoever sees an ImportError asks here first.

    Raises
    ------
    UnsuitableEnvironment
        With the command that puts the wheel without a window system in its place.
    """
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        command = _pip_install(OPENCV_PIN, "--force-reinstall", "--no-deps")
        raise UnsuitableEnvironment(f"OpenCV cannot be loaded ({error}). Mend it with: {command}") from error


def _python_problem() -> Optional[str]:
    first, last = PYTHON_VERSIONS
    if first <= tuple(sys.version_info[:2]) <= last:
        return None
    return (
        f"mnssd needs Python {_dotted(first)} to {_dotted(last)}, because MXNet 1.9.1 runs on no other; "
        f"this is Python {platform.python_version()} ({sys.executable}). {_set_up_anew()}"
    )


def _package_problem() -> Optional[str]:
    from importlib.util import find_spec

    missing = [name for name in ("mxnet", "numpy") if name not in sys.modules and not find_spec(name)]
    if missing:
        return f"{' and '.join(missing)} not found by {sys.executable}. {_set_up_anew()}"
    version = installed_version("numpy")
    if version is None or tuple(int(part) for part in version.split(".")[:2]) < NUMPY_CEILING:
        return None
    return (
        f"NumPy {version} is installed, but MXNet 1.9.1 fails with NumPy {_dotted(NUMPY_CEILING)} and later. "
        f"Mend it with: {_pip_install(NUMPY_PIN)}"
    )


def _set_up_anew() -> str:
    """The sentence for a Python that has not what mnssd needs; in a checkout `make` prepares one that has."""
    checkout = Path(__file__).resolve().parents[1]
    if not (checkout / "Makefile").is_file():
        return f"Install mnssd under Python {_dotted(PYTHON_VERSIONS[1])}, with: python3.11 -m pip install ."
    venv = checkout / ".venv"
    if (venv / "bin" / "python").exists() and Path(sys.prefix).resolve() != venv.resolve():
        return f"Use the Python that `make` set up: {venv / 'bin' / 'python'}"
    return "Mend it with: make setup (then use .venv/bin/python)"


def _pip_install(*what: str) -> str:
    return " ".join((sys.executable, "-m pip install") + what)


def _dotted(version: Tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _show_without_traceback(kind: type) -> None:
    """Let an uncaught `kind` print its text alone.

    Scripts, ``python -m`` and the console script all import this package before any code of ours could catch
    the error, hence the hook.
    """
    shown_before = sys.excepthook

    def hook(error_type: Any, error: Any, traceback: Any) -> None:
        if issubclass(error_type, kind):
            print(f"error: {error}", file=sys.stderr)
        else:
            shown_before(error_type, error, traceback)

    sys.excepthook = hook


def installed_version(package: str) -> Optional[str]:
    """The version of an installed distribution, without importing it; None if absent."""
    loaded = sys.modules.get(package)
    if package == "numpy" and loaded is not None:  # what is loaded counts, and the look-up below costs 30 ms
        return str(loaded.__version__)
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


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


def settle() -> None:
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
    from .errors import OptionError

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
    from .errors import OptionError

    if not 0 <= seed < 2**31:
        raise OptionError(f"--seed {seed}: use a whole number from 0 to {2**31 - 1}")
    import random

    import mxnet as mx
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    mx.random.seed(seed)
