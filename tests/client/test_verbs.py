"""What the clients can do to jobs that are there already, against a real server."""

import asyncio
from datetime import UTC, datetime

import pytest

from client.rig import Hand
from headrace import (
    AsyncClient,
    Client,
    DeadLetterFilter,
    EnqueueError,
    InvalidRequest,
    JobCancelled,
    JobNotFound,
    JobState,
    NewJob,
    PreconditionFailed,
)
from headrace_broker import Released

NO_JOB = "0" * 26


async def test_cancel_of_a_waiting_job(client: AsyncClient, queue: str) -> None:
    """It is CANCELLED at once; whoever waits for its result is told why; again is no error."""
    handle = await client.enqueue("t", {"n": 1}, queue=queue)
    waiting = asyncio.create_task(handle.result(timeout=10))

    job = await handle.cancel(reason="ann: a mistake")

    assert (job.job_id, job.state, job.payload) == (handle.job_id, JobState.CANCELLED, None)
    with pytest.raises(JobCancelled) as caught:
        await waiting
    assert str(caught.value) == f"job {handle.job_id} was cancelled (REQUESTED): ann: a mistake"
    assert await client.cancel(handle.job_id) == job


async def test_cancel_of_a_running_job(client: AsyncClient, hand: Hand, queue: str) -> None:
    """It goes on until its worker has stopped it, and says since when it is to end."""
    handle = await client.enqueue("t", queue=queue)
    claimed = await hand.claim(queue)

    job = await client.cancel(handle.job_id)

    assert job.state is JobState.PROCESSING
    assert job.cancel_request_time is not None
    await hand.finish(claimed, Released())
    assert (await handle.get()).state is JobState.CANCELLED


async def test_what_cannot_be_cancelled(client: AsyncClient, hand: Hand, queue: str) -> None:
    """A job that has ended, one that is not there, and a reason that is too long."""
    handle = await client.enqueue("t", queue=queue)
    await hand.succeed(queue)
    with pytest.raises(PreconditionFailed, match="is SUCCEEDED, and cannot be cancelled"):
        await handle.cancel()
    with pytest.raises(JobNotFound):
        await client.cancel(NO_JOB)
    with pytest.raises(InvalidRequest, match="at most 200"):
        await client.cancel(handle.job_id, reason="r" * 201)


async def test_dead_letters_are_requeued_and_purged(client: AsyncClient, hand: Hand, queue: str) -> None:
    """By id or by filter, counted first; who waits for the result gets that of the next life."""
    handles = [await client.enqueue("t", queue=queue, labels={"n": str(n)}) for n in range(3)]
    for _ in handles:
        await hand.fail(queue)
    here = DeadLetterFilter(queue=queue, start_time=datetime(2020, 1, 1, tzinfo=UTC), labels={"n": "0"})

    assert (await client.requeue_dlq(where=here, validate_only=True)).count == 1
    assert (await client.requeue_dlq(where=here)).count == 1
    swept = await client.requeue_dlq([handles[0].job_id, handles[1].job_id])
    assert (swept.count, swept.skipped_job_ids) == (1, (handles[0].job_id,))
    for n in range(2):
        await hand.succeed(queue, n)
    assert {await handle.result(timeout=10) for handle in handles[:2]} == {0, 1}
    rest = DeadLetterFilter(queue=queue)
    assert (await client.purge_dlq(where=rest)).count == 1
    assert (await client.purge_dlq(where=rest, force=True)).count == 1
    with pytest.raises(JobNotFound):
        await handles[2].get()


async def test_all_steps_of_a_walk_are_gone(client: AsyncClient, hand: Hand, queue: str) -> None:
    """More dead letters than one call looks at, and more ids than one call may name."""
    handles = await client.enqueue_many(NewJob("t", queue=queue) for _ in range(1_100))
    job_ids = [handle.job_id for handle in handles if not isinstance(handle, EnqueueError)]
    await hand.fail_all(queue)

    page = await client.requeue_dlq_page(where=DeadLetterFilter(queue=queue), validate_only=True)
    assert (page.count, page.next_page_token != "") == (1_000, True)
    assert (await client.requeue_dlq(where=DeadLetterFilter(queue=queue))).count == 1_100
    swept = await client.purge_dlq(iter(job_ids))
    assert (swept.count, swept.skipped_job_ids) == (0, tuple(job_ids))


async def test_neither_ids_nor_a_filter(client: AsyncClient) -> None:
    """It must be said which dead letters are meant; a filter that cannot be sent names its field."""
    for call in (client.requeue_dlq, client.purge_dlq):
        with pytest.raises(InvalidRequest, match="give either job_ids or where"):
            await call()
        with pytest.raises(InvalidRequest, match="give either job_ids or where"):
            await call([], where=DeadLetterFilter())
    with pytest.raises(InvalidRequest, match="start_time"):
        await client.requeue_dlq(where=DeadLetterFilter(start_time=datetime(2020, 1, 1)))  # noqa: DTZ001 - the mistake
    assert (await client.requeue_dlq([])).count == 0


def test_the_sync_client_sweeps(sync_client: Client, queue: str) -> None:
    """The same without an event loop."""
    where = DeadLetterFilter(queue=queue)
    for call in (sync_client.requeue_dlq, sync_client.purge_dlq):
        assert call(where=where).count == 0
        assert call(iter([NO_JOB])).skipped_job_ids == (NO_JOB,)
    assert sync_client.requeue_dlq_page(where=where).next_page_token == ""
    assert sync_client.purge_dlq_page([NO_JOB], force=True).scanned == 1


def test_the_sync_client_cancels(sync_client: Client, queue: str) -> None:
    """The same without an event loop."""
    handle = sync_client.enqueue("t", queue=queue)
    assert handle.cancel(reason="why").state is JobState.CANCELLED
    assert sync_client.cancel(handle.job_id).history[-1].detail == "why"
