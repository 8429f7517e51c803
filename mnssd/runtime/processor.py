"""The processor (cores, instruction set, name) and the memory of this process.

Imports neither MXNet nor NumPy; Python 3.6 syntax as in `environment`.
"""

import math
import os
import platform
import sys
from pathlib import Path
from typing import List, Optional, Set, Tuple


def usable_cores() -> int:
    """Number of physical cores that the scheduler affinity and the container's CPU quota allow."""
    cores = len(_physical_cores(allowed_cpus()))
    quota = cgroup_cpu_quota()
    # Rounded up: one thread cannot use a quota of 1.5 CPUs, two can.
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def allowed_cpus() -> List[int]:
    """Numbers of the logical CPUs that the scheduler affinity allows."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _physical_cores(cpus: List[int], root: str = "/") -> Set[Tuple[str, str]]:
    """(package, core) pairs of logical CPUs; every CPU is a core if the topology is unknown."""
    cores = set()
    for cpu in cpus:
        topology = Path(root) / "sys/devices/system/cpu" / f"cpu{cpu}" / "topology"
        package, core = _first_line(topology / "physical_package_id"), _first_line(topology / "core_id")
        cores.add((package, core) if package and core else ("cpu", str(cpu)))
    return cores


def cgroup_cpu_quota(root: str = "/") -> Optional[float]:
    """CPU limit of this process's control groups (``docker run --cpus``); None if unlimited.

    Reads both versions of the interface, and every group up to the root because the tightest limit applies:
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


def channel_block(root: str = "/") -> int:
    """Channels per block in oneDNN's float32 layouts: 16 (nChw16c) with AVX-512, else 8 (nChw8c).

    Multiples of 16 fill the blocks of both, so 16 is returned for unknown processors, and DNNL_MAX_CPU_ISA is
    ignored; that costs at most the time for a few channels of zeros.
    """
    flags = _cpu_flags(root)
    return 8 if flags and "avx512f" not in flags else 16


def fuses_batchnorm_relu(root: str = "/") -> bool:
    """Whether oneDNN has a fast kernel for training BatchNorm fused with ReLU, which needs AVX2.

    Without AVX2, or with a lower DNNL_MAX_CPU_ISA, it runs a reference kernel (``DNNL_VERBOSE=1`` shows
    ``bnorm_ref:any``): a training step of MobileNetV2 at 224 pixels, batch size 8, took 31 s instead of 4.4
    s, and its single-precision statistics were less exact.
    """
    limited = os.environ.get("DNNL_MAX_CPU_ISA", "").upper() in ("SSE41", "AVX")
    flags = _cpu_flags(root)
    return not limited and (not flags or "avx2" in flags)


def has_vnni(root: str = "/") -> bool:
    """Whether the processor accumulates 8-bit products in 32 bits (VNNI); True if unknown.

    Without VNNI, oneDNN adds pairs of products in 16 bits, which can overflow, or halves the weights to avoid
    that, so that the same int8 network has other outputs.
    """
    flags = _cpu_flags(root)
    return not flags or bool({"avx512_vnni", "avx_vnni"} & set(flags))


def _cpu_flags(root: str) -> List[str]:
    """CPU flags as Linux lists them; empty if unknown."""
    return _field("flags", root).split()


def model(root: str = "/") -> str:
    """Name of the processor."""
    return _field("model name", root) or platform.processor() or platform.machine()


def instruction_set(root: str = "/") -> str:
    """Widest vector extension that oneDNN can use, such as ``'AVX2'``."""
    flags = _cpu_flags(root)
    return next((name for name in ("avx512f", "avx2", "avx", "sse4_1") if name in flags), "unknown").upper()


def _field(name: str, root: str) -> str:
    """Field of the first CPU in /proc/cpuinfo; empty if absent."""
    try:
        with open(str(Path(root) / "proc/cpuinfo"), encoding="utf-8", errors="replace") as file:
            for line in file:
                key, colon, value = line.partition(":")
                if colon and key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ""


def total_megabytes() -> Optional[int]:
    """Memory of the machine in MB; None if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (AttributeError, OSError, ValueError):
        return None


def resident_megabytes() -> Optional[int]:
    """Resident memory of this process in MB; None if unknown."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
    except OSError:
        return None
    import resource

    return pages * resource.getpagesize() // 2**20


def peak_megabytes() -> Optional[int]:
    """Peak resident memory of this process in MB; None if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak // (2**20 if sys.platform == "darwin" else 2**10))
