"""A server, two workers and a client on one store, in the test's loop, and what the handlers did, job by job."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from headrace import AsyncClient, DeadlineExceeded, EventKind, HeadraceError, Job, JobState, Unavailable
from headrace_broker import keys
from headrace_server.app import Server
from headrace_server.settings import ServerSettings
from headrace_worker import Context, Worker
from headrace_worker.settings import WorkerSettings

PATIENCE = 5.0
"""Seconds within which everything goes on after a failover."""


class Stack:
    """`async with` starts it. `effects` counts the runs of each job's handler."""

    def __init__(self, *, url: str, namespace: str, shards: int = 1, lease: float = 5.0) -> None:
        self.effects: Counter[str] = Counter()
        self.acknowledged: list[str] = []
        self.client: AsyncClient
        self._common = {"redis_url": url, "namespace": namespace, "shards": shards, "lease": lease, "grace": 5}
        self._shards = shards
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        settings = ServerSettings(**self._common, listen="127.0.0.1:0", http_listen="", heartbeat=1)
        server = await self._stack.enter_async_context(Server(settings))
        for _ in range(2):
            await self._stack.enter_async_context(self._worker())
        self.client = await self._stack.enter_async_context(AsyncClient(f"127.0.0.1:{server.port}", timeout=2))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def put(self, name: str, *, within: float = PATIENCE, durability: str | None = None) -> str:
        """Enqueues a job under this request_id, again and again until it is acknowledged; returns its id."""
        deadline = time.monotonic() + within
        while True:
            try:
                job = await self.client.enqueue("note", request_id=name, durability=durability)
            except (Unavailable, DeadlineExceeded):
                if time.monotonic() > deadline:
                    raise
            else:
                self.acknowledged.append(job.job_id)
                return job.job_id

    async def goes_on(self, *shards: int) -> None:
        """Returns when a job that is enqueued now on each of these shards has run, and was watched to its end; raises
        past PATIENCE.
        """
        began = time.monotonic()
        names = [next(self._names_on(shard)) for shard in shards]
        async with asyncio.timeout(PATIENCE):
            jobs = await asyncio.gather(*(self.put(name) for name in names))
            await asyncio.gather(*(self.watched(job) for job in jobs))
        assert time.monotonic() - began < PATIENCE

    @asynccontextmanager
    async def under_load(self, *, durability: str | None = None) -> AsyncIterator[None]:
        """Producers enqueue, and a watcher follows every tenth job, until the block is left and all of it has ended."""
        stop = asyncio.Event()
        watchers: list[asyncio.Task[None]] = []

        async def produce(producer: int) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                try:
                    job = await self.put(f"load-{producer}-{count}", durability=durability)
                except HeadraceError:
                    if stop.is_set():  # what it said is all that it promises
                        return
                    raise
                if count % 10 == 0:
                    watchers.append(asyncio.create_task(self.watched(job)))

        producers = [asyncio.create_task(produce(n)) for n in range(4)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*producers)
            async with asyncio.timeout(15):
                await asyncio.gather(*watchers)

    async def watched(self, job_id: str) -> None:
        """Watches a job to its end, and sees every version once."""
        versions: list[int] = []
        async for event in self.client.watch(job_id, after_version=0):
            if event.kind is EventKind.TRANSITION:
                versions.append(event.version)
                last = event.state
        assert versions == list(range(1, len(versions) + 1)), f"{job_id}: {versions}"
        assert last is JobState.SUCCEEDED

    async def ended(self, job_id: str) -> Job | None:
        """Returns a job once it has ended well, for `eventually`; its history then has one end."""
        try:
            job = await self.client.get(job_id)
        except (Unavailable, DeadlineExceeded):
            return None
        if job.state is not JobState.SUCCEEDED:
            return None
        assert [step.state for step in job.history].count(JobState.SUCCEEDED) == 1
        assert self.effects[job_id] >= 1
        return job

    def _names_on(self, shard: int) -> Iterator[str]:
        return (
            name
            for n in range(10_000)
            if keys.shard_of(keys.job_id(name := f"probe-{time.monotonic_ns()}-{n}", shards=self._shards)) == shard
        )

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[None]:
        worker = Worker(concurrency=20)

        @worker.handler("note")
        async def note(ctx: Context) -> None:
            self.effects[ctx.job.id] += 1

        ready, stop = asyncio.Event(), asyncio.Event()
        serving = asyncio.create_task(worker.serve(WorkerSettings(**self._common), ready=ready, stop=stop))
        await asyncio.wait([serving, waiting := asyncio.create_task(ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done():
            serving.result()
        try:
            yield
        finally:
            stop.set()
            await serving
