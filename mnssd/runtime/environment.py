"""Check of Python, NumPy and OpenCV, with the command that fixes each problem.

This file, `processor`, `settings` and the package's ``__init__`` use Python 3.6 syntax, so that an old Python
prints the message of `check_environment` instead of a SyntaxError.
"""

import platform
import sys
from pathlib import Path
from typing import Any, Optional, Tuple

PYTHON_VERSIONS = ((3, 8), (3, 11))  # first and last; MXNet 1.9.1 imports `distutils`, removed in 3.12
NUMPY_CEILING = (1, 24)  # the first NumPy without `np.bool`, which MXNet 1.9.1 uses when imported
NUMPY_PIN = "numpy==1.23.5"
OPENCV_PIN = "opencv-python-headless==4.11.0.86"


class UnsuitableEnvironment(ImportError):
    """MXNet 1.9.1 cannot run here; the message has the reason and the command that fixes it."""


def check_environment() -> None:
    """Raise UnsuitableEnvironment if MXNet 1.9.1 cannot be imported with this Python and NumPy.

    If uncaught, the error is printed without a traceback.
    """
    problem = _python_problem() or _package_problem()
    if problem:
        _show_without_traceback(UnsuitableEnvironment)
        raise UnsuitableEnvironment(problem)


def check_opencv() -> None:
    """Raise UnsuitableEnvironment if OpenCV cannot be imported.

    The wheel `opencv-python`, which GluonCV requires, cannot be imported on a server without libGL; the error
    has the command that installs the wheel without GUI support. GluonCV hides the ImportError and reports
    that MXNet is missing, so call this first after any ImportError.
    """
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        command = _pip_install(OPENCV_PIN, "--force-reinstall", "--no-deps")
        raise UnsuitableEnvironment(f"OpenCV cannot be imported ({error}). Fix it with: {command}") from error


def _python_problem() -> Optional[str]:
    first, last = PYTHON_VERSIONS
    if first <= tuple(sys.version_info[:2]) <= last:
        return None
    return (
        f"mnssd needs Python {_dotted(first)} to {_dotted(last)}, the versions that MXNet 1.9.1 supports; "
        f"this is Python {platform.python_version()} ({sys.executable}). {_setup_hint()}"
    )


def _package_problem() -> Optional[str]:
    from importlib.util import find_spec

    missing = [name for name in ("mxnet", "numpy") if name not in sys.modules and not find_spec(name)]
    if missing:
        return f"{' and '.join(missing)} not found by {sys.executable}. {_setup_hint()}"
    version = installed_version("numpy")
    if version is None or tuple(int(part) for part in version.split(".")[:2]) < NUMPY_CEILING:
        return None
    return (
        f"NumPy {version} is installed, but MXNet 1.9.1 fails with NumPy {_dotted(NUMPY_CEILING)} and later. "
        f"Fix it with: {_pip_install(NUMPY_PIN)}"
    )


def _setup_hint() -> str:
    """How to get a suitable Python; in a checkout, `make` prepares one."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "Makefile").is_file():
        return f"Install mnssd under Python {_dotted(PYTHON_VERSIONS[1])}: python3.11 -m pip install ."
    venv = checkout / ".venv"
    if (venv / "bin" / "python").exists() and Path(sys.prefix).resolve() != venv.resolve():
        return f"Use the Python prepared by `make`: {venv / 'bin' / 'python'}"
    return "Fix it with: make setup (then use .venv/bin/python)"


def _pip_install(*arguments: str) -> str:
    return " ".join((sys.executable, "-m pip install") + arguments)


def _dotted(version: Tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _show_without_traceback(kind: type) -> None:
    """Print an uncaught `kind` as one line.

    A hook is needed because scripts, ``python -m`` and the console script import this package before any of
    its code could catch the error.
    """
    previous_hook = sys.excepthook

    def hook(error_type: Any, error: Any, traceback: Any) -> None:
        if issubclass(error_type, kind):
            print(f"error: {error}", file=sys.stderr)
        else:
            previous_hook(error_type, error, traceback)

    sys.excepthook = hook


def installed_version(package: str) -> Optional[str]:
    """Version of an installed distribution, without importing it; None if it is not installed."""
    loaded = sys.modules.get(package)
    if package == "numpy" and loaded is not None:  # its version counts, and the search below takes 30 ms
        return str(loaded.__version__)
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
