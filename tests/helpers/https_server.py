"""An https server on localhost that serves given bytes, with faults on request; and tar files for it."""

from __future__ import annotations

import io
import ssl
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple


class Server(ThreadingHTTPServer):
    """Serves `files` over https; each request takes the next of `faults`.

    A fault is ``('cut', BYTES)``, ``('status', CODE)``, ``('redirect', URL)``, ``'no range'``,
    ``'wrong range'``, ``'no length'``, ``'endless'`` or None. `requests` lists the path and Range header of
    every request.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.files: Dict[str, bytes] = {}
        self.faults: List[Any] = []
        self.requests: List[Tuple[str, Optional[str]]] = []
        self.url = f"https://localhost:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that do not trust the certificate."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        range_header = self.headers.get("Range")
        self.server.requests.append((self.path, range_header))
        fault = self.server.faults.pop(0) if self.server.faults else None
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        if isinstance(fault, tuple) and fault[0] == "status":
            return self.send_error(fault[1])
        if isinstance(fault, tuple) and fault[0] == "redirect":
            self.send_response(302)
            self.send_header("Location", fault[1])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start = int(range_header[len("bytes=") : -1]) if range_header and fault != "no range" else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            shown = start + 1 if fault == "wrong range" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        if fault not in ("no length", "endless"):
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: fault[1]] if isinstance(fault, tuple) and fault[0] == "cut" else body)
        try:
            while fault == "endless":
                self.wfile.write(body)
        except OSError:  # the client has disconnected
            pass
        return None


def write_tar(path: Path, members: List[Any], mode: str = "w") -> Path:
    """Write a tar file of ``(name, content)`` pairs and of TarInfos."""
    with tarfile.open(path, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path
