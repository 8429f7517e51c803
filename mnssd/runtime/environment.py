"""What MXNet 1.9.1 needs to find, and the sentence for whoever lacks it. Imports no other room.

This file, `processor`, `runtime` and the package's ``__init__`` keep to syntax that Python 3.6 can read, so
that an old Python, too, gets `check_environment`'s sentence and no SyntaxError.
"""

import platform
import sys
from pathlib import Path
from typing import Any, Optional, Tuple

PYTHON_VERSIONS = ((3, 8), (3, 11))  # first and last: MXNet 1.9.1 imports `distutils`, gone in 3.12
NUMPY_CEILING = (1, 24)  # the first NumPy without `np.bool`, which MXNet 1.9.1 uses at import
NUMPY_PIN = "numpy==1.23.5"
OPENCV_PIN = "opencv-python-headless==4.11.0.86"


class UnsuitableEnvironment(ImportError):
    """This Python cannot run MXNet 1.9.1; the text says why and which command mends it."""


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
    checkout = Path(__file__).resolve().parents[2]
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
