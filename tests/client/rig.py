"""What the client's tests stand on: a real server process, and a worker whose every move is the test's."""

import json
from typing import Any

from harness.processes import Process, start
from headrace_broker import (
    Broker,
    ClaimedJob,
    Discarded,
    Failed,
    Failure,
    Finish,
    Finished,
    Outcome,
    Retried,
    Snoozed,
    Succeeded,
    new_token,
)


class Server:
    """A headrace server on a port of its own, which it keeps when it is started again."""

    def __init__(self, *, url: str, namespace: str, **settings: str) -> None:
        self.url = url
        self.namespace = namespace
        self.port = 0
        self._settings = settings
        self.process = self._start()

    @property
    def target(self) -> str:
        """What the client is given."""
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()

    def start_again(self) -> None:
        """A new process on the same port; returns when it serves."""
        self.process.close()
        self.process = self._start()

    def close(self) -> None:
        """Kill it for good."""
        self.process.close()

    def _start(self) -> Process:
        environment = {
            "HEADRACE_REDIS_URL": self.url,
            "HEADRACE_NAMESPACE": self.namespace,
            "HEADRACE_LISTEN": f"127.0.0.1:{self.port}",
            "HEADRACE_LOG_FORMAT": "json",
            **self._settings,
        }
        process = start("python", "-m", "headrace_server", environment=environment)
        self.port = int(process.wait_for_line(r'"port": (\d+)', within=20)[1])
        return process


class Hand:
    """Claims and finishes jobs by hand: each job moves when the test says so, and not before."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def poll(self, queue: str) -> ClaimedJob | None:
        """The next job of the queue, if there is one."""
        claims = await self._broker.claim(shard=0, worker="hand-1", queues=[queue], count=1, token=new_token())
        return claims.jobs[0] if claims.jobs else None

    async def claim(self, queue: str) -> ClaimedJob:
        """The next job of the queue. There must be one."""
        job = await self.poll(queue)
        assert job is not None
        return job

    async def finish(self, job: ClaimedJob, outcome: Outcome) -> None:
        """Write how the attempt ended."""
        assert await self._broker.finish([Finish(job_id=job.job_id, token=job.token, outcome=outcome)]) == [
            Finished.WRITTEN
        ]

    async def succeed(self, queue: str, result: Any = None) -> None:
        """Run the next job of the queue to its good end."""
        data = None if result is None else json.dumps(result).encode()
        await self.finish(await self.claim(queue), Succeeded(result=data))

    async def fail(self, queue: str, message: str = "it broke") -> None:
        """Run the next job of the queue into the dead letter queue."""
        await self.fail_claimed(await self.claim(queue), message)

    async def fail_all(self, queue: str) -> None:
        """Run all jobs of the queue into the dead letter queue."""
        while True:
            claims = await self._broker.claim(shard=0, worker="hand-1", queues=[queue], count=200, token=new_token())
            if not claims.jobs:
                return
            outcome = Failed(failure=failure("it broke"))
            await self._broker.finish([Finish(job_id=j.job_id, token=j.token, outcome=outcome) for j in claims.jobs])

    async def fail_claimed(self, job: ClaimedJob, message: str = "it broke") -> None:
        """Run a claimed job into the dead letter queue."""
        await self.finish(job, Failed(failure=failure(message)))

    async def discard(self, queue: str) -> None:
        """Run the next job of the queue to CANCELLED."""
        await self.finish(await self.claim(queue), Discarded(reason="no need"))

    async def retry(self, queue: str, *, delay_ms: int = 0) -> None:
        """Fail an attempt of the next job of the queue."""
        await self.finish(await self.claim(queue), Retried(delay_ms=delay_ms, failure=failure("try again")))

    async def snooze(self, queue: str, *, delay_ms: int = 0) -> None:
        """Put the next job of the queue off."""
        await self.finish(await self.claim(queue), Snoozed(delay_ms=delay_ms))

    async def progress(self, job: ClaimedJob, fraction: float, message: str = "") -> None:
        """Report how far a claimed job has come."""
        assert await self._broker.report_progress(job.job_id, job.token, fraction=fraction, message=message)


def failure(message: str) -> Failure:
    """A failure as a handler's ValueError makes it."""
    return Failure(
        reason="HANDLER_ERROR", error_type="ValueError", message=message, stack_trace="Traceback …", attempt=1
    )
