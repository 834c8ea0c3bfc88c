"""What a handler says of its progress, on its way to the store: always the latest, at most ten times a second."""

from __future__ import annotations

import asyncio

import structlog

from headrace_broker import Broker, ClaimedJob, StoreFull, StoreUnavailable

INTERVAL = 0.1
"""Seconds between two writes for one job."""

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("headrace_worker")


class Progress:
    """The reports of one job. `report` may be called from any thread, the rest from the event loop alone."""

    def __init__(self, *, job: ClaimedJob, broker: Broker, loop: asyncio.AbstractEventLoop) -> None:
        self._job = job
        self._broker = broker
        self._loop = loop
        self._latest: tuple[float, str] | None = None
        self._woken = False
        self._writer: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def report(self, fraction: float, message: str) -> None:
        """Takes a report, in the place of the one before if that has not been written yet. Never waits."""
        self._latest = (fraction, message)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._wake)

    async def close(self) -> None:
        """Returns when the last report is written."""
        self._closing.set()
        if self._writer is not None:
            await self._writer
        await self._write_latest()

    def _wake(self) -> None:
        self._woken = False
        if self._writer is None and not self._closing.is_set():
            self._writer = asyncio.create_task(self._write(), name=f"progress {self._job.job_id}")

    async def _write(self) -> None:
        while self._latest is not None:
            await self._write_latest()
            try:
                async with asyncio.timeout(INTERVAL):
                    await self._closing.wait()
            except TimeoutError:
                continue
            break
        self._writer = None

    async def _write_latest(self) -> None:
        latest, self._latest = self._latest, None
        if latest is None:
            return
        fraction, message = latest
        try:
            await self._broker.report_progress(self._job.job_id, self._job.token, fraction=fraction, message=message)
        except (StoreUnavailable, StoreFull) as error:  # the job goes on; its watchers miss one report
            log.debug("progress not written", job_id=self._job.job_id, error=str(error))
