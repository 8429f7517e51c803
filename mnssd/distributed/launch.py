"""Launcher of distributed training: MXNet's scheduler, its parameter servers, and the training processes."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO, Dict, List, Sequence

from ..errors import MnssdError, OptionError
from ..runtime import plugins, processor
from ..runtime.signals import SignalHandler

END_SECONDS = 5.0
"""Seconds between SIGTERM and SIGKILL."""

SAVE_SECONDS = 120.0
"""Seconds that the ranks have for the current step and a checkpoint after an interruption."""

HERE = ("localhost", "127.0.0.1")

TRAINING = "process"
"""Prefix of the names of training processes; MXNet numbers their ranks in the order in which they connect."""

SERVE = "import mxnet"
"""Program of schedulers and servers: with DMLC_ROLE set, MXNet 1.9.1 serves at import until the ranks end."""


class LaunchError(MnssdError):
    """A process of the run failed or was interrupted; all others have been ended."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.exit_code = status


@dataclass
class Process:
    """A started process."""

    name: str
    handle: subprocess.Popen  # the local process, perhaps ssh
    reader: threading.Thread  # prints the output


def launch(command: Sequence[str], processes: int, servers: int, hosts: Sequence[str] = ()) -> None:
    """Run a training command in several processes, until all ranks have finished.

    Raises LaunchError if a process fails, after the others were ended within `END_SECONDS`.

    Parameters
    ----------
    command : sequence of str
        A Python script or ``-m MODULE``, and its arguments.
    processes, servers : int
        Number of training processes and of parameter servers.
    hosts : sequence of str
        Machines to use in turn; none for this machine only. The project and its data are in the same place on
        all of them, and ssh needs no password.
    """
    hosts = list(hosts) or [HERE[0]]
    address = "127.0.0.1" if all(host in HERE for host in hosts) else _local_address(hosts)
    environment = {
        "DMLC_PS_ROOT_URI": address,
        "DMLC_PS_ROOT_PORT": str(_free_port(address)),
        "DMLC_NUM_WORKER": str(processes),
        "DMLC_NUM_SERVER": str(servers),
    }
    if address == "127.0.0.1":
        environment["DMLC_INTERFACE"] = "lo"
    per_host = -(-processes // len(hosts))
    serving = {**environment, "OMP_NUM_THREADS": "1"}
    training = dict(environment)
    if "OMP_NUM_THREADS" not in os.environ and per_host > 1:
        training["OMP_NUM_THREADS"] = str(max(1, processor.usable_cores() // per_host))
    serve, train = ["-c", SERVE], list(command)
    roles = [("scheduler", "scheduler", HERE[0], serve, serving)]
    roles += [(f"server {i}", "server", hosts[i % len(hosts)], serve, serving) for i in range(servers)]
    roles += [(f"{TRAINING} {i}", "worker", hosts[i % len(hosts)], train, training) for i in range(processes)]
    started: List[Process] = []
    with SignalHandler() as signals:
        try:
            for name, role, host, arguments, variables in roles:
                started.append(_start(name, host, arguments, {**variables, "DMLC_ROLE": role}))
            _watch(started, signals)
        finally:
            _end(started)


def _start(name: str, host: str, arguments: List[str], environment: Dict[str, str]) -> Process:
    full, own = [sys.executable, "-u", *arguments], {**os.environ, **environment}
    if host not in HERE:
        if plugins.VARIABLE in os.environ:
            environment = {plugins.VARIABLE: os.environ[plugins.VARIABLE], **environment}
        words = [f"{key}={value}" for key, value in environment.items()]
        remote = f"cd {shlex.quote(os.getcwd())} && exec env {shlex.join([*words, *full])}"
        # -tt: the remote process ends when this ssh is ended.
        full, own = ["ssh", "-tt", "-o", "BatchMode=yes", host, remote], dict(os.environ)
    handle = subprocess.Popen(
        full, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=own,
        start_new_session=True,
    )  # fmt: skip
    assert handle.stdout
    reader = threading.Thread(target=_prefix, args=(name, handle.stdout), daemon=True)
    reader.start()
    return Process(name, handle, reader)


def _prefix(name: str, output: IO[bytes]) -> None:
    """Print the lines of a process with its name in front."""
    for line in output:
        sys.stdout.write(f"[{name}] {line.decode('utf-8', 'replace').rstrip()}\n")
        sys.stdout.flush()


def _watch(processes: Sequence[Process], signals: SignalHandler) -> None:
    """Wait until all ranks have finished; raise LaunchError after a failure or an interruption."""
    ranks = [process for process in processes if process.name.startswith(TRAINING)]
    deadline = float("inf")
    while any(process.handle.poll() is None for process in ranks) and time.monotonic() < deadline:
        time.sleep(0.05)
        ending = deadline < float("inf")
        failed = [process for process in processes if process.handle.poll() not in (None, 0)]
        if signals.received is not None and not ending:
            deadline = time.monotonic() + SAVE_SECONDS
            _signal(ranks, signal.SIGTERM)
        elif failed and not ending:
            _raise(failed[0])
    if signals.received is not None:
        raise LaunchError("interrupted; all processes have ended", 128 + signals.received)
    for process in ranks:
        if process.handle.returncode:
            _raise(process)


def _raise(process: Process) -> None:
    process.reader.join(1)
    status = process.handle.returncode
    reason = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
    raise LaunchError(
        f"{process.name} {reason}; see its output above. All other processes of the run were ended",
        status if status > 0 else 128 - status,
    )


def _end(processes: Sequence[Process]) -> None:
    """Wait a moment for processes that end by themselves, then send SIGTERM, then SIGKILL."""
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        alive = [process for process in processes if process.handle.poll() is None]
        if number is not None:
            _signal(alive, number)
        trains = any(process.name.startswith(TRAINING) for process in alive)
        deadline = time.monotonic() + (0 if number is None and trains else END_SECONDS / 2)
        while time.monotonic() < deadline and any(process.handle.poll() is None for process in alive):
            time.sleep(0.05)
    for process in processes:
        process.reader.join(1)


def _signal(processes: Sequence[Process], number: int) -> None:
    """Send a signal to the process groups."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.handle.pid, number)


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise OptionError(f"{address}: not an address of this machine ({error.strerror})") from error
        return int(probe.getsockname()[1])


def _local_address(hosts: Sequence[str]) -> str:
    """Address of this machine in the network of the first remote host."""
    remote = next(host for host in hosts if host not in HERE).rpartition("@")[2]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((remote, 9))  # sends nothing; it only selects the interface
        except OSError as error:
            raise OptionError(f"{remote}: cannot be reached ({error}); check --hosts") from error
        return str(probe.getsockname()[0])
