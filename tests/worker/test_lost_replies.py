"""A call whose reply is lost has still been carried out: jobs are neither stranded nor finished twice."""

import asyncio

import pytest
from structlog.testing import capture_logs

from harness.proxy import Mode
from harness.proxy import Proxy as SlowProxy
from headrace_broker import Broker, State
from headrace_worker import Worker
from worker.proxy import Proxy


@pytest.fixture
async def proxy(valkey, tmp_path):
    """A proxy before the shared store."""
    async with Proxy(valkey, tmp_path / "proxy.sock") as one:
        yield one


def lose(proxy: Proxy, broker: Broker, script: str, *, times: int) -> None:
    """Has the replies to the next calls of a script be lost."""
    proxy.lose, proxy.left = broker._scripts[script].sha.encode(), times


@pytest.mark.parametrize("times", [1, 3])
async def test_jobs_of_a_claim_whose_reply_was_lost_run_at_once_and_once(serve, jobs, broker, proxy, times):
    """The worker asks again with the same token; nobody waits for a lease to run out."""
    runs: list[str] = []
    worker = Worker(concurrency=2)
    worker.handler("job")(lambda ctx: runs.append(ctx.job.id))
    ids = [await jobs.put("job") for _ in range(5)]
    lose(proxy, broker, "claim", times=times)
    serving = await serve(worker, redis_url=proxy.url)
    for job_id in ids:
        job = await jobs.ended(job_id, within=10)
        assert (job.state, job.attempt, job.crashes) == (State.SUCCEEDED, 1, 0)
    assert sorted(runs) == sorted(ids)
    assert proxy.left == 0
    await serving.stop()


async def test_an_outcome_whose_reply_was_lost_is_written_once(serve, jobs, broker, proxy):
    """The worker writes it again, and is told that it is written, not that its lease was lost."""
    runs: list[int] = []
    worker = Worker()
    worker.handler("job")(lambda: runs.append(1))
    serving = await serve(worker, redis_url=proxy.url)
    lose(proxy, broker, "finish", times=3)
    with capture_logs() as lines:
        job = await jobs.ended(await jobs.put("job"))
        await serving.stop()
    assert [step.state for step in job.history] == [State.QUEUED, State.PROCESSING, State.SUCCEEDED]
    assert runs == [1]
    assert proxy.left == 0
    assert not [line for line in lines if "refused" in line["event"]]


async def test_a_claim_whose_reply_was_lost_during_the_drain_is_given_back(serve, jobs, broker, proxy):
    """The worker that shuts down asks once more, only to return what it was given."""
    worker = Worker()
    worker.handler("job")(lambda: None)
    serving = await serve(worker, redis_url=proxy.url)
    await jobs.ended(await jobs.put("job"))
    lose(proxy, broker, "claim", times=1)
    job_id = await jobs.put("job")

    while proxy.left:
        await asyncio.wait([serving.task], timeout=0.001)
    await serving.stop()
    job = await jobs.get(job_id)
    assert (job.state, job.crashes) in {(State.QUEUED, 0), (State.SUCCEEDED, 0)}


async def test_jobs_whose_claim_was_answered_too_late_are_not_started(serve, jobs, valkey, eventually):
    """Regression: they were begun after their lease had ended, while another worker might run them already."""
    runs: list[str] = []
    worker = Worker()
    worker.handler("job")(lambda ctx: runs.append(ctx.job.id))
    job_id = await jobs.put("job")
    async with SlowProxy(valkey.replace("unix://", "unix:")) as slow:
        slow.mode = Mode(delay=0.4)
        serving = await serve(worker, redis_url=f"redis://127.0.0.1:{slow.port}/0", lease=0.5)
        await eventually(lambda: _given_back(jobs, job_id), within=15)
        assert runs == []
        slow.pass_on()
        assert (await jobs.ended(job_id)).state is State.SUCCEEDED
        assert runs == [job_id]
        await serving.stop()


async def _given_back(jobs, job_id):
    return [step for step in (await jobs.get(job_id)).history if step.reason in {"RELEASED", "LEASE_LOST"}]
