"""`client.queues`, async and sync."""

import inspect
from datetime import UTC, datetime, timedelta

import pytest

from client.rig import Hand
from headrace import AsyncClient, AsyncQueues, Client, InvalidRequest, JobState, QueueNotFound, Queues


async def test_a_queue_is_seen_paused_and_resumed(client: AsyncClient, hand: Hand, queue: str):
    """Its numbers are those of the server; paused it hands out nothing, resumed it goes on."""
    await client.enqueue("t", queue=queue)
    await client.enqueue("t", queue=queue, delay=3_600)

    paused = await client.queues.pause(queue, reason="the bank is closed")

    assert (paused.name, paused.paused, paused.pause_reason) == (queue, True, "the bank is closed")
    assert paused.pause_time is not None
    assert abs(datetime.now(UTC) - paused.pause_time) < timedelta(minutes=1)
    assert paused.jobs == {state: int(state in {"QUEUED", "SCHEDULED"}) for state in JobState}
    assert paused.oldest_ready_age is not None
    assert await hand.poll(queue) is None
    resumed = await client.queues.resume(queue)
    assert (resumed.paused, resumed.pause_time, resumed.pause_reason) == (False, None, "")
    await hand.succeed(queue)
    done = await client.queues.get(queue)
    assert (done.jobs[JobState.SUCCEEDED], done.oldest_ready_age, done.dead) == (1, None, 0)
    assert done.rates.finished > 0
    assert done.name in [one.name for one in await client.queues.list()]


async def test_errors(client: AsyncClient, queue: str):
    """An unknown queue is a QueueNotFound, a wrong name an InvalidRequest; allow_missing makes one."""
    for call in (client.queues.get, client.queues.pause, client.queues.resume):
        with pytest.raises(QueueNotFound, match=f"no queue {queue}"):
            await call(queue)
        with pytest.raises(InvalidRequest, match="queue"):
            await call("a b")
    assert (await client.queues.pause(queue, allow_missing=True)).paused


def test_sync(sync_client: Client, queue: str):
    """The sync client does the same."""
    sync_client.enqueue("t", queue=queue)
    assert sync_client.queues.pause(queue).paused
    assert sync_client.queues.get(queue).jobs[JobState.QUEUED] == 1
    assert not sync_client.queues.resume(queue).paused
    assert queue in [one.name for one in sync_client.queues.list()]


def test_sync_and_async_have_the_same_methods():
    """Names and parameters agree."""

    def methods(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(f).parameters) for name, f in found if not name.startswith("_")}

    assert methods(Queues) == methods(AsyncQueues)
