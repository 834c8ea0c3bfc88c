"""Timeouts are enforced, on every kind of handler. Regression."""

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from headrace_broker import Reason, RetryPolicy, State
from headrace_worker import Context, Worker

_ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def worker():
    """A worker with no handlers yet."""
    return Worker(concurrency=2)


async def test_a_coroutine_is_cancelled_at_its_timeout(serve, jobs, worker):
    """It may clean up; the attempt has failed, and counts."""
    cleaned = []

    @worker.handler("hangs", timeout=0.1)
    async def hangs():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cleaned.append(1)

    await serve(worker)
    job = await jobs.ended(await jobs.put("hangs"))
    assert (job.state, job.attempt, job.failure.reason) == (State.FAILED, 2, Reason.TIMEOUT)
    assert job.failure.message == "stopped after 0.1 s"
    assert cleaned == [1, 1]


async def test_a_thread_is_stopped_at_its_timeout(serve, jobs, worker):
    """Even one that never looks at its context, and catches every Exception."""
    ended = threading.Event()

    @worker.handler("hangs", timeout=0.1)
    def hangs():
        try:
            while True:
                try:
                    threading.Event().wait(0.005)
                except Exception:  # noqa: BLE001  that is the point
                    continue
        finally:
            ended.set()

    await serve(worker)
    job = await jobs.ended(await jobs.put("hangs"))
    assert (job.state, job.attempt, job.failure.reason) == (State.FAILED, 2, Reason.TIMEOUT)
    assert await asyncio.to_thread(ended.wait, 5)


async def test_the_jobs_own_timeout_counts_where_it_is_shorter(serve, jobs, worker):
    """And the handler's where that one is."""
    worker.handler("hangs", timeout=60)(_hang)
    worker.handler("hangs.briefly", timeout=0.1)(_hang)
    await serve(worker)
    first = await jobs.ended(await jobs.put("hangs", attempt_timeout_ms=150))
    second = await jobs.ended(await jobs.put("hangs.briefly", attempt_timeout_ms=60_000))
    assert first.failure.message == "stopped after 0.15 s"
    assert second.failure.message == "stopped after 0.1 s"


async def _hang():
    await asyncio.get_running_loop().create_future()


async def test_a_coroutine_that_swallows_its_cancellation_loses_its_job_but_keeps_its_slot(
    serve, jobs, worker, release
):
    """The outcome is written a second later; the slot is free when the handler has really ended, not before."""
    cancels = []

    @worker.handler("stubborn", timeout=0.1)
    async def stubborn():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                cancels.append(1)

    worker.handler("other")(lambda: None)
    await serve(worker, concurrency=1)
    stubborn_id = await jobs.put("stubborn", retry=_ONCE)
    job = await jobs.ended(stubborn_id)
    assert (job.state, job.failure.reason) == (State.FAILED, Reason.TIMEOUT)
    other = await jobs.put("other")
    await asyncio.wait([asyncio.create_task(release.wait())], timeout=1.2)
    assert len(cancels) >= 2, "it is cancelled again and again"
    assert (await jobs.get(other)).state is State.QUEUED, "the only slot is taken"
    release.set()
    assert (await jobs.ended(other)).state is State.SUCCEEDED
    assert (await jobs.get(stubborn_id)).version == job.version, "its late end changes nothing"


async def test_a_thread_stuck_in_c_code_loses_its_job_but_keeps_its_slot(serve, jobs, worker):
    """No exception reaches it there; nor does its late end change the outcome."""
    release = threading.Event()

    @worker.handler("stuck", timeout=0.1)
    def stuck():
        release.wait(30)
        return "too late"

    worker.handler("other")(lambda: None)
    serving = await serve(worker, concurrency=1)
    stuck_id = await jobs.put("stuck", retry=_ONCE)
    job = await jobs.ended(stuck_id)
    assert (job.state, job.failure.reason) == (State.FAILED, Reason.TIMEOUT)
    other = await jobs.put("other")
    await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.3)
    assert (await jobs.get(other)).state is State.QUEUED, "the only slot is taken"
    with capture_logs() as lines:
        release.set()
        assert (await jobs.ended(other)).state is State.SUCCEEDED
        await serving.stop()
    assert (await jobs.get(stuck_id)).version == job.version
    assert not [line for line in lines if line["log_level"] in {"warning", "error"}], "it is decided once"


async def test_a_handler_can_see_its_own_stop(serve, jobs, worker):
    """`cancelled` turns true, and a wait ends."""
    seen = asyncio.Queue()
    loop = asyncio.get_running_loop()

    @worker.handler("watches", timeout=0.1)
    def watches(ctx: Context):
        try:
            ctx.wait_cancelled(30)
        finally:
            loop.call_soon_threadsafe(seen.put_nowait, ctx.cancelled)

    await serve(worker)
    job = await jobs.ended(await jobs.put("watches", retry=_ONCE))
    assert job.failure.reason == Reason.TIMEOUT
    assert await asyncio.wait_for(seen.get(), 5) is True


async def test_a_process_is_killed_at_its_timeout_and_no_other_is_harmed(launch, jobs, tmp_path):
    """Even in one endless call of C code. The job in the process beside it runs to its end."""
    log, until = tmp_path / "log", tmp_path / "until"
    log.touch()
    process = launch("sample_app:worker")
    work = f'{{"log":"{log}","until":"{until}"}}'.encode()
    beside = await jobs.put("wait.process", work)
    await jobs.reach(beside, State.PROCESSING)
    job = await jobs.ended(await jobs.put("hang.process", work), within=15)
    assert (job.state, job.attempt, job.failure.reason) == (State.FAILED, 2, Reason.TIMEOUT)
    hung = [int(line.split()[1]) for line in log.read_text().splitlines()]
    until.touch()
    ended = await jobs.ended(beside)
    assert (ended.state, ended.attempt) == (State.SUCCEEDED, 1)
    assert ended.progress.message == "half way"
    assert len(set(hung)) == 3
    assert len(set(hung) & set(process.family())) == 1, "the two that hung are gone, the one that ended is kept"
