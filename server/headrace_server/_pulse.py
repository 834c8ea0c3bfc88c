"""Health: the process is up (""), and the store answers (the service's name)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from grpc_health.v1 import health, health_pb2

from headrace_broker import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace_broker import Broker
    from headrace_server._clock import StoreClock

_Status = health_pb2.HealthCheckResponse

_log = structlog.get_logger("headrace_server.pulse")


class Pulse:
    """Feels the store's pulse, and tells the health service. Starts out as NOT_SERVING. Keeps the clock right, too."""

    def __init__(self, *, broker: Broker, services: Sequence[str], clock: StoreClock, every: float = 1.0) -> None:
        """`every`: seconds between two pings."""
        self.servicer = health.aio.HealthServicer()
        self._broker = broker
        self._services = services
        self._clock = clock
        self._every = every
        self._serving: bool | None = None

    async def run(self) -> None:
        """Ping for ever. Cancel it to stop."""
        while True:
            await self.beat()
            await asyncio.sleep(self._every)

    async def beat(self) -> None:
        """Ping once, and tell what came of it."""
        try:
            await self._broker.ping()
            self._clock.set(await self._broker.clock_ms())
        except StoreUnavailable:
            await self._tell(serving=False)
        else:
            await self._tell(serving=True)

    async def end(self) -> None:
        """Tell that nothing is served any more, from now on."""
        try:
            async with asyncio.timeout(self._every):
                await self.servicer.enter_graceful_shutdown()
        except TimeoutError:
            _log.warning("a client that watches the health does not read")

    async def _tell(self, *, serving: bool) -> None:
        if serving != self._serving:
            level = "info" if serving else "error"
            getattr(_log, level)("store answers" if serving else "store does not answer")
            self._serving = serving
        try:
            async with asyncio.timeout(self._every):  # the servicer waits for clients that do not read
                for service in self._services:
                    await self.servicer.set(service, _Status.SERVING if serving else _Status.NOT_SERVING)
        except TimeoutError:
            _log.warning("a client that watches the health does not read")
