"""Cores, instruction set and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional

import pytest

from mnssd.runtime import processor


def write_files(root: Path, files: Dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


class TestCores:
    @pytest.mark.parametrize(
        ("cpus", "cores"),
        [([0, 1, 2, 3], 2), ([0, 2], 1), ([0, 1], 2), ([3], 1), ([0, 1, 4], 3)],
    )
    def test_hyperthreads_share_a_core(self, tmp_path: Path, cpus: List[int], cores: int) -> None:
        """CPUs 0 and 2 share a core, 1 and 3 another; 4 is core 0 of a second package."""
        for cpu, (package, core) in enumerate([(0, 0), (0, 1), (0, 0), (0, 1), (1, 0)]):
            folder = f"sys/devices/system/cpu/cpu{cpu}/topology/"
            write_files(
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
                    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",  # the group as seen in the container
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
        write_files(tmp_path, files)
        assert processor.cgroup_cpu_quota(str(tmp_path)) == quota

    @pytest.mark.parametrize(("quota", "cores"), [(None, 8), (0.5, 1), (1.5, 2), (4.0, 4), (64.0, 8)])
    def test_tightest_limit_applies(
        self, quota: Optional[float], cores: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            processor, "_physical_cores", lambda cpus: {("0", str(core)) for core in range(8)}
        )
        monkeypatch.setattr(processor, "cgroup_cpu_quota", lambda: quota)
        assert processor.usable_cores() == cores


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
    def test_instruction_set(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        cpuinfo: Optional[str], block: int, name: str, fuses: bool,
    ) -> None:  # fmt: skip
        monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
        if cpuinfo is not None:
            write_files(tmp_path, {"proc/cpuinfo": cpuinfo})
        assert processor.channel_block(str(tmp_path)) == block
        assert processor.instruction_set(str(tmp_path)) == name
        assert processor.fuses_batchnorm_relu(str(tmp_path)) == fuses

    @pytest.mark.parametrize(
        ("flags", "has"),
        [("fpu avx2", False), ("fpu avx512f avx512_vnni", True), ("fpu avx2 avx_vnni", True), ("", True)],
    )
    def test_vnni(self, flags: str, has: bool, tmp_path: Path) -> None:
        write_files(tmp_path, {"proc/cpuinfo": f"flags : {flags}\n"})
        assert processor.has_vnni(str(tmp_path)) == has

    def test_process_memory(self) -> None:
        now, peak = processor.resident_megabytes(), processor.peak_megabytes()
        assert now is not None
        assert peak is not None
        total = processor.total_megabytes()
        assert total is not None
        assert 50 < now <= peak + 1 < total
