"""Jobs that are cancelled while they run, on every kind of handler."""

import asyncio
import threading
import time

import pytest

from headrace_broker import Reason, State
from headrace_worker import Context, Discard, Worker


@pytest.fixture
def worker():
    """A worker with no handlers yet."""
    return Worker(concurrency=2)


async def cancel(broker, jobs, job_id):
    """Cancels a job once it runs; returns how it ended, and after how many seconds."""
    await jobs.reach(job_id, State.PROCESSING)
    asked = time.monotonic()
    await broker.cancel(job_id, reason="by hand")
    job = await jobs.ended(job_id)
    return job, time.monotonic() - asked


def assert_cancelled(job):
    """Fails unless the job ended by the request."""
    last = job.history[-1]
    assert (job.state, last.reason, last.detail) == (State.CANCELLED, Reason.REQUESTED, "by hand")
    assert job.attempt == 1


async def test_a_coroutine_is_cancelled(serve, broker, jobs, worker):
    """Within a second, though the lease is 30 s long; it sees why, and may clean up."""
    seen = []

    @worker.handler("hangs")
    async def hangs(ctx: Context):
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append(ctx.cancelled)

    await serve(worker)
    job, seconds = await cancel(broker, jobs, await jobs.put("hangs"))
    assert_cancelled(job)
    assert seen == [True]
    assert seconds < 1


async def test_a_thread_is_cancelled(serve, broker, jobs, worker):
    """One that looks at its context, and one that never does."""
    ended = threading.Event()

    @worker.handler("looks")
    def looks(ctx: Context):
        while not ctx.cancelled:
            threading.Event().wait(0.005)
        return Discard("as asked")

    @worker.handler("runs")
    def runs():
        try:
            while True:
                threading.Event().wait(0.005)
        finally:
            ended.set()

    await serve(worker)
    job, seconds = await cancel(broker, jobs, await jobs.put("runs"))
    assert_cancelled(job)
    assert seconds < 1
    assert await asyncio.to_thread(ended.wait, 5)
    job, _ = await cancel(broker, jobs, await jobs.put("looks"))
    assert job.state is State.CANCELLED


async def test_a_process_is_asked_and_then_killed(launch, broker, jobs, tmp_path):
    """One that looks at its context has a second to clean up; one that does not is killed after that. Neither process
    is used again, and the worker goes on.
    """
    log = tmp_path / "log"
    log.touch()
    launch("sample_app:worker")
    work = f'{{"log":"{log}"}}'.encode()

    async def begun(kind):
        lines = len(log.read_text().splitlines())
        job_id = await jobs.put(kind, work)
        await jobs.reach(job_id, State.PROCESSING)
        await asyncio.to_thread(wait_for_lines, log, lines + 1)
        return job_id

    polite, _ = await cancel(broker, jobs, await begun("polite.process"))
    stubborn, seconds = await cancel(broker, jobs, await begun("stubborn.process"))
    assert_cancelled(polite)
    assert_cancelled(stubborn)
    assert 0.9 < seconds < 3, "it had its grace"
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [word for word, _ in lines] == ["begin", "cleaned", "begin"]
    after = await jobs.ended(await jobs.put("pid.process"))
    assert after.state is State.SUCCEEDED
    assert int(after.result) not in {int(pid) for _, pid in lines}


def wait_for_lines(log, count):
    """Waits until a file has that many lines."""
    deadline = time.monotonic() + 10
    while len(log.read_text().splitlines()) < count:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


async def test_a_handler_that_does_not_stop_loses_its_job(serve, broker, jobs, worker, release):
    """Its grace is a second; then the job is CANCELLED, and its late end changes nothing."""

    @worker.handler("stubborn")
    async def stubborn():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    serving = await serve(worker)
    job, seconds = await cancel(broker, jobs, await jobs.put("stubborn"))
    assert_cancelled(job)
    assert 0.9 < seconds < 3
    release.set()
    await serving.stop()
    assert (await jobs.get(job.job_id)).version == job.version


async def test_a_handler_that_succeeds_all_the_same_has_won(serve, broker, jobs, worker):
    """Its result counts: the job is SUCCEEDED."""

    @worker.handler("finishes")
    async def finishes():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return "done"

    await serve(worker)
    job, _ = await cancel(broker, jobs, await jobs.put("finishes"))
    assert (job.state, job.result) == (State.SUCCEEDED, b'"done"')


async def test_a_word_that_got_lost_is_told_by_the_renewal(serve, broker, jobs, worker):
    """Pub/sub may lose it: a third of a lease later at the latest the handler is stopped."""

    @worker.handler("hangs")
    async def hangs():
        await asyncio.get_running_loop().create_future()

    await serve(worker, lease=1.5)
    job_id = await jobs.put("hangs")
    await jobs.reach(job_id, State.PROCESSING)
    await broker.redis.hset(broker.shard(0).job(job_id), "cancel", "1|by hand")
    assert_cancelled(await jobs.ended(job_id, within=2))


async def test_a_hundred_running_jobs_are_cancelled_within_a_second(serve, broker, jobs):
    """And the worker takes new ones."""
    worker = Worker(concurrency=100)

    @worker.handler("hangs")
    async def hangs():
        await asyncio.get_running_loop().create_future()

    worker.handler("other")(lambda: None)
    await serve(worker)
    ids = [await jobs.put("hangs") for _ in range(100)]
    for job_id in ids:
        await jobs.reach(job_id, State.PROCESSING)
    begun = time.monotonic()
    for job_id in ids:
        await broker.cancel(job_id)
    ended = [await jobs.ended(job_id) for job_id in ids]
    assert time.monotonic() - begun < 1.5
    assert {job.state for job in ended} == {State.CANCELLED}
    assert (await jobs.ended(await jobs.put("other"))).state is State.SUCCEEDED
