"""A line for each call that did not go well; during an outage, when all calls fail, one a second with their number."""

from __future__ import annotations

import asyncio

import structlog

EVERY = 1.0
"""Seconds in which one method has no more than two lines for one code: the first call, and the number of the rest."""
_FAULTS = frozenset({"UNKNOWN", "INTERNAL", "DATA_LOSS"})
_WELL = frozenset({"OK", "CANCELLED"})

_log = structlog.get_logger("headrace_server.calls")


class CallLog:
    """The lines of one method. Belongs to one event loop."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._more: dict[str, list[float]] = {}

    def tell(self, code: str, *, seconds: float, peer: str) -> None:
        """Logs a call: at debug level one that went well, else at once or with others, see EVERY."""
        ms = round(seconds * 1_000, 3)
        if code in _WELL:
            _log.debug("call", method=self._method, code=code, ms=ms, peer=peer)
        elif (more := self._more.get(code)) is not None:
            more.append(ms)
        else:
            self._line("call", code, ms=ms, peer=peer)
            self._more[code] = []
            self._later(code)

    def _later(self, code: str) -> None:
        asyncio.get_running_loop().call_later(EVERY, self._sum_up, code)

    def _sum_up(self, code: str) -> None:
        more = self._more.pop(code)
        if more:
            self._line("more calls like it", code, count=len(more), longest_ms=max(more))
            self._more[code] = []
            self._later(code)

    def _line(self, event: str, code: str, **facts: object) -> None:
        level = "error" if code in _FAULTS else "info"
        getattr(_log, level)(event, method=self._method, code=code, **facts)
