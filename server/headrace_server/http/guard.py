"""Who may call: not a page on the internet that somebody opens on the machine where this server listens.

Such a page can make a browser send requests to 127.0.0.1. If they are of another origin, the browser says so. If the
page's own name has been pointed at 127.0.0.1 (DNS rebinding), the browser takes them for the page's own, and only the
Host header still tells the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from headrace_server.http.refusals import ForeignHost, ForeignOrigin

if TYPE_CHECKING:
    from starlette.datastructures import Headers

LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANY = "*"


class Guard:
    """`hosts`: the names that requests may be meant for, without ports, lower case; `*` for any. `origins`: those
    whose pages may call, beside the server's own; `*` for any.
    """

    def __init__(self, *, hosts: frozenset[str], origins: frozenset[str]) -> None:
        self._hosts = hosts
        self._origins = origins

    def check(self, headers: Headers) -> None:
        """Raises ForeignHost, ForeignOrigin."""
        host = headers.get("host", "").lower()
        if ANY not in self._hosts and _without_port(host) not in self._hosts:
            raise ForeignHost(host)
        origin = headers.get("origin")
        if origin is None or ANY in self._origins or origin in self._origins:
            return
        if urlsplit(origin).netloc.lower() != host:
            raise ForeignOrigin(origin)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
