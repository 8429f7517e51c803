"""The machine: cores, instruction set, name, and this process's memory. Imports no other room.

It loads neither MXNet nor NumPy. Syntax as in `environment`.
"""

import math
import os
import platform
import sys
from pathlib import Path
from typing import List, Optional, Set, Tuple

# ---- cores -------------------------------------------------------------------------------------------------


def usable_cores() -> int:
    """The physical cores this process may use: by the scheduler's affinity and the container's CPU quota."""
    cores = len(_physical_cores(_allowed_cpus()))
    quota = cgroup_cpu_quota()
    # A quota of 1.5 CPUs is used up by two threads and not by one, hence the ceiling.
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _allowed_cpus() -> List[int]:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _physical_cores(cpus: List[int], root: str = "/") -> Set[Tuple[str, str]]:
    """The (package, core) pairs behind logical CPUs; one a CPU where Linux does not tell."""
    cores = set()
    for cpu in cpus:
        topology = Path(root) / "sys/devices/system/cpu" / f"cpu{cpu}" / "topology"
        package, core = _first_line(topology / "physical_package_id"), _first_line(topology / "core_id")
        cores.add((package, core) if package and core else ("cpu", str(cpu)))
    return cores


def cgroup_cpu_quota(root: str = "/") -> Optional[float]:
    """The CPUs that this process's control groups allow (``docker run --cpus``), None if there is no limit.

    Both versions of the interface are read, and each group up to the root, for the tightest limit holds:
    ``cpu.max`` (https://docs.kernel.org/admin-guide/cgroup-v2.html) and ``cpu.cfs_quota_us``
    (https://docs.kernel.org/scheduler/sched-bwc.html).
    """
    try:
        groups = (Path(root) / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = Path(root) / "sys/fs/cgroup" / ("cpu" if controllers else "")
        below = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(below) + 1):
            folder = mount.joinpath(*below[:depth])
            if controllers:
                pair = [_first_line(folder / "cpu.cfs_quota_us"), _first_line(folder / "cpu.cfs_period_us")]
            else:
                pair = _first_line(folder / "cpu.max").split()
            if len(pair) == 2 and all(part.isdigit() for part in pair):  # else "max", -1 or absent
                limits.append(int(pair[0]) / int(pair[1]))
    return min(limits, default=None)


def _first_line(path: Path) -> str:
    try:
        with open(str(path), encoding="utf-8") as file:
            return file.readline().strip()
    except OSError:
        return ""


# ---- instruction set ---------------------------------------------------------------------------------------


def channel_block(root: str = "/") -> int:
    """How many channels oneDNN keeps side by side: 16 float32 where the processor has AVX-512, 8 elsewhere.

    Its layouts are called nChw16c and nChw8c. Blocks of 16 are whole in both, so 16 is also the answer where
    the processor does not tell; only the time of a few channels of zeros is lost then. For the same reason
    an instruction set that is held down by DNNL_MAX_CPU_ISA is not asked for.
    """
    flags = _cpu_flags(root)
    return 8 if flags and "avx512f" not in flags else 16


def fuses_batchnorm_relu(root: str = "/") -> bool:
    """Whether oneDNN has machine code for a BatchNorm with its ReLU in training: from AVX2 on.

    Below it, it runs a reference implementation (``DNNL_VERBOSE=1`` shows ``bnorm_ref:any``): a training
    step of MobileNetV2 at 224 pixels, batch 8, took 31 seconds in place of 4.4, and its statistics, sums of
    all pixels in single precision, were less exact. An instruction set that is held down by DNNL_MAX_CPU_ISA
    counts here.
    """
    held_down = os.environ.get("DNNL_MAX_CPU_ISA", "").upper() in ("SSE41", "AVX")
    flags = _cpu_flags(root)
    return not held_down and (not flags or "avx2" in flags)


def has_vnni(root: str = "/") -> bool:
    """Whether the processor multiplies 8-bit integers into sums of 32 bits; True where it does not tell.

    Elsewhere oneDNN adds pairs of products in 16 bits, which overflow, or halves the weights to avoid it: the
    same 8-bit network gives other answers. To see it: ``tests/test_quantize.py`` without its marks.
    """
    flags = _cpu_flags(root)
    return not flags or bool({"avx512_vnni", "avx_vnni"} & set(flags))


def _cpu_flags(root: str) -> List[str]:
    """What the processor can do, in Linux's words; empty if unknown."""
    return _field("flags", root).split()


def model(root: str = "/") -> str:
    """The processor's name."""
    return _field("model name", root) or platform.processor() or platform.machine()


def instruction_set(root: str = "/") -> str:
    """The widest vectors that oneDNN can use here, for people to read."""
    flags = _cpu_flags(root)
    return next((name for name in ("avx512f", "avx2", "avx", "sse4_1") if name in flags), "unknown").upper()


def _field(name: str, root: str) -> str:
    """The first CPU's entry in Linux's description of the processors; empty if there is none."""
    try:
        with open(str(Path(root) / "proc/cpuinfo"), encoding="utf-8", errors="replace") as file:
            for line in file:
                key, colon, value = line.partition(":")
                if colon and key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""


# ---- memory ------------------------------------------------------------------------------------------------


def resident_megabytes() -> Optional[int]:
    """Resident memory of this process in MB; None where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return None
    import resource

    return pages * resource.getpagesize() // 2**20


def peak_megabytes() -> Optional[int]:
    """The most resident memory that this process has had, in MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak // (2**20 if sys.platform == "darwin" else 2**10))
