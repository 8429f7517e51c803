"""A page in headless Chromium, driven by the DevTools protocol over pipes.

The protocol: https://chromedevtools.github.io/devtools-protocol/. Messages are JSON, each followed by a zero
byte.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ...errors import ExportError

EXECUTABLE = "CHROMIUM"
"""Environment variable: the executable to use; if it is empty, none."""

_NAMES = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)  # fmt: skip
_SECONDS = 120.0
"""Longest wait for an answer. Compiling a network or running a batch takes a few seconds."""

_OPTIONS = (
    "--headless", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check",
    "--disable-dev-shm-usage",  # containers have little shared memory
    "--disable-background-networking", "--disable-component-update", "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the page reaches no server
)  # fmt: skip

_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Python program that starts Chromium with two pipes as the file descriptors that it reads and writes."""

_LOADED = """new Promise(
  done => document.readyState === "complete" ? done() : addEventListener("load", () => done()))"""


def find_chromium() -> Optional[str]:
    """Path of Chromium or Chrome; None if there is none, and on Windows, where it has no such pipes."""
    if sys.platform == "win32":
        return None
    names = (os.environ[EXECUTABLE],) if EXECUTABLE in os.environ else _NAMES
    return next(filter(None, map(shutil.which, names)), None)


class ChromiumPage:
    """An HTML file in a Chromium of its own, which ends with this object. Several threads may use it.

    Raises
    ------
    ExportError
        If Chromium does not run, or the page has an error.
    """

    def __init__(self, path: Path, executable: str) -> None:
        self._path, self._executable = path, executable
        self._lock = threading.Lock()
        self._problems: List[str] = []
        self._pipe = _Pipe(executable)
        self._session: Dict[str, str] = {}
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Runtime", "Log"):
            self._call(f"{domain}.enable")
        self._call("Page.navigate", url=path.resolve().as_uri())
        self.evaluate(_LOADED)

    def evaluate(self, expression: str) -> Any:
        """Value of an expression in JavaScript, as JSON; promises are awaited.

        Raises
        ------
        ExportError
            If it throws, if the page has written to the console, or if Chromium has ended.
        """
        with self._lock:
            options = {"awaitPromise": True, "returnByValue": True}
            answer = self._call("Runtime.evaluate", expression=expression, **options)
        problems = [*self._problems, *([_text(answer)] if "exceptionDetails" in answer else [])]
        if problems:
            raise ExportError(f"{self._path}: {problems[0]}")
        return answer["result"].get("value")

    def _call(self, method: str, **params: Any) -> Dict[str, Any]:
        """Answer to a command. What the page reports meanwhile is added to the problems."""
        try:
            number = self._pipe.send({"method": method, "params": params, **self._session})
            end = time.monotonic() + _SECONDS
            while True:
                message = self._pipe.receive(end)
                if message.get("id") == number:
                    break
                if message["method"] in (
                    "Runtime.exceptionThrown",
                    "Runtime.consoleAPICalled",
                    "Log.entryAdded",
                ):
                    self._problems.append(_text(message["params"]))
        except (OSError, EOFError, ValueError) as error:
            raise ExportError(
                f"{self._path}: {self._executable} does not run it ({error}); set {EXECUTABLE} to another"
                " Chromium, or to nothing"
            ) from error
        if "error" in message:
            raise ExportError(f"{self._path}: {self._executable}: {method}: {message['error']['message']}")
        return dict(message["result"])


class _Pipe:
    """A process of Chromium, and the messages from and to it."""

    def __init__(self, executable: str) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        self._received, self._number = b"", 0
        profile = tempfile.mkdtemp(prefix="mnssd-chromium-")
        is_root = os.geteuid() == 0  # for whom Chromium has no sandbox
        options = [*_OPTIONS, *(["--no-sandbox"] if is_root else []), f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs_in), str(theirs_out), executable, *options],
            pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (theirs_in, theirs_out):
            os.close(end)
        weakref.finalize(self, _stop, process, (self._in, self._out), profile)

    def send(self, message: Dict[str, Any]) -> int:
        """Send a message; returns its number."""
        self._number += 1
        data = memoryview(json.dumps({"id": self._number, **message}).encode("ascii") + b"\0")
        while data:
            data = data[os.write(self._out, data) :]
        return self._number

    def receive(self, end: float) -> Dict[str, Any]:
        """The next message.

        Raises
        ------
        OSError
            If none comes until `end`, of `time.monotonic`.
        EOFError
            If Chromium has ended.
        ValueError
            If it is not JSON.
        """
        parts = [self._received]
        while b"\0" not in parts[-1]:
            if not select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"no answer for {_SECONDS:g} s")
            parts.append(os.read(self._in, 1 << 20))
            if not parts[-1]:
                raise EOFError("it has ended")
        message, self._received = b"".join(parts).split(b"\0", 1)
        return dict(json.loads(message))


def _stop(process: subprocess.Popen[bytes], ends: Tuple[int, int], profile: str) -> None:
    """End Chromium, which closes itself when its pipes are closed, and delete its files."""
    for end in ends:
        os.close(end)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(profile, ignore_errors=True)


def _text(details: Dict[str, Any]) -> str:
    """What an exception, a message on the console or an entry of the log says."""
    if "entry" in details:
        return str(details["entry"]["text"])
    if "exceptionDetails" in details:
        thrown = details["exceptionDetails"].get("exception", {})
        text = thrown.get("description") or thrown.get("value") or details["exceptionDetails"]["text"]
        return str(text).splitlines()[0]
    return " ".join(str(value.get("value", value.get("description", ""))) for value in details["args"])
