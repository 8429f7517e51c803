"""The check of Python, NumPy and OpenCV."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.interpreter import ROOT, run_python, write_distribution

from mnssd.runtime import environment


class TestCheckEnvironment:
    def test_package_imports_neither_mxnet_nor_numpy(self) -> None:
        heavy = "['mxnet', 'numpy', 'cv2', 'gluoncv', 'scipy']"
        done = run_python(f"import sys, mnssd; print([name for name in {heavy} if name in sys.modules])")
        assert done.stdout.strip() == "[]", done.stderr

    @pytest.mark.parametrize("version", ["1.24.0", "1.26.4", "2.0.0rc1"])
    def test_new_numpy_is_refused(self, tmp_path: Path, version: str) -> None:
        env = write_distribution(tmp_path, "numpy", version)
        done = run_python("import mnssd", env=env)
        assert done.returncode == 1
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        (line,) = done.stderr.splitlines()
        assert f"NumPy {version}" in line
        assert line.endswith(f"{sys.executable} -m pip install numpy==1.23.5")

    @pytest.mark.parametrize("version", ["1.19.5", "1.23.5"])
    def test_old_numpy_is_accepted(self, tmp_path: Path, version: str) -> None:
        assert run_python("import mnssd", env=write_distribution(tmp_path, "numpy", version)).returncode == 0

    def test_loaded_numpy_takes_precedence_over_metadata(self) -> None:
        code = (
            "import sys, types\n"
            "sys.modules['numpy'] = types.ModuleType('numpy')\n"
            "sys.modules['numpy'].__version__ = '1.25.1'\n"
            "import mnssd"
        )
        assert "NumPy 1.25.1" in run_python(code).stderr

    @pytest.mark.parametrize("version", [(3, 7, 16), (3, 12, 1), (3, 13, 0), (4, 0, 0)])
    def test_unsuitable_python_is_refused(self, version: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(environment.sys, "version_info", (*version, "final", 0))
        monkeypatch.setattr(environment.sys, "excepthook", sys.excepthook)
        with pytest.raises(ImportError, match=r"3\.8 .* 3\.11.*make"):
            environment.check_environment()

    @pytest.mark.parametrize("version", [(3, 8, 0), (3, 9, 18), (3, 10, 13), (3, 11, 99)])
    def test_suitable_python_is_accepted(self, version: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(environment.sys, "version_info", (*version, "final", 0))
        environment.check_environment()

    @pytest.mark.parametrize("module", ["mnssd", "mnssd.cli.main", "train_ssd", "eval_voc"])
    def test_programs_print_one_line(self, module: str, tmp_path: Path) -> None:
        env = {**os.environ, **write_distribution(tmp_path, "numpy", "1.26.4")}
        done = subprocess.run(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: NumPy 1.26.4")
        assert done.stderr.count("\n") == 1

    def test_missing_packages_are_named(self) -> None:
        done = run_python("import mnssd", flags=["-S"])  # -S: without site-packages
        assert done.returncode == 1
        assert done.stderr.startswith("error: mxnet and numpy")
        assert "make" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_other_uncaught_errors_keep_their_traceback(self, tmp_path: Path) -> None:
        code = "try: import mnssd\nexcept ImportError: raise KeyError('another') from None"
        done = run_python(code, env=write_distribution(tmp_path, "numpy", "1.26.4"))
        assert "Traceback" in done.stderr
        assert "KeyError: 'another'" in done.stderr

    def test_opencv_that_cannot_be_imported(self, tmp_path: Path) -> None:
        """As without libGL; GluonCV would report that MXNet is missing."""
        (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
        code = "from mnssd.cli.main import main; raise SystemExit(main(['shapes', '--output', '{}']))"
        done = run_python(code.format(tmp_path / "shapes"), env={"PYTHONPATH": str(tmp_path)})
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "libGL.so.1" in line
        assert f"{sys.executable} -m pip install opencv-python-headless==" in line

    def test_working_opencv_is_accepted(self) -> None:
        environment.check_opencv()
