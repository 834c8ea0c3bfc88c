"""The worker process: builds every role, runs them, and stops them in order."""

from __future__ import annotations

import asyncio
import math
import os
import re
import secrets
import socket
from collections.abc import Coroutine
from importlib import metadata

import structlog

from headrace_broker import (
    BrokerError,
    CannotStart,
    Maintenance,
    Subscription,
    WorkerInfo,
    await_store,
    open_broker,
    unless_stopped,
)
from headrace_worker._child import Logs
from headrace_worker._consumer import Consumer
from headrace_worker._executor import Executor
from headrace_worker._finisher import Finisher
from headrace_worker._lease import LeaseKeeper
from headrace_worker._processes import Processes
from headrace_worker._run import PATIENCE, Stop
from headrace_worker._runs import Runs
from headrace_worker._slots import Slots
from headrace_worker.settings import WorkerSettings
from headrace_worker.worker import Worker

DAY_MS = 24 * 60 * 60 * 1000
CLAIM_BATCH = 200
"""Jobs that one claim takes at the most, so that no script keeps the store busy for long. With several shards it is
each one's share of the slots, so that one shard that cannot be reached does not hold them all.
"""
LAST_WRITES = 5.0
"""Seconds that outcomes get to be written after the last handler has been stopped."""

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("headrace_worker")


class App:
    """One life of a worker: from the first look at the store to the last outcome written."""

    def __init__(self, *, worker: Worker, settings: WorkerSettings) -> None:
        """Builds everything; connects to nothing.

        Raises:
            CannotStart: the worker has no handlers, or one that cannot be run, or the store's URL cannot be read.
        """
        _check_handlers(worker)
        self._settings = settings
        self._broker = open_broker(settings)
        self.info = _info(worker, settings)
        self._types = sorted(worker.handlers)
        slots = Slots(self.info.concurrency)
        self._finisher = Finisher(broker=self._broker)
        logs = Logs(format=settings.log_format, level=settings.log_level)
        processes = Processes(size=worker.processes, logs=logs, limit=settings.max_result)
        executor = Executor(
            handlers=worker.handlers, broker=self._broker, processes=processes, limit=settings.max_result
        )
        self._runs = Runs(executor=executor, finisher=self._finisher, slots=slots)
        self._consumers = [
            Consumer(
                broker=self._broker,
                shard=shard,
                worker_id=self.info.worker_id,
                queues=self.info.queues,
                slots=slots,
                batch=min(CLAIM_BATCH, math.ceil(self.info.concurrency / self._broker.shards)),
                start=self._runs.start,
                give_back=self._runs.give_back,
            )
            for shard in range(self._broker.shards)
        ]
        self._lease = LeaseKeeper(
            make_broker=settings.broker,
            info=self.info,
            held=self._runs.held,
            on_stop=self._runs.stop,
            on_death=self._fail,
        )
        self._subscription = Subscription(self._broker, worker=self.info.worker_id)
        self._maintenance = Maintenance(
            self._broker,
            subscription=self._subscription,
            dlq_retention_ms=int(settings.dlq_retention * DAY_MS),
            repair_every=settings.repair_every,
        )
        self._claiming: list[asyncio.Task[None]] = []
        self._duties: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None

    async def run(self, *, ready: asyncio.Event | None = None, stop: asyncio.Event | None = None) -> None:
        """Takes and runs jobs until `stop` is set; then drains. Raises what made a role fail."""
        self._stop = stop or self._stop
        grace = self._settings.grace
        async with self._broker:
            try:
                if not await unless_stopped(self._stop, await_store(self._broker, self._settings)):
                    return
                self._start()
                if ready is not None:
                    ready.set()
                await self._stop.wait()
            except asyncio.CancelledError:
                grace = 0.0
                raise
            finally:
                await self._drain(grace)
        if self._failure is not None:
            raise self._failure

    def _start(self) -> None:
        self._lease.start()
        self._duties = [
            self._supervise(self._subscription.run(), name="subscription"),
            self._supervise(self._heed_orders(), name="orders"),
            self._supervise(self._maintenance.run(), name="maintenance"),
            *(
                self._supervise(consumer.look_again(self._subscription.paused(shard)), name=f"pauses-{shard}")
                for shard, consumer in enumerate(self._consumers)
            ),
        ]
        self._claiming = [
            self._supervise(consumer.run(), name=f"consumer-{shard}") for shard, consumer in enumerate(self._consumers)
        ]
        log.info(
            "worker ready",
            worker=self.info.worker_id,
            queues=list(self.info.queues),
            concurrency=self.info.concurrency,
            handlers=self._types,
        )

    async def _heed_orders(self) -> None:
        """Looks at once which running jobs are to be cancelled; a word that is lost is told by the next renewal."""
        orders = self._subscription.orders
        while True:
            await orders.wait()
            orders.clear()
            self._lease.hurry()

    async def _drain(self, grace: float) -> None:
        """Stop claiming, give the unstarted back, let the running ones finish, cancel the rest, write, leave."""
        started = bool(self._claiming)
        if started:
            log.info("draining", running=len(self._runs.held()), grace=grace)
            await self._stop_claiming()
            self._runs.stop_all(Stop.SHUTDOWN, started=False)
            if not await self._runs.empty(within=grace):
                self._runs.stop_all(Stop.SHUTDOWN, started=True)
                if not await self._runs.empty(within=PATIENCE + LAST_WRITES):
                    log.error("jobs left behind: they run again when their leases end", jobs=len(self._runs.held()))
        await self._lease.stop()
        for task in self._duties:
            task.cancel()
        if self._duties:
            await asyncio.wait(self._duties)
        self._runs.close()
        if started:
            await self._depart()
            log.info("worker stopped", worker=self.info.worker_id)

    async def _stop_claiming(self) -> None:
        for consumer in self._consumers:
            consumer.drain()
        try:
            await self._broker.wake()
        except BrokerError as error:  # the waits have failed too, or end by their own timeout
            log.debug("no wake-up", error=str(error))
        await asyncio.wait(self._claiming)

    async def _depart(self) -> None:
        try:
            await self._broker.depart(worker=self.info.worker_id, queues=self.info.queues)
        except BrokerError as error:  # what was delivered and not claimed is taken back when its lease ends
            log.warning("could not take leave of the store", error=str(error))

    def _supervise(self, work: Coroutine[None, None, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a role of the worker failed", role=task.get_name(), exc_info=error)
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """A role is gone that the worker cannot do without: drain, and end with this error."""
        self._failure = self._failure or error
        self._stop.set()


def _check_handlers(worker: Worker) -> None:
    if not worker.handlers:
        raise CannotStart('the worker has no handlers: register one with @worker.handler("type")')
    for handler in worker.handlers.values():
        try:
            handler.check_sendable()
        except TypeError as error:
            raise CannotStart(str(error)) from error


def _info(worker: Worker, settings: WorkerSettings) -> WorkerInfo:
    host = socket.gethostname()
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", host)[:64]
    return WorkerInfo(
        worker_id=f"{plain}-{os.getpid()}-{secrets.token_hex(4)}",
        queues=tuple(dict.fromkeys(settings.queues.split(","))) if settings.queues else worker.queues,
        concurrency=settings.concurrency or worker.concurrency,
        host=host,
        pid=os.getpid(),
        version=metadata.version("headrace"),
    )
