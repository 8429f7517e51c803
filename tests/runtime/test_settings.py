"""Thread and engine settings, context and random seeds."""

from __future__ import annotations

import os
import random
import re
import subprocess
import warnings
from typing import Dict, List, Optional

import mxnet as mx
import numpy as np
import pytest
from helpers.interpreter import run_python

from mnssd.errors import OptionError
from mnssd.runtime import settings


class TestSettings:
    PRINT = "import os, mnssd; print(os.environ[{!r}])"

    def test_variables_are_set_on_import(self) -> None:
        names = sorted(settings.SETTINGS)
        done = run_python(f"import os, mnssd; print([name in os.environ for name in {names}])")
        assert eval(done.stdout) == [True] * len(names)

    @pytest.mark.parametrize("variable", sorted(settings.SETTINGS))
    @pytest.mark.parametrize("value", ["7", ""])
    def test_user_settings_are_kept(self, variable: str, value: str) -> None:
        assert run_python(self.PRINT.format(variable), env={variable: value}).stdout == value + "\n"

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
    def test_threads_follow_the_affinity(self) -> None:
        pinned = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        assert run_python(pinned + self.PRINT.format("OMP_NUM_THREADS")).stdout == "1\n"

    def test_mxnet_uses_the_number_of_threads(self) -> None:
        code = (
            "import mnssd, mxnet, ctypes\n"
            "library = ctypes.CDLL(mxnet.libinfo.find_lib_path()[0])\n"
            "print(library.omp_get_max_threads(), mnssd.runtime.processor.usable_cores())"
        )
        threads, cores = run_python(code).stdout.split()
        assert threads == cores

    def test_late_import_warns(self) -> None:
        code = "import sys, types; sys.modules['mxnet'] = types.ModuleType('mxnet')\nimport mnssd, os\n"
        code += "print('OMP_NUM_THREADS' in os.environ)"
        done = run_python(code, flags=["-W", "always"])
        assert done.stdout == "False\n"
        assert done.stderr.count("RuntimeWarning") == 1
        assert "OMP_NUM_THREADS" in done.stderr

    def test_late_import_with_user_settings_is_silent(self) -> None:
        code = "import sys, types; sys.modules['mxnet'] = types.ModuleType('mxnet')\nimport mnssd"
        done = run_python(code, env=dict.fromkeys(settings.SETTINGS, "1"), flags=["-W", "error"])
        assert (done.returncode, done.stderr) == (0, "")

    def test_second_call_changes_nothing(self) -> None:
        before = dict(os.environ)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert settings.configure() == []
        assert dict(os.environ) == before

    @pytest.mark.parametrize(
        ("prepare", "pixels", "threads"),
        [
            ("", 1e5, "1"),
            ("", 1e6, "2"),  # large steps use all cores
            ("os.environ['OMP_NUM_THREADS'] = '2'", 1e5, "2"),  # set by the user
            ("import types; sys.modules['mxnet'] = types.ModuleType('mxnet')", 1e5, "2"),  # already imported
            ("cores = 8", 1e5, "6"),  # not measured on more cores
        ],
    )
    def test_small_steps_use_one_thread(self, prepare: str, pixels: float, threads: str) -> None:
        before_mnssd = prepare if "environ" in prepare else ""
        after_mnssd = prepare if "modules" in prepare else ""
        cores = 8 if "cores" in prepare else 2
        done = run_python(
            f"import os, sys\n{before_mnssd}\nfrom mnssd.runtime import settings\n"
            f"for name in settings._chosen: del os.environ[name]\n"
            f"settings.usable_cores = lambda: {cores}\nsettings.configure()\n{after_mnssd}\n"
            f"print(settings.tune_for_small_steps({pixels}), os.environ['OMP_NUM_THREADS'])"
        )
        assert done.stdout.split() == [str(threads == "1"), threads], done.stderr


@pytest.mark.parametrize(
    ("cores", "omp", "computing", "reading"),
    [(1, None, 1, 0), (2, None, 2, 0), (2, "1", 2, 1), (8, None, 6, 2), (8, "8", 6, 0), (4, "2,1", 3, 1)],
)
def test_cores_are_split_between_computing_and_reading(
    monkeypatch: pytest.MonkeyPatch, cores: int, omp: Optional[str], computing: int, reading: int
) -> None:
    monkeypatch.setattr(settings, "usable_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if omp:
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
    assert settings.compute_threads() == computing
    assert settings.image_workers() == reading


class TestSynchronousEngine:
    def run(self, before: str = "", env: Optional[Dict[str, str]] = None) -> subprocess.CompletedProcess[str]:
        return run_python(
            f"import sys, os\n{before}\nfrom mnssd.runtime import settings\n"
            "chosen = settings.use_synchronous_engine()\n"
            "import mxnet as mx\nsettings.pick_context('cpu')\nx = mx.nd.ones((2, 2))\n"
            "print(chosen, os.environ.get('MXNET_ENGINE_TYPE'), float((x + x).sum().asscalar()))\n"
            "print('stderr works', file=sys.stderr)",
            env={"OMP_NUM_THREADS": "1", **(env or {})},  # no note about other programs
        )

    def test_engine_starts_silently(self) -> None:
        done = self.run()
        assert done.stdout.split() == ["True", "NaiveEngine", "8.0"]
        assert done.stderr.strip() == "stderr works"

    def test_user_setting_is_kept(self) -> None:
        done = self.run(env={"MXNET_ENGINE_TYPE": "ThreadedEngine"})
        assert done.stdout.split() == ["False", "ThreadedEngine", "8.0"]

    def test_late_call_changes_nothing(self) -> None:
        done = self.run(before="import mnssd, mxnet")
        assert done.stdout.split() == ["False", "None", "8.0"], done.stderr


def test_describe() -> None:
    facts = settings.describe()
    assert facts["versions"]["mxnet"] == mx.__version__
    assert facts["versions"]["numpy"] == np.__version__
    assert 1 <= facts["usable_cores"] <= facts["logical_cpus"]
    assert facts["settings"]["OMP_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"]


class TestContext:
    @pytest.mark.parametrize("name", ["", "cuda", "gpu:", "gpu:-1", "gpu:x", "cpu:1", "auto:0", "GPU"])
    def test_unknown_name_is_refused(self, name: str) -> None:
        with pytest.raises(OptionError, match=re.escape(repr(name))):
            settings.pick_context(name)

    @pytest.mark.parametrize("name", ["gpu", "gpu:0", "gpu:3"])
    def test_missing_gpu_is_refused(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mx.context, "num_gpus", lambda: 0)
        with pytest.raises(OptionError, match=f"--ctx {name}"):
            settings.pick_context(name)

    def test_auto_without_gpu_is_cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mx.context, "num_gpus", lambda: 0)
        assert settings.pick_context() == settings.pick_context("cpu") == mx.cpu()

    def test_gpu_by_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mx.context, "num_gpus", lambda: 2)
        assert settings.pick_context("auto") == settings.pick_context("gpu") == mx.gpu(0)
        assert settings.pick_context("gpu:1") == mx.gpu(1)
        assert settings.pick_context("cpu") == mx.cpu()
        with pytest.raises(OptionError, match=r"gpu:2.* gpu:1"):
            settings.pick_context("gpu:2")

    def test_cuda_build_without_driver_uses_the_cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> int:
            raise mx.MXNetError("CUDA driver version is insufficient")

        monkeypatch.setattr(mx.context, "num_gpus", fail)
        assert settings.pick_context("auto") == mx.cpu()


class TestSeed:
    @staticmethod
    def draw() -> List[float]:
        return [random.random(), float(np.random.rand()), float(mx.nd.random.uniform().asscalar())]

    def test_all_generators_are_seeded(self) -> None:
        settings.seed_everything(5)
        first = self.draw()
        settings.seed_everything(5)
        assert self.draw() == first
        settings.seed_everything(6)
        assert all(a != b for a, b in zip(self.draw(), first))

    @pytest.mark.parametrize("seed", [0, 2**31 - 1])
    def test_smallest_and_largest_seed(self, seed: int) -> None:
        settings.seed_everything(seed)

    @pytest.mark.parametrize("seed", [-1, 2**31])
    def test_seed_outside_the_range_is_refused(self, seed: int) -> None:
        with pytest.raises(OptionError, match=f"--seed {seed}"):
            settings.seed_everything(seed)
