"""Keeps the background roles of a process running: named tasks, started again when they fail."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PAUSES = (0.1, 10.0)  # seconds: the first pause before a role is started again, and the longest

_log = structlog.get_logger("headrace_server.supervisor")


class Supervisor:
    """Owns the tasks of a process. Roles run until they are cancelled, so one that ends has failed."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, role: Callable[[], Awaitable[None]]) -> None:
        """Run a role under this name from now on."""
        self._tasks.append(asyncio.create_task(_keep(name, role), name=name))

    async def stop(self) -> None:
        """End all roles, the last one first, and wait for them. Safe to call again."""
        while self._tasks:
            task = self._tasks.pop()
            task.cancel()
            await asyncio.wait([task])


async def _keep(name: str, role: Callable[[], Awaitable[None]]) -> None:
    pause, longest = _PAUSES
    while True:
        try:
            await role()
        except Exception as error:  # noqa: BLE001  jobs are safe in the store; the role does its duty when it is back
            _log.error("role failed, and is started again", role=name, pause=pause, exc_info=error)
        else:
            _log.error("role ended, and is started again", role=name, pause=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)
