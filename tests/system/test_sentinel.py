"""Sentinels: a primary with a replica, and what a failover looks like to producers, workers and watchers."""

import asyncio

import pytest

from harness.topologies import Watched
from harness.waiting import Eventually
from headrace_broker import Broker, CannotStart, Enqueued, JobSpec, NewJob, StoreUnavailable, await_store, open_broker
from headrace_server.settings import ServerSettings

from .stack import PATIENCE, Stack


async def test_a_planned_failover_under_load_loses_nothing(
    watched: Watched, namespace: str, eventually: Eventually
) -> None:
    """F08, F37: a coordinated failover while producers, workers and watchers are at it, and one worker is in a blocking
    read. The read ends at once; everybody goes on at the new primary within five seconds. Every acknowledged job
    ends once, and every watcher hears every version.
    """
    async with (
        Stack(url=watched.url, namespace=namespace) as stack,
        Broker(url=watched.url, namespace=namespace) as idle,
    ):
        await idle.claim(shard=0, worker="idle", queues=["other"], count=1, token="t")
        async with stack.under_load():
            await eventually(lambda: len(stack.acknowledged) > 100)
            waiting = asyncio.create_task(idle.wait(shard=0, worker="idle", queues=["other"], timeout_ms=50_000))
            await asyncio.to_thread(watched.fail_over, coordinated=True)
            with pytest.raises(StoreUnavailable):
                async with asyncio.timeout(10):
                    await waiting
            assert await eventually(lambda: delivered(idle), within=PATIENCE)
            await stack.goes_on(0)
        assert await eventually(lambda: watched.primary() == 1, within=10)
        for job in stack.acknowledged:
            assert await eventually(lambda job=job: stack.ended(job), within=10)


async def delivered(broker: Broker) -> bool:
    """Enqueues a job for the idle worker, and waits for it, where the store allows it."""
    try:
        await broker.enqueue([NewJob(spec=JobSpec(queue="other", type="t"))])
        return bool(await broker.wait(shard=0, worker="idle", queues=["other"], timeout_ms=1_000))
    except StoreUnavailable:
        return False


async def test_a_primary_that_is_cut_off_from_the_sentinels_is_left(
    watched: Watched, namespace: str, eventually: Eventually
) -> None:
    """F12: the Sentinels alone can no longer reach the primary, and promote the replica; the old one goes on taking
    writes from whoever asks. We ask the Sentinels every second, and so leave it although it never fails.
    """
    old = watched.primary()
    async with Broker(url=watched.url, namespace=namespace) as broker:
        await broker.clock_ms()
        async with watched.cut_off(old):

            async def on_the_new_one() -> bool:
                [answer] = await broker.enqueue([NewJob(spec=JobSpec(type="t"))])
                assert isinstance(answer, Enqueued)
                async with watched.client(1 - old) as client:
                    role = await client.role()
                    return role[0] == b"master" and bool(await client.exists(broker.shard(0).job(answer.job_id)))

            assert await eventually(on_the_new_one, within=10)
            async with watched.client(old) as client:
                assert (await client.role())[0] == b"master", "it still believes to be the primary"


async def test_after_the_death_of_the_primary_confirmed_jobs_are_there(
    watched: Watched, namespace: str, eventually: Eventually
) -> None:
    """F08, F10: kill -9 of the primary under load with `durability` replicated. Producers, workers and watchers go on
    within five seconds, and every job that was acknowledged is there, and ends.
    """
    async with Stack(url=watched.url, namespace=namespace) as stack:
        async with stack.under_load(durability="replicated"):
            await eventually(lambda: len(stack.acknowledged) > 50, within=10)
            await asyncio.to_thread(watched.stores[0].kill)
        await stack.goes_on(0)
        assert watched.primary() == 1
        for job in stack.acknowledged:
            assert await eventually(lambda job=job: stack.ended(job), within=10)


async def test_a_url_that_does_not_fit_what_is_there_is_refused(watched: Watched) -> None:
    """The refusal says what is there, or what the URL should be."""
    sentinel, store = watched.sentinel_ports[0], watched.ports[0]
    for url, says in (
        (watched.url.replace("/queue", "/other"), "no Sentinel knows a primary of 'other': .*No such"),
        (f"redis://127.0.0.1:{sentinel}", r"that is a Sentinel: the URL should be redis\+sentinel://"),
        (f"redis+sentinel://127.0.0.1:{store}/queue", "no Sentinel knows .*unknown command"),
        (f"redis+cluster://127.0.0.1:{store}", "no node of the cluster answers: .*cluster support disabled"),
        ("redis+sentinel://127.0.0.1:1/queue", r"no store answers at redis\+sentinel://127.0.0.1:1/queue within"),
        (f"redis+cluster://127.0.0.1:{store}?no_such=1", "HEADRACE_REDIS_URL cannot be read: .*no_such"),
    ):
        settings = ServerSettings(redis_url=url, store_timeout=0.2)
        with pytest.raises(CannotStart, match=says):
            async with open_broker(settings) as broker:
                await await_store(broker, settings)
