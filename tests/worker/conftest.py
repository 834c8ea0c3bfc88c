"""A worker in the test's own loop, a worker in a process of its own, and jobs for both."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.processes import Process, Spawn
from harness.waiting import Eventually
from headrace_broker import Broker, Enqueued, Job, JobSpec, NewJob, RetryPolicy, State
from headrace_worker import Worker
from headrace_worker.settings import WorkerSettings

HERE = Path(__file__).parent
QUICK = RetryPolicy(max_attempts=2, initial_backoff_ms=10, jitter=0.0)


class Jobs:
    """Puts jobs into the store, and reads what became of them."""

    def __init__(self, broker: Broker, eventually: Eventually) -> None:
        self._broker = broker
        self._eventually = eventually

    async def put(self, kind: str, payload: bytes = b"{}", **spec: Any) -> str:
        """Enqueues one job, and returns its id."""
        [answer] = await self._broker.enqueue(
            [NewJob(spec=JobSpec(**{"type": kind, "payload": payload, "retry": QUICK, **spec}))]
        )
        assert isinstance(answer, Enqueued)
        return answer.job_id

    async def get(self, job_id: str) -> Job:
        """Reads one job."""
        return await self._broker.get(job_id)

    async def reach(self, job_id: str, *states: State, within: float = 10.0) -> Job:
        """Waits until a job is in one of these states."""

        async def there() -> Job | None:
            job = await self._broker.get(job_id)
            return job if job.state in states else None

        job = await self._eventually(there, within=within)
        assert job is not None
        return job

    async def ended(self, job_id: str, *, within: float = 10.0) -> Job:
        """Waits until a job has ended."""
        return await self.reach(job_id, *(state for state in State if state.is_terminal), within=within)


class Serving:
    """A worker that serves in the test's loop."""

    def __init__(self, worker: Worker, settings: WorkerSettings) -> None:
        self.ready = asyncio.Event()
        self._stop = asyncio.Event()
        self.task = asyncio.create_task(worker.serve(settings, ready=self.ready, stop=self._stop))

    def drain(self) -> None:
        """Begins to drain."""
        self._stop.set()

    async def stop(self) -> None:
        """Drains, and returns when that is done."""
        self.drain()
        await self.task


Serve = Callable[..., Awaitable[Serving]]


@pytest.fixture
def settings(valkey: str, namespace: str) -> Callable[..., WorkerSettings]:
    """`settings(lease=1, …)`: a worker's settings for this test's namespace."""

    def make(**changes: Any) -> WorkerSettings:
        return WorkerSettings(**{"redis_url": valkey, "namespace": namespace, "grace": 5, **changes})

    return make


@pytest.fixture
def jobs(broker: Broker, eventually: Eventually) -> Jobs:
    """See Jobs."""
    return Jobs(broker, eventually)


@pytest.fixture
async def serve(settings: Callable[..., WorkerSettings]) -> AsyncIterator[Serve]:
    """Run a worker in this loop until the test ends, with these settings."""
    running: list[Serving] = []

    async def start(worker: Worker, **changes: Any) -> Serving:
        serving = Serving(worker, settings(**changes))
        running.append(serving)
        await asyncio.wait([serving.task, asyncio.create_task(serving.ready.wait())], return_when="FIRST_COMPLETED")
        if not serving.ready.is_set():
            await serving.task
        return serving

    yield start
    for serving in running:
        if not serving.task.done():
            await serving.stop()


@pytest.fixture
async def release(serve: Serve) -> AsyncIterator[asyncio.Event]:
    """What handlers wait for; set at the latest when the test ends, so that none of them outlives it."""
    event = asyncio.Event()
    yield event
    event.set()


Launch = Callable[..., Process]


@pytest.fixture
def launch(spawn: Spawn, valkey: str, namespace: str) -> Launch:
    """`launch("module:worker", grace="1", …)`: a real worker process for this test's namespace, with these settings.

    Returns when it is ready. Its directory is that of these tests, unless `directory` names another one.
    """

    def start(target: str, *options: str, directory: Path = HERE, **changes: str) -> Process:
        process = spawn(
            "python", "-m", "headrace_worker", target, *options, directory=directory,
            environment=environment(**{"redis_url": valkey, "namespace": namespace, **changes}),
        )  # fmt: skip
        process.wait_for_line("worker ready")
        return process

    return start


def environment(**changes: str) -> dict[str, str]:
    """Settings as a worker process finds them."""
    return {f"HEADRACE_{name.upper()}": value for name, value in changes.items()}
