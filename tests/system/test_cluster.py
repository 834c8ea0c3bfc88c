"""Several primaries: a cluster of three, with a real server, real workers and watchers."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from harness.topologies import Cluster
from harness.waiting import Eventually
from headrace_broker import (
    RESYNC,
    Broker,
    CannotStart,
    Enqueued,
    Held,
    JobSpec,
    NewJob,
    Renewed,
    State,
    StoreUnavailable,
    StoreUnfit,
    Subscription,
    Transition,
    WorkerInfo,
    keys,
)
from headrace_server.app import Server
from headrace_server.settings import ServerSettings

from .stack import Stack

SHARDS = 6


def slot_of(namespace: str, shard: int) -> int:
    """The slot of a shard's keys."""
    return key_slot(keys.Shard(namespace, shard).queues().encode())


@pytest.fixture
async def stack(cluster_of_three: Cluster, namespace: str) -> AsyncIterator[Stack]:
    """A headrace of six shards on the cluster."""
    async with Stack(url=cluster_of_three.url, namespace=namespace, shards=SHARDS) as one:
        yield one


async def homes(cluster: Cluster, namespace: str) -> dict[int, list[int]]:
    """Node → the shards that it serves."""
    found: dict[int, list[int]] = {}
    for shard in range(SHARDS):
        found.setdefault(await cluster.owner(slot_of(namespace, shard)), []).append(shard)
    return found


async def test_jobs_spread_over_three_primaries_and_all_end(
    stack: Stack, cluster_of_three: Cluster, namespace: str, eventually: Eventually
) -> None:
    """Jobs of every shard are stored on the primary that serves it, run once each, and are watched there."""
    jobs = [await stack.put(f"n{n}") for n in range(60)]

    await asyncio.gather(*(stack.watched(job) for job in jobs))

    assert [stack.effects[job] for job in jobs] == [1] * len(jobs)
    assert {keys.shard_of(job) for job in jobs} == set(range(SHARDS))
    for node, shards in (await homes(cluster_of_three, namespace)).items():
        async with cluster_of_three.client(node) as client:
            for shard in shards:
                assert await client.exists(keys.Shard(namespace, shard).queues())


async def test_a_slot_that_is_migrated_under_load_loses_nothing(
    stack: Stack, cluster_of_three: Cluster, namespace: str, eventually: Eventually
) -> None:
    """F38: a shard's slot is moved key by key, with pauses, while producers, workers and watchers are at it. Half-moved
    it is out of service, with no harm to the other shards; then all of it goes on at the new primary. Every job ends
    once in effect, and watchers hear every version.
    """
    slot = slot_of(namespace, 0)
    source = await cluster_of_three.owner(slot)
    others = [shard for shard in range(SHARDS) if shard != 0]

    async def pause() -> None:
        await asyncio.sleep(0.05)

    async with stack.under_load():
        await eventually(lambda: len(stack.acknowledged) > 200)
        moving = asyncio.create_task(
            cluster_of_three.move_slot(slot, to=(source + 1) % 3, keys_at_a_time=5, pause=pause)
        )
        await stack.goes_on(*others)
        assert await moving > 20
        await stack.goes_on(*range(SHARDS))

    assert await cluster_of_three.owner(slot) == (source + 1) % 3
    for job in stack.acknowledged:
        assert await eventually(lambda job=job: stack.ended(job), within=10)
        assert stack.effects[job] == 1


async def test_no_script_runs_on_half_a_slot(cluster_of_three: Cluster, namespace: str) -> None:
    """F38: while the record of a queued job has gone ahead and its entry in the stream has not, a claim would take the
    entry for a leftover and drop it. No script works on such a slot; when all of it has moved, the job is there.
    """
    slot = slot_of(namespace, 0)
    source = await cluster_of_three.owner(slot)
    target = (source + 1) % 3
    async with Broker(url=cluster_of_three.url, namespace=namespace, shards=1) as broker:
        soon = NewJob(spec=JobSpec(type="t", delay_ms=60_000, expire_time_ms=4_000_000_000_000))
        [stored, _] = await broker.enqueue([NewJob(spec=JobSpec(type="t")), soon])
        assert isinstance(stored, Enqueued)
        async with cluster_of_three.client(source) as old:
            await old.zadd(broker.shard(0).dead("default"), {"0" * 26: 0})  # so that a claim misses nothing
            await cluster_of_three.begin_to_move(slot, to=target)
            await cluster_of_three.migrate(source, target, broker.shard(0).job(stored.job_id).encode())

        with pytest.raises(StoreUnavailable):
            await broker.claim(shard=0, worker="w", queues=["default"], count=5, token="t")
        await cluster_of_three.move_slot(slot, to=target)

        claims = await broker.claim(shard=0, worker="w", queues=["default"], count=5, token="t")
        assert [job.job_id for job in claims.jobs] == [stored.job_id]


async def test_a_bell_moves_with_its_slot(cluster_of_three: Cluster, namespace: str) -> None:
    """F38: the store ends the subscriptions of a slot that moves away. The listener is told to read the record, and
    hears what comes at the new primary: within two seconds, without waiting for anybody's heartbeat.
    """
    slot = slot_of(namespace, 0)
    async with Broker(url=cluster_of_three.url, namespace=namespace) as broker:
        [stored] = await broker.enqueue([NewJob(spec=JobSpec(type="t"))])
        assert isinstance(stored, Enqueued)
        subscription = Subscription(broker)
        running = asyncio.create_task(subscription.run())
        async with subscription.listen(stored.job_id) as bell:
            await cluster_of_three.move_slot(slot, to=(await cluster_of_three.owner(slot) + 1) % 3)
            assert await bell.ring(2) is RESYNC
            await broker.claim(shard=0, worker="w", queues=["default"], count=1, token="t")
            heard = await bell.ring(2)
            assert isinstance(heard, Transition)
            assert (heard.state, heard.version) == (State.PROCESSING, 2)
        running.cancel()
        await asyncio.wait([running])


async def test_leases_are_renewed_side_by_side(cluster_of_three: Cluster, namespace: str) -> None:
    """While one primary does not answer, the leases of jobs on the others are renewed within the time given."""
    info = WorkerInfo(worker_id="w", queues=("default",), concurrency=9, host="h", pid=1, version="1")
    async with Broker(url=cluster_of_three.url, namespace=namespace, shards=SHARDS) as broker:
        await broker.enqueue([NewJob(spec=JobSpec(type="t")) for _ in range(60)])
        held = [
            Held(job_id=job.job_id, token="t")
            for shard in range(SHARDS)
            for job in (await broker.claim(shard=shard, worker="w", queues=["default"], count=60, token="t")).jobs
        ]
        assert len(held) == 60
        silent = await cluster_of_three.owner(slot_of(namespace, 0))
        lost = (await homes(cluster_of_three, namespace))[silent]
        cluster_of_three.nodes[silent].process.signal(signal.SIGSTOP)
        try:
            answers = await broker.renew(worker=info, held=held, within=0.3)
        finally:
            cluster_of_three.nodes[silent].process.signal(signal.SIGCONT)

        for hold, answer in zip(held, answers, strict=True):
            if keys.shard_of(hold.job_id) in lost:
                assert isinstance(answer, StoreUnavailable)
            else:
                assert answer is Renewed.KEPT


async def test_a_primary_that_dies_harms_only_its_shards(
    tmp_path: Path, namespace: str, eventually: Eventually
) -> None:
    """Of three primaries one is killed: the shards of the others go on for producers, workers and watchers, also in a
    server that is started meanwhile. When it is back, its own shards go on too, and no acknowledged job is lost.
    """
    cluster = await asyncio.to_thread(
        lambda: Cluster(directory=tmp_path, primaries=3, options=("--appendfsync", "always"))
    )
    try:
        async with Stack(url=cluster.url, namespace=namespace, shards=SHARDS) as stack:
            await asyncio.gather(*(stack.put(f"n{n}") for n in range(30)))
            dead, lost = next(iter((await homes(cluster, namespace)).items()))
            alive = [shard for shard in range(SHARDS) if shard not in lost]

            cluster.nodes[dead].kill()

            await stack.goes_on(*alive)
            await stack.goes_on(*alive)
            settings = ServerSettings(
                redis_url=cluster.url, namespace=namespace, shards=SHARDS, listen="127.0.0.1:0", http_listen=""
            )
            async with Server(settings):
                pass
            await asyncio.to_thread(cluster.nodes[dead].start_again)
            await asyncio.wait_for(stack.goes_on(*range(SHARDS)), 10)
            for job in stack.acknowledged:
                assert await eventually(lambda job=job: stack.ended(job), within=10)
    finally:
        cluster.close()


async def test_one_node_of_a_cluster_is_refused_as_a_store(cluster_of_three: Cluster, namespace: str) -> None:
    """A plain URL of a node would find a third of the shards: the refusal names the right kind of URL."""
    url = f"redis://127.0.0.1:{cluster_of_three.ports[0]}/0"
    with pytest.raises(CannotStart, match=r"one node of a cluster: the URL should be redis\+cluster://"):
        async with Server(ServerSettings(redis_url=url, namespace=namespace, listen="127.0.0.1:0", http_listen="")):
            pass


async def test_all_primaries_are_checked(cluster_of_three: Cluster, namespace: str) -> None:
    """What is unfit at one primary refuses all, and is named with its address; so are warnings."""
    async with (
        Broker(url=cluster_of_three.url, namespace=namespace, shards=SHARDS) as broker,
        cluster_of_three.client(2) as third,
    ):
        await third.config_set("cluster-require-full-coverage", "yes")
        place = f"127.0.0.1:{cluster_of_three.ports[2]}"
        try:
            assert [w for w in (await broker.check()).warnings if w.startswith(f"{place}: cluster-require-full")]
            await third.config_set("maxmemory-policy", "allkeys-lru")
            with pytest.raises(StoreUnfit, match=f"{place}: maxmemory-policy is allkeys-lru"):
                await broker.check()
        finally:
            await third.config_set("maxmemory-policy", "noeviction")
            await third.config_set("cluster-require-full-coverage", "no")
