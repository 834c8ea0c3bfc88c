"""The store's clock, by which requests are judged: that of this host may be wrong."""

from __future__ import annotations

import time


class StoreClock:
    """Tells the time of the store, as far as this host knows it. Until it is set, that is the host's own."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def set(self, store_ms: int) -> None:
        """Take note of what the store's clock says now, in ms since the epoch."""
        self._ahead_ms = store_ms - _host_ms()

    def now_ms(self) -> int:
        """Now, in ms since the epoch."""
        return _host_ms() + self._ahead_ms


def _host_ms() -> int:
    return time.time_ns() // 1_000_000
