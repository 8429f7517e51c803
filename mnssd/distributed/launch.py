"""Starting the processes of a run on many machines: MXNet's scheduler, its servers, and the workers."""

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
from ..runtime import processor
from ..train.checkpoint_manager import SignalHandler

END_SECONDS = 5.0
"""Between being asked to end and being made to."""

SAVE_SECONDS = 120.0
"""That workers have for the step and the checkpoint when the whole is interrupted."""

HERE = ("localhost", "127.0.0.1")

SERVE = "import mxnet"
"""With DMLC_ROLE set, this is a scheduler or a server, and ends when the workers have (MXNet 1.9.1)."""


class Failed(MnssdError):
    """A process of the run has failed, and all others were ended."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.exit_code = status


@dataclass
class Process:
    """One that was started: its name in the output, and the process here, which may be that of ssh."""

    name: str
    handle: subprocess.Popen
    reader: threading.Thread


def launch(command: Sequence[str], workers: int, servers: int, hosts: Sequence[str] = ()) -> None:
    """Run a training command in several processes; returns when all workers have ended well.

    Parameters
    ----------
    command : sequence of str
        A Python script and its arguments, or ``-m MODULE`` and its.
    workers, servers : int
    hosts : sequence of str
        Where, in turn; none for this machine alone. The project and its data lie in the same places on all of
        them, and ssh asks for nothing.

    Raises
    ------
    Failed
        When a process fails; the others are ended before, within `END_SECONDS`.
    """
    places = list(hosts) or [HERE[0]]
    address = "127.0.0.1" if all(place in HERE for place in places) else _address_towards(places)
    environment = {
        "DMLC_PS_ROOT_URI": address,
        "DMLC_PS_ROOT_PORT": str(_free_port(address)),
        "DMLC_NUM_WORKER": str(workers),
        "DMLC_NUM_SERVER": str(servers),
    }
    if address == "127.0.0.1":
        environment["DMLC_INTERFACE"] = "lo"
    on_one = -(-workers // len(places))
    serving = {**environment, "OMP_NUM_THREADS": "1"}
    training = dict(environment)
    if "OMP_NUM_THREADS" not in os.environ and on_one > 1:
        training["OMP_NUM_THREADS"] = str(max(1, processor.usable_cores() // on_one))
    processes: List[Process] = []
    with SignalHandler() as listener:
        try:
            processes.append(
                _start("scheduler", HERE[0], ["-c", SERVE], {**serving, "DMLC_ROLE": "scheduler"})
            )
            for number in range(servers):
                place = places[number % len(places)]
                role = {**serving, "DMLC_ROLE": "server"}
                processes.append(_start(f"server {number}", place, ["-c", SERVE], role))
            for number in range(workers):
                place = places[number % len(places)]
                role = {**training, "DMLC_ROLE": "worker"}
                processes.append(_start(f"worker {number}", place, list(command), role))
            _watch(processes, listener)
        finally:
            _end(processes)


def _start(name: str, host: str, arguments: List[str], environment: Dict[str, str]) -> Process:
    full, own = [sys.executable, "-u", *arguments], {**os.environ, **environment}
    if host not in HERE:
        words = [f"{key}={value}" for key, value in environment.items()]
        remote = f"cd {shlex.quote(os.getcwd())} && exec env {_quoted(words)} {_quoted(full)}"
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


def _quoted(words: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, words))


def _prefix(name: str, output: IO[bytes]) -> None:
    """Every line of a process with its name before it."""
    for line in output:
        sys.stdout.write(f"[{name}] {line.decode('utf-8', 'replace').rstrip()}\n")
        sys.stdout.flush()


def _watch(processes: Sequence[Process], listener: SignalHandler) -> None:
    """Until all workers have ended well; raises when one has not, or the whole is interrupted."""
    workers = [process for process in processes if process.name.startswith("worker")]
    until = float("inf")
    while any(process.handle.poll() is None for process in workers):
        time.sleep(0.05)
        asked = until < float("inf")
        if listener.heard is not None and not asked:
            until = time.monotonic() + SAVE_SECONDS
            _signal(workers, signal.SIGTERM)
            continue
        failed = [process for process in processes if process.handle.poll() not in (None, 0)]
        if failed and not asked:
            _raise(failed[0])
        if time.monotonic() > until:
            break
    if listener.heard is not None:
        raise Failed("interrupted; all processes have ended", 128 + listener.heard)
    for process in workers:
        if process.handle.returncode:
            _raise(process)


def _raise(process: Process) -> None:
    process.reader.join(1)
    status = process.handle.returncode
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    raise Failed(
        f"{process.name} {how}; see what it said above. All other processes of the run were ended",
        status if status > 0 else 128 - status,
    )


def _end(processes: Sequence[Process]) -> None:
    """Wait a moment for those that end by themselves, ask the others, then make them."""
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        living = [process for process in processes if process.handle.poll() is None]
        if number is not None:
            _signal(living, number)
        workers_live = any(process.name.startswith("worker") for process in living)
        until = time.monotonic() + (0 if number is None and workers_live else END_SECONDS / 2)
        while time.monotonic() < until and any(process.handle.poll() is None for process in living):
            time.sleep(0.05)
    for process in processes:
        process.reader.join(1)


def _signal(processes: Sequence[Process], number: int) -> None:
    """To each and whatever it has started."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.handle.pid, number)


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise OptionError(f"{address}: is no address of this machine ({error.strerror})") from error
        return int(probe.getsockname()[1])


def _address_towards(hosts: Sequence[str]) -> str:
    """This machine's address as the others see it."""
    other = next(host for host in hosts if host not in HERE).rpartition("@")[2]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((other, 9))  # sends nothing: it only chooses the way
        except OSError as error:
            raise OptionError(f"{other}: cannot be reached ({error}); see --hosts") from error
        return str(probe.getsockname()[0])
