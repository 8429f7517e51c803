"""The environment check, the settings made before MXNet loads, contexts and seeds."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import mxnet as mx
import numpy as np
import pytest

from mnssd.errors import OptionError
from mnssd.runtime import environment, processor, settings

ROOT = Path(__file__).resolve().parents[2]


def python(
    code: str, *, flags: Sequence[str] = (), env: Optional[Dict[str, str]] = None
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter at the root of the repository, without the settings of this one."""
    clean = {key: value for key, value in os.environ.items() if key not in settings.SETTINGS}
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=ROOT,
        env={**clean, **(env or {})},
        capture_output=True,
        text=True,
    )


def fake_distribution(folder: Path, name: str, version: str) -> Dict[str, str]:
    """Metadata that is found before the real one's; the environment in which it is."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return {"PYTHONPATH": str(folder)}


class TestEnvironment:
    def test_import_loads_neither_mxnet_nor_numpy(self) -> None:
        heavy = "['mxnet', 'numpy', 'cv2', 'gluoncv', 'scipy']"
        done = python(f"import sys, mnssd; print([name for name in {heavy} if name in sys.modules])")
        assert done.stdout.strip() == "[]", done.stderr

    @pytest.mark.parametrize("version", ["1.24.0", "1.26.4", "2.0.0rc1"])
    def test_new_numpy_is_refused_before_mxnet_is_tried(self, tmp_path: Path, version: str) -> None:
        env = fake_distribution(tmp_path, "numpy", version)
        done = python("import mnssd", env=env)
        assert done.returncode == 1
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        (line,) = done.stderr.splitlines()
        assert f"NumPy {version}" in line
        assert line.endswith(f"{sys.executable} -m pip install numpy==1.23.5")

    @pytest.mark.parametrize("version", ["1.19.5", "1.23.5"])
    def test_old_numpy_is_accepted(self, tmp_path: Path, version: str) -> None:
        assert python("import mnssd", env=fake_distribution(tmp_path, "numpy", version)).returncode == 0

    def test_the_numpy_that_is_loaded_counts(self) -> None:
        """Its metadata may tell of another one, installed after this process began."""
        code = (
            "import sys, types\n"
            "sys.modules['numpy'] = types.ModuleType('numpy')\n"
            "sys.modules['numpy'].__version__ = '1.25.1'\n"
            "import mnssd"
        )
        assert "NumPy 1.25.1 is installed" in python(code).stderr

    @pytest.mark.parametrize("version", [(3, 7, 16), (3, 12, 1), (3, 13, 0), (4, 0, 0)])
    def test_unsuitable_python_is_refused(self, version: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(environment.sys, "version_info", (*version, "final", 0))
        monkeypatch.setattr(environment.sys, "excepthook", sys.excepthook)
        with pytest.raises(ImportError, match=r"needs Python 3\.8 to 3\.11.*(make setup|that `make` set up)"):
            environment.check_environment()

    @pytest.mark.parametrize("version", [(3, 8, 0), (3, 9, 18), (3, 10, 13), (3, 11, 99)])
    def test_suitable_python_is_accepted(self, version: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(environment.sys, "version_info", (*version, "final", 0))
        environment.check_environment()

    @pytest.mark.parametrize("module", ["mnssd", "mnssd.cli.main", "train_ssd", "eval_voc"])
    def test_programs_show_the_sentence_alone(self, module: str, tmp_path: Path) -> None:
        env = {**os.environ, **fake_distribution(tmp_path, "numpy", "1.26.4")}
        done = subprocess.run(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("error: NumPy 1.26.4 is installed")
        assert done.stderr.count("\n") == 1

    def test_missing_packages_are_named(self) -> None:
        done = python("import mnssd", flags=["-S"])  # -S: without site-packages
        assert done.returncode == 1
        assert done.stderr.startswith("error: mxnet and numpy not found by")
        assert "make" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_other_uncaught_errors_keep_their_traceback(self, tmp_path: Path) -> None:
        code = "try: import mnssd\nexcept ImportError: raise KeyError('another') from None"
        done = python(code, env=fake_distribution(tmp_path, "numpy", "1.26.4"))
        assert "Traceback" in done.stderr
        assert "KeyError: 'another'" in done.stderr

    def test_opencv_that_cannot_be_loaded(self, tmp_path: Path) -> None:
        """As where libGL is missing; GluonCV would say that MXNet is missing."""
        (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
        code = "from mnssd.cli.main import main; raise SystemExit(main(['shapes', '--output', '{}']))"
        done = python(code.format(tmp_path / "shapes"), env={"PYTHONPATH": str(tmp_path)})
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "OpenCV cannot be loaded (libGL.so.1: " in line
        assert f"{sys.executable} -m pip install opencv-python-headless==" in line

    def test_opencv_that_works(self) -> None:
        environment.check_opencv()


class TestSettings:
    PRINT = "import os, mnssd; print(os.environ[{!r}])"

    def test_are_made_before_mxnet_loads(self) -> None:
        names = sorted(settings.SETTINGS)
        done = python(f"import os, mnssd; print([name in os.environ for name in {names}])")
        assert eval(done.stdout) == [True] * len(names)

    @pytest.mark.parametrize("variable", sorted(settings.SETTINGS))
    @pytest.mark.parametrize("value", ["7", ""])
    def test_the_user_s_own_stay(self, variable: str, value: str) -> None:
        assert python(self.PRINT.format(variable), env={variable: value}).stdout == value + "\n"

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
    def test_threads_follow_the_affinity(self) -> None:
        pinned = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        assert python(pinned + self.PRINT.format("OMP_NUM_THREADS")).stdout == "1\n"

    def test_mxnet_takes_the_number_of_threads(self) -> None:
        """What OMP_NUM_THREADS is for: its OpenMP library must answer with it after the import."""
        code = (
            "import mnssd, mxnet, ctypes\n"
            "library = ctypes.CDLL(mxnet.libinfo.find_lib_path()[0])\n"
            "print(library.omp_get_max_threads(), mnssd.runtime.processor.usable_cores())"
        )
        threads, cores = python(code).stdout.split()
        assert threads == cores

    def test_too_late_is_told(self) -> None:
        code = "import sys, types; sys.modules['mxnet'] = types.ModuleType('mxnet')\nimport mnssd, os\n"
        code += "print('OMP_NUM_THREADS' in os.environ)"
        done = python(code, flags=["-W", "always"])
        assert done.stdout == "False\n"
        assert done.stderr.count("RuntimeWarning") == 1
        assert "import mnssd first" in done.stderr

    def test_too_late_matters_not_to_who_chose_himself(self) -> None:
        code = "import sys, types; sys.modules['mxnet'] = types.ModuleType('mxnet')\nimport mnssd"
        done = python(code, env=dict.fromkeys(settings.SETTINGS, "1"), flags=["-W", "error"])
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
            ("", 1e6, "2"),  # a large step wants all cores
            ("os.environ['OMP_NUM_THREADS'] = '2'", 1e5, "2"),  # the user's own choice
            ("import types; sys.modules['mxnet'] = types.ModuleType('mxnet')", 1e5, "2"),  # read already
            ("cores = 8", 1e5, "6"),  # not measured on more cores
        ],
    )
    def test_small_steps_get_one_thread(self, prepare: str, pixels: float, threads: str) -> None:
        before_mnssd = prepare if "environ" in prepare else ""
        after_mnssd = prepare if "modules" in prepare else ""
        cores = 8 if "cores" in prepare else 2
        done = python(
            f"import os, sys\n{before_mnssd}\nfrom mnssd import runtime\n"  # which has chosen already
            f"for name in settings._chosen: del os.environ[name]\n"
            f"settings.usable_cores = lambda: {cores}\nruntime.configure()\n{after_mnssd}\n"
            f"print(settings.suit_small_steps({pixels}), os.environ['OMP_NUM_THREADS'])"
        )
        assert done.stdout.split() == [str(threads == "1"), threads], done.stderr


def lay_out(root: Path, files: Dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


class TestCores:
    @pytest.mark.parametrize(
        ("cpus", "cores"),
        [([0, 1, 2, 3], 2), ([0, 2], 1), ([0, 1], 2), ([3], 1), ([0, 1, 4], 3)],
    )
    def test_hyper_threads_share_a_core(self, tmp_path: Path, cpus: List[int], cores: int) -> None:
        """CPUs 0 and 2 are one core, 1 and 3 another; 4 is core 0 of a second package."""
        for cpu, (package, core) in enumerate([(0, 0), (0, 1), (0, 0), (0, 1), (1, 0)]):
            folder = f"sys/devices/system/cpu/cpu{cpu}/topology/"
            lay_out(
                tmp_path, {folder + "physical_package_id": f"{package}\n", folder + "core_id": f"{core}\n"}
            )
        assert len(processor._physical_cores(cpus, str(tmp_path))) == cores

    def test_unknown_topology_counts_every_cpu(self, tmp_path: Path) -> None:
        assert len(processor._physical_cores([0, 1, 5], str(tmp_path))) == 3

    @pytest.mark.parametrize(
        ("files", "quota"),
        [
            ({}, None),
            ({"proc/self/cgroup": "0::/\n"}, None),
            ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
            ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
            (
                {
                    "proc/self/cgroup": "0::/a/b\n",
                    "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                    "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                },
                2.0,
            ),
            ({"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
            (
                {
                    "proc/self/cgroup": "12:pids:/p\n4:cpu,cpuacct:/docker/1f\n",
                    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",  # the container's own view of its group
                    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                },
                3.0,
            ),
            (
                {
                    "proc/self/cgroup": "4:cpu,cpuacct:/a\n",
                    "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n",
                    "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
                },
                None,
            ),
            ({"proc/self/cgroup": "2:cpuset:/a\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n"}, None),
        ],
    )
    def test_container_quota(self, tmp_path: Path, files: Dict[str, str], quota: Optional[float]) -> None:
        lay_out(tmp_path, files)
        assert processor.cgroup_cpu_quota(str(tmp_path)) == quota

    @pytest.mark.parametrize(("quota", "cores"), [(None, 8), (0.5, 1), (1.5, 2), (4.0, 4), (64.0, 8)])
    def test_the_tighter_limit_holds(
        self, quota: Optional[float], cores: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            processor, "_physical_cores", lambda cpus: {("0", str(core)) for core in range(8)}
        )
        monkeypatch.setattr(processor, "cgroup_cpu_quota", lambda: quota)
        assert processor.usable_cores() == cores

    def test_description_is_of_this_machine(self) -> None:
        facts = settings.describe()
        assert facts["versions"]["mxnet"] == mx.__version__
        assert facts["versions"]["numpy"] == np.__version__
        assert 1 <= facts["usable_cores"] <= facts["logical_cpus"]
        assert facts["settings"]["OMP_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"]


class TestContext:
    @pytest.mark.parametrize("name", ["", "cuda", "gpu:", "gpu:-1", "gpu:x", "cpu:1", "auto:0", "GPU"])
    def test_unknown_names(self, name: str) -> None:
        with pytest.raises(OptionError, match="auto, cpu, gpu or gpu:N"):
            settings.pick_context(name)

    @pytest.mark.parametrize("name", ["gpu", "gpu:0", "gpu:3"])
    def test_gpu_where_there_is_none(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mx.context, "num_gpus", lambda: 0)
        with pytest.raises(OptionError, match=f"--ctx {name}: .* sees no GPU"):
            settings.pick_context(name)

    def test_without_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mx.context, "num_gpus", lambda: 0)
        assert settings.pick_context() == settings.pick_context("cpu") == mx.cpu()

    def test_with_two_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mx.context, "num_gpus", lambda: 2)
        assert settings.pick_context("auto") == settings.pick_context("gpu") == mx.gpu(0)
        assert settings.pick_context("gpu:1") == mx.gpu(1)
        assert settings.pick_context("cpu") == mx.cpu()
        with pytest.raises(OptionError, match="the last is gpu:1"):
            settings.pick_context("gpu:2")

    def test_cuda_build_without_driver_is_a_cpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> int:
            raise mx.MXNetError("CUDA driver version is insufficient")

        monkeypatch.setattr(mx.context, "num_gpus", fail)
        assert settings.pick_context("auto") == mx.cpu()


class TestSeed:
    @staticmethod
    def draw() -> List[float]:
        return [random.random(), float(np.random.rand()), float(mx.nd.random.uniform().asscalar())]

    def test_every_generator_is_seeded(self) -> None:
        settings.seed_everything(5)
        first = self.draw()
        settings.seed_everything(5)
        assert self.draw() == first
        settings.seed_everything(6)
        assert all(a != b for a, b in zip(self.draw(), first))

    @pytest.mark.parametrize("seed", [0, 2**31 - 1])
    def test_ends_of_the_range(self, seed: int) -> None:
        settings.seed_everything(seed)

    @pytest.mark.parametrize("seed", [-1, 2**31])
    def test_outside_the_range(self, seed: int) -> None:
        with pytest.raises(OptionError, match=f"--seed {seed}"):
            settings.seed_everything(seed)


@pytest.mark.parametrize(
    ("cores", "omp", "computing", "reading"),
    [(1, None, 1, 0), (2, None, 2, 0), (2, "1", 2, 1), (8, None, 6, 2), (8, "8", 6, 0), (4, "2,1", 3, 1)],
)
def test_cores_are_shared_between_computing_and_images(monkeypatch, cores, omp, computing, reading):
    monkeypatch.setattr(settings, "usable_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if omp:
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
    assert settings.compute_threads() == computing
    assert settings.image_workers() == reading


class TestInstructionSet:
    @pytest.mark.parametrize(
        ("cpuinfo", "block", "name", "fuses"),
        [
            ("model name\t: A\nflags\t\t: fpu avx avx2 avx512f\n\nflags\t: fpu\n", 16, "AVX512F", True),
            ("model name\t: A\nflags\t\t: fpu sse4_1 avx avx2\n", 8, "AVX2", True),
            ("flags : fpu sse4_1 avx\n", 8, "AVX", False),
            ("flags : fpu sse4_1\n", 8, "SSE4_1", False),
            ("processor : 0\nFeatures : fp asimd\n", 16, "UNKNOWN", True),  # ARM
            (None, 16, "UNKNOWN", True),  # no Linux
        ],
    )
    def test_what_the_processor_can(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        cpuinfo: Optional[str], block: int, name: str, fuses: bool,
    ) -> None:  # fmt: skip
        monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
        if cpuinfo is not None:
            lay_out(tmp_path, {"proc/cpuinfo": cpuinfo})
        assert processor.channel_block(str(tmp_path)) == block
        assert processor.instruction_set(str(tmp_path)) == name
        assert processor.fuses_batchnorm_relu(str(tmp_path)) == fuses

    @pytest.mark.parametrize(
        ("flags", "has"),
        [("fpu avx2", False), ("fpu avx512f avx512_vnni", True), ("fpu avx2 avx_vnni", True), ("", True)],
    )
    def test_eight_bit_integers(self, flags: str, has: bool, tmp_path: Path) -> None:
        lay_out(tmp_path, {"proc/cpuinfo": f"flags : {flags}\n"})
        assert processor.has_vnni(str(tmp_path)) == has

    def test_memory_of_this_process(self) -> None:
        now, peak = processor.resident_megabytes(), processor.peak_megabytes()
        assert now is not None
        assert peak is not None
        assert 50 < now <= peak + 1


class TestSingleImages:
    def run(self, before: str = "", env: Optional[Dict[str, str]] = None) -> subprocess.CompletedProcess[str]:
        return python(
            f"import sys, os\n{before}\nfrom mnssd import runtime\nchosen = settings.suit_single_images()\n"
            "import mxnet as mx\nx = mx.nd.ones((2, 2))\n"
            "print(chosen, os.environ.get('MXNET_ENGINE_TYPE'), float((x + x).sum().asscalar()))\n"
            "print('still heard', file=sys.stderr)",
            env=env,
        )

    def test_the_engine_without_threads_starts_in_silence(self) -> None:
        done = self.run()
        assert done.stdout.split() == ["True", "NaiveEngine", "8.0"]
        assert done.stderr.strip() == "still heard"

    def test_the_users_engine_stays(self) -> None:
        done = self.run(env={"MXNET_ENGINE_TYPE": "ThreadedEngine"})
        assert done.stdout.split() == ["False", "ThreadedEngine", "8.0"]

    def test_too_late(self) -> None:
        done = self.run(before="import mnssd, mxnet")
        assert done.stdout.split() == ["False", "None", "8.0"], done.stderr
