"""Whether a server can be reached, found out in a few seconds."""

from __future__ import annotations

import socket
import threading
from typing import List, Optional, Tuple
from urllib.parse import urlsplit

from ..errors import DownloadError

PATIENCE = 2.5
"""Seconds for the name look-up and the TCP connection."""


def require_network(url: str, seconds: float = PATIENCE) -> None:
    """Raise DownloadError if the host of `url`, or the proxy for it, does not accept a connection in time.

    Without a network, the system's name look-up alone can take minutes, and it has no timeout; it therefore
    runs in a thread.
    """
    host, port = _endpoint(url)
    problems: List[Optional[str]] = []

    def connect() -> None:
        try:
            # Half of the time for each address, because IPv6 may be configured but lead nowhere.
            socket.create_connection((host, port), seconds / 2).close()
            problems.append(None)
        except (OSError, UnicodeError) as error:
            problems.append(getattr(error, "strerror", None) or str(error))

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    problem = problems[0] if problems else f"no connection within {seconds:g} s"
    if problem:
        raise DownloadError(f"{host} cannot be reached ({problem})")


def _endpoint(url: str) -> Tuple[str, int]:
    """Host and port to connect to: those of the proxy that the environment names, if any."""
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url))
    parts = urlsplit(url if not proxy else proxy if "://" in proxy else f"http://{proxy}")
    default = 443 if parts.scheme == "https" else 1080 if parts.scheme.startswith("socks") else 80
    return parts.hostname or "", parts.port or default
