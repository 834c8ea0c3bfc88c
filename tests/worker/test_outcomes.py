"""Every way in which an attempt can end, and what the store says of it afterwards."""

import asyncio
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from headrace_broker import Broker, JobSpec, NewJob, Priority, Reason, RetryPolicy, State
from headrace_worker import Context, Discard, Retry, Snooze, Worker
from worker.conftest import QUICK, Jobs


@dataclass
class Order:
    item: str
    count: int


def steps(job):
    """The job's history as state and reason."""
    return [(step.state.value, step.reason) for step in job.history]


@pytest.fixture
def worker():
    """A worker with no handlers yet."""
    return Worker(concurrency=10)


async def test_a_job_succeeds_with_its_result(serve, jobs, worker):
    """The payload is decoded to the annotation, the return value is the result."""

    @worker.handler("order")
    async def order(order: Order, ctx: Context):
        return {"said": f"{order.count} {order.item}", "attempt": ctx.attempt}

    await serve(worker)
    job = await jobs.ended(await jobs.put("order", b'{"item":"nuts","count":3}'))
    assert (job.state, job.result, job.result_content_type) == (
        State.SUCCEEDED, b'{"said":"3 nuts","attempt":1}', "application/json",
    )  # fmt: skip
    assert steps(job) == [("QUEUED", ""), ("PROCESSING", ""), ("SUCCEEDED", "")]


async def test_a_job_without_a_result_has_none(serve, jobs, worker):
    """None is no result."""
    worker.handler("nothing")(lambda: None)
    await serve(worker)
    job = await jobs.ended(await jobs.put("nothing"))
    assert (job.state, job.result) == (State.SUCCEEDED, None)


async def test_a_failing_job_is_retried_and_ends_in_the_dead_letter_queue(serve, jobs, worker, broker):
    """The second of two attempts is the last; the failure names the exception, the attempt and the
    time, and the log the exception.
    """

    @worker.handler("fails")
    def fails(ctx: Context):
        raise ValueError(f"attempt {ctx.attempt}")

    with capture_logs() as lines:
        await serve(worker)
        job = await jobs.ended(await jobs.put("fails"))
    told = [(line["event"], line["error"]) for line in lines if "error" in line]
    assert told == [("attempt failed", "ValueError: attempt 1"), ("job failed for good", "ValueError: attempt 2")]
    assert (job.state, job.attempt) == (State.FAILED, 2)
    assert (job.failure.reason, job.failure.error_type) == (Reason.HANDLER_ERROR, "ValueError")
    assert (job.failure.message, job.failure.attempt) == ("attempt 2", 2)
    assert job.failure.time_ms == job.finish_time_ms
    assert "in fails" in job.failure.stack_trace
    assert [dead.job_id for dead in (await broker.dead_letters()).jobs] == [job.job_id]
    assert [state for state, _ in steps(job)] == ["QUEUED", "PROCESSING", "RETRYING", "QUEUED", "PROCESSING", "FAILED"]


async def test_a_fatal_exception_is_not_retried(serve, jobs, worker):
    """One attempt, then the dead letter queue."""

    @worker.handler("fatal", fatal=ValueError)
    async def fatal():
        raise ValueError

    await serve(worker)
    job = await jobs.ended(await jobs.put("fatal"))
    assert (job.state, job.attempt) == (State.FAILED, 1)


async def test_retry_counts_and_snooze_does_not(serve, jobs, worker):
    """Snoozed once and retried once, the job ends in its second attempt."""
    seen = []

    @worker.handler("later")
    async def later(ctx: Context):
        seen.append(ctx.attempt)
        if len(seen) == 1:
            return Snooze(0.01)
        if len(seen) == 2:
            raise Retry(after=0.01, reason="busy")
        return "at last"

    await serve(worker)
    job = await jobs.ended(await jobs.put("later"))
    assert (job.state, job.attempt, seen) == (State.SUCCEEDED, 2, [1, 1, 2])
    assert ("SCHEDULED", "SNOOZED") in steps(job)
    assert [step.detail for step in job.history if step.state is State.RETRYING] == ["Retry: busy"]


async def test_discard_cancels_the_job_and_is_no_dead_letter(serve, jobs, worker, broker):
    """The reason is in the history."""
    worker.handler("moot")(lambda: Discard("too late"))
    await serve(worker)
    job = await jobs.ended(await jobs.put("moot"))
    assert job.state is State.CANCELLED
    assert (job.history[-1].reason, job.history[-1].detail) == (Reason.DISCARDED, "too late")
    assert (await broker.dead_letters()).total == 0


async def test_an_undecodable_payload_ends_in_the_dlq_with_its_error_and_time_and_blocks_nobody(serve, jobs, worker):
    """Regression: the bad one is dead at once, the one behind it runs in the only slot."""
    worker.handler("order")(lambda order: order["item"])
    typed = worker.handler("typed")(lambda order: order)
    typed.__annotations__ = {"order": Order}
    await serve(worker, concurrency=1)
    bad = await jobs.put("order", b"{]")
    good = await jobs.put("order", b'{"item":"nuts"}')
    assert (await jobs.ended(good)).state is State.SUCCEEDED
    job = await jobs.ended(bad)
    assert (job.state, job.attempt, job.failure.reason) == (State.FAILED, 1, Reason.BAD_PAYLOAD)
    assert "the payload is not JSON" in job.failure.message
    assert job.start_time_ms <= job.failure.time_ms == job.finish_time_ms


async def test_a_job_without_a_handler_is_retried_then_dead_lettered_with_that_reason(serve, jobs, worker):
    """By the job's own policy."""
    worker.handler("known")(lambda: None)
    await serve(worker)
    job = await jobs.ended(await jobs.put("unknown"))
    assert (job.state, job.attempt, job.failure.reason) == (State.FAILED, 2, Reason.NO_HANDLER)
    assert "no handler for type 'unknown'" in job.failure.message


async def test_a_result_that_cannot_be_kept_is_a_dead_letter(serve, jobs, worker):
    """Too long, or no JSON value: the work is done and not repeated."""
    worker.handler("long")(lambda: "x" * 100)
    worker.handler("odd")(_odd)
    await serve(worker, max_result=50)
    for kind in ("long", "odd"):
        job = await jobs.ended(await jobs.put(kind))
        assert (job.state, job.attempt, job.failure.reason) == (State.FAILED, 1, Reason.BAD_RESULT)


def _odd():
    return object()


async def test_jobs_enqueued_before_any_worker_ever_ran_are_not_lost(serve, jobs, worker):
    """Regression: the first worker finds what waited for it."""
    ids = [await jobs.put("early") for _ in range(3)]
    worker.handler("early")(lambda: None)
    await serve(worker)
    for job_id in ids:
        assert (await jobs.ended(job_id)).state is State.SUCCEEDED


async def test_a_worker_takes_jobs_from_all_of_its_queues_and_from_no_other(serve, jobs):
    """A backlog in one queue does not starve another one."""
    order = []
    worker = Worker(queues=["a", "b"], concurrency=1)
    worker.handler("job")(lambda ctx: order.append(ctx.job.queue))
    backlog = [await jobs.put("job", queue="a") for _ in range(20)]
    other = await jobs.put("job", queue="b")
    stranger = await jobs.put("job", queue="c")
    await serve(worker)
    for job_id in (*backlog, other):
        await jobs.ended(job_id)
    assert order.index("b") <= 2
    assert (await jobs.get(stranger)).state is State.QUEUED


async def test_settings_take_the_place_of_the_workers_queues_and_concurrency(serve, jobs):
    """What is deployed decides, without a change of code."""
    worker = Worker(queues="a", concurrency=50)
    running = asyncio.Semaphore(2)

    @worker.handler("job")
    async def job():
        assert not running.locked(), "more than two at a time"
        async with running:
            await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.02)

    await serve(worker, queues="b,c", concurrency=2)
    ids = [await jobs.put("job", queue=queue) for queue in "bcbcbc"]
    for job_id in ids:
        assert (await jobs.ended(job_id)).state is State.SUCCEEDED


async def test_higher_priorities_are_claimed_first(serve, jobs):
    """In one slot, the urgent job runs before those that came earlier."""
    order = []
    worker = Worker(concurrency=1)
    worker.handler("job")(lambda ctx: order.append(ctx.job.priority))
    ids = [await jobs.put("job", priority=priority) for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH)]
    await serve(worker)
    for job_id in ids:
        await jobs.ended(job_id)
    assert order == ["high", "normal", "low"]


@pytest.mark.parametrize("shards", [1, 4])
async def test_a_worker_never_holds_more_jobs_than_it_has_slots(  # noqa: PLR0917  fixtures
    serve, eventually, namespace, valkey, shards, release
):
    """Also with several shards: what it cannot start at once is left to others."""
    begun = []
    worker = Worker(concurrency=3)

    @worker.handler("slow")
    async def slow(ctx: Context):
        begun.append(ctx.job.id)
        await release.wait()

    async with Broker(url=valkey, namespace=namespace, shards=shards) as wide:
        answers = await wide.enqueue([NewJob(spec=JobSpec(type="slow", retry=QUICK)) for _ in range(20)])
        ids = [answer.job_id for answer in answers]
        serving = await serve(worker, shards=shards)
        for _ in range(5):
            await asyncio.wait([asyncio.create_task(release.wait())], timeout=0.05)
            states = [(await wide.get(job_id)).state for job_id in ids]
            assert states.count(State.PROCESSING) <= 3
        assert len(begun) == 3
        release.set()
        jobs = Jobs(wide, eventually)
        for job_id in ids:
            assert (await jobs.ended(job_id)).state is State.SUCCEEDED
        await serving.stop()


async def test_progress_is_written_and_the_last_one_always(serve, jobs, worker, broker):
    """A thousand reports in a moment cost a few writes, and the last of them is what the record says."""

    @worker.handler("busy")
    def busy(ctx: Context):
        for n in range(1_000):
            ctx.progress(n / 1_000, f"step {n}")

    @worker.handler("busy.loop")
    async def busy_loop(ctx: Context):
        for n in range(1_000):
            ctx.progress(n / 1_000, f"step {n}")

    await serve(worker)
    for kind in ("busy", "busy.loop"):
        job = await jobs.ended(await jobs.put(kind))
        assert (job.progress.fraction, job.progress.message) == (0.999, "step 999")


async def test_progress_is_seen_while_the_handler_still_runs(serve, jobs, worker, eventually, release):
    """A watcher hears of it within moments."""

    @worker.handler("half")
    async def half(ctx: Context):
        ctx.progress(0.5, "half way")
        await release.wait()

    await serve(worker)
    job_id = await jobs.put("half")

    async def reported():
        return (await jobs.get(job_id)).progress

    assert (await eventually(reported)).message == "half way"
    assert (await jobs.get(job_id)).state is State.PROCESSING
    release.set()


async def test_a_retry_waits_for_as_long_as_the_policy_says(serve, jobs, worker):
    """Without jitter, the second attempt starts its backoff after the first one failed, and not much later."""
    worker.handler("fails")(lambda: 1 / 0)
    await serve(worker)
    policy = RetryPolicy(max_attempts=2, initial_backoff_ms=300, jitter=0.0)
    job = await jobs.ended(await jobs.put("fails", retry=policy))
    retrying, queued = job.history[2].time_ms, job.history[3].time_ms
    assert 300 <= queued - retrying < 800


async def test_a_finished_job_leaves_nothing_in_its_stream(serve, jobs, worker, broker):
    """Regression: entries are acknowledged and deleted."""
    worker.handler("done")(lambda: None)
    await serve(worker)
    for job_id in [await jobs.put("done") for _ in range(10)]:
        await jobs.ended(job_id)
    for priority in Priority:
        assert await broker.redis.xlen(broker.shard(0).ready("default", priority)) == 0


async def test_a_worker_whose_slots_are_all_taken_leaves_every_other_job_to_others(serve, jobs, release):
    """What was delivered to it could not go to an idle worker: so it reads nothing while it is full."""
    full, idle = Worker(concurrency=2), Worker(concurrency=2)

    @full.handler("job")
    async def wait():
        await release.wait()

    idle.handler("job")(lambda: "done")
    await serve(full)
    taken = [await jobs.put("job") for _ in range(2)]
    for job_id in taken:
        await jobs.reach(job_id, State.PROCESSING)
    others = [await jobs.put("job") for _ in range(6)]
    await serve(idle)
    for job_id in others:
        assert (await jobs.ended(job_id, within=5)).result == b'"done"'
    assert [(await jobs.get(job_id)).state for job_id in taken] == [State.PROCESSING] * 2
