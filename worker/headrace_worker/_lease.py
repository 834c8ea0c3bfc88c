"""Keeps the leases of running jobs, from a thread of its own: a handler that blocks the event loop loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

import structlog

from headrace_broker import Broker, BrokerError, Held, Renewed, StoreFull, StoreUnavailable, WorkerInfo
from headrace_worker._outage import Outage
from headrace_worker._run import Run, Stop
from headrace_worker._threads import leave_signals_to_the_main_thread

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("headrace_worker")

LONGEST_SILENCE = 60.0
"""Seconds between two signs of life, however long the lease: without them a worker is taken for gone."""
GATHER = 0.05
"""Seconds that a hurried renewal waits for other reasons to hurry."""
AGAIN = 0.5
"""Seconds after a hurried renewal until the next one: a job may be ours by a claim whose reply was under way."""
_JOIN_PATIENCE = 10.0


class LeaseKeeper:
    """Renews all leases, and gives the worker's sign of life, at a third of the lease.

    A lease that could not be renewed is given up a sixth before its end, by this machine's monotonic clock: its job
    is stopped before another worker may start it. A renewal also tells which jobs are to be cancelled. `on_stop` is
    called on the event loop that called `start`.
    """

    def __init__(
        self,
        *,
        make_broker: Callable[[], Broker],
        info: WorkerInfo,
        held: Callable[[], list[Run]],
        on_stop: Callable[[Run, Stop], None],
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._make_broker = make_broker
        self._info = info
        self._held = held
        self._on_stop = on_stop
        self._on_death = on_death
        self._workers_loop: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._wake = asyncio.Event()
        self._hurried = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="lease-keeper", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._workers_loop = asyncio.get_running_loop()
        self._thread.start()

    def hurry(self) -> None:
        """Has all leases renewed now, since one of the jobs may have been cancelled. Safe to call from any thread."""
        self._tell(self._hurried)

    async def stop(self) -> None:
        """Ends the thread, and waits for it. Safe to call twice, and before the start."""
        self._stopping.set()
        self._tell(self._wake)
        if self._workers_loop is not None:
            await asyncio.to_thread(self._thread.join, _JOIN_PATIENCE)

    def _tell(self, event: asyncio.Event) -> None:
        if self._loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._loop.call_soon_threadsafe(event.set)

    def _main(self) -> None:
        leave_signals_to_the_main_thread()
        try:
            asyncio.run(self._work())
        except BaseException as error:  # noqa: BLE001  without this thread all jobs would be lost: the worker must hear of it
            self._call(self._on_death, error)

    async def _work(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._make_broker() as broker:
            duties = [
                asyncio.create_task(self._renew_forever(broker), name="renew"),
                asyncio.create_task(self._fence_forever(broker.lease_ms / 1000), name="fence"),
                asyncio.create_task(self._until_stopped(), name="until-stopped"),
            ]
            done, rest = await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            await asyncio.wait(rest)
            for task in done:
                task.result()

    async def _until_stopped(self) -> None:
        if not self._stopping.is_set():
            await self._wake.wait()

    async def _renew_forever(self, broker: Broker) -> None:
        lease = broker.lease_ms / 1000
        outage = Outage(role="lease keeper", longest=min(1.0, lease / 12))
        pause = usual = min(lease / 3, LONGEST_SILENCE)
        while True:
            try:
                await self.renew(broker)
            except (StoreUnavailable, StoreFull) as error:
                await outage.pause(error)
            else:
                outage.over()
                hurried = await self._rest(pause)
                pause = min(AGAIN, usual) if hurried else usual

    async def _rest(self, seconds: float) -> bool:
        """Waits until the next renewal. True where it was hurried."""
        try:
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(GATHER)
        self._hurried.clear()
        return True

    async def renew(self, broker: Broker) -> None:
        """Renews all leases once. Raises StoreUnavailable or StoreFull where some could not be: soon again."""
        now = time.monotonic()
        runs = [run for run in self._held() if now < run.renew_until]
        kept = await broker.renew(
            worker=self._info,
            held=[Held(job_id=run.job.job_id, token=run.job.token) for run in runs],
            within=broker.lease_ms / 4_000,
        )
        failure: BrokerError | None = None
        for run, renewed in zip(runs, kept, strict=True):
            if isinstance(renewed, BrokerError):
                failure = renewed
                continue
            if renewed is Renewed.LOST:
                self._call(self._on_stop, run, Stop.LOST)
                continue
            run.leased_until = now + broker.lease_ms / 1000
            if renewed is Renewed.CANCELLED and run.stop is None:
                self._call(self._on_stop, run, Stop.CANCELLED)
        if failure is not None:
            raise failure

    async def _fence_forever(self, lease: float) -> None:
        while True:
            await asyncio.sleep(lease / 24)
            limit = time.monotonic() + lease / 6
            for run in self._held():
                if run.leased_until < limit and run.stop is None:
                    self._call(self._on_stop, run, Stop.FENCED)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        assert self._workers_loop is not None
        try:
            self._workers_loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the worker's loop is closed: there is nobody to tell any more
            return
