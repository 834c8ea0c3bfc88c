"""What the clients can do to jobs that are there already, against a real server."""

import asyncio

import pytest

from client.rig import Hand
from headrace import AsyncClient, Client, InvalidRequest, JobCancelled, JobNotFound, JobState, PreconditionFailed
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


def test_the_sync_client_cancels(sync_client: Client, queue: str) -> None:
    """The same without an event loop."""
    handle = sync_client.enqueue("t", queue=queue)
    assert handle.cancel(reason="why").state is JobState.CANCELLED
    assert sync_client.cancel(handle.job_id).history[-1].detail == "why"
