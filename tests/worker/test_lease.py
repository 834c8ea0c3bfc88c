"""Leases: kept while a handler runs, whatever it does; lost with its worker; never written over."""

import asyncio
import signal
import threading
import time

import pytest

from headrace_broker import (
    Broker,
    Finish,
    Finished,
    JobSpec,
    NewJob,
    Reason,
    State,
    Succeeded,
    WorkerInfo,
    new_token,
)
from headrace_worker import Context, Worker
from headrace_worker._lease import LeaseKeeper
from headrace_worker._run import Run, Stop
from worker.make import claimed

LEASE = 1.0


@pytest.fixture
def log(tmp_path):
    """A file for the effects of handlers."""
    path = tmp_path / "log"
    path.touch()
    return path


async def test_a_worker_that_is_killed_strands_no_job(launch, jobs, tmp_path, log):
    """Regression: SIGKILL, and within its lease and a moment the job runs elsewhere."""
    first = launch("sample_app:worker", lease=str(LEASE))
    second = launch("sample_app:worker", lease=str(LEASE))
    job_id = await jobs.put("wait.thread", f'{{"log":"{log}","until":"{tmp_path / "until"}"}}'.encode())
    job = await jobs.reach(job_id, State.PROCESSING)
    victim, survivor = (first, second) if f"-{first.pid}-" in job.worker else (second, first)
    killed_at = time.monotonic()
    victim.kill()

    async def elsewhere():
        job = await jobs.get(job_id)
        return job if f"-{survivor.pid}-" in job.worker else None

    await asyncio.wait_for(_until(elsewhere), LEASE + 5)
    assert time.monotonic() - killed_at < LEASE + 3
    (tmp_path / "until").touch()
    job = await jobs.ended(job_id)
    assert (job.state, job.attempt, job.crashes) == (State.SUCCEEDED, 1, 1)
    assert Reason.LEASE_LOST in [step.reason for step in job.history]


async def _until(predicate):
    while not await predicate():
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.02)


async def test_a_handler_that_blocks_the_loop_for_three_leases_runs_exactly_once(launch, jobs, log):
    """Its lease is renewed by another thread, so no other worker takes the job."""
    for _ in range(2):
        launch("sample_app:worker", lease="0.5")
    job_id = await jobs.put("block.loop", f'{{"log":"{log}","seconds":1.5}}'.encode())
    job = await jobs.ended(job_id)
    assert (job.state, job.attempt, job.crashes) == (State.SUCCEEDED, 1, 0)
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["begin", "end"]


async def test_a_job_five_leases_long_runs_once(serve, jobs, release):
    """Renewed again and again, it is nobody else's."""
    begun = []
    worker = Worker()

    @worker.handler("long")
    async def long(ctx: Context):
        begun.append(ctx.attempt)
        await asyncio.wait([asyncio.create_task(release.wait())], timeout=5 * 0.5)

    for _ in range(2):
        await serve(worker, lease=0.5)
    job = await jobs.ended(await jobs.put("long"))
    assert (job.state, job.crashes, begun) == (State.SUCCEEDED, 0, [1])


async def test_each_worker_process_has_a_consumer_name_of_its_own(launch, broker, eventually):
    """Regression: two on one host, and one of them started again, are three names."""

    async def names():
        return {name.decode() for name in await broker.redis.zrange(broker.shard(0).workers(), 0, -1)}

    async def two():
        found = await names()
        return found if len(found) == 2 else None

    first, second = launch("sample_app:worker"), launch("sample_app:worker")
    before = await eventually(two)
    assert {int(name.split("-")[-2]) for name in before} == {first.pid, second.pid}
    first.stop()
    launch("sample_app:worker")
    after = await eventually(two)
    assert len(before | after) == 3


async def test_a_worker_that_was_stopped_for_longer_than_its_lease_writes_nothing(launch, jobs, log, tmp_path, broker):
    """SIGSTOP, a new owner, SIGCONT: the old one's outcome is refused, the new one's stands."""
    zombie = launch("sample_app:worker", lease=str(LEASE))
    job_id = await jobs.put("wait.thread", f'{{"log":"{log}","until":"{tmp_path / "until"}"}}'.encode())
    await jobs.reach(job_id, State.PROCESSING)
    zombie.signal(signal.SIGSTOP)
    survivor = launch("sample_app:worker", lease=str(LEASE))

    async def elsewhere():
        return f"-{survivor.pid}-" in (await jobs.get(job_id)).worker

    await asyncio.wait_for(_until(elsewhere), 10)
    zombie.signal(signal.SIGCONT)
    zombie.wait_for_line("lease lost|lease not renewed in time")
    (tmp_path / "until").touch()
    job = await jobs.ended(job_id)
    assert (job.state, job.crashes) == (State.SUCCEEDED, 1)
    assert f"-{survivor.pid}-" in job.worker
    assert [step.state for step in job.history].count(State.SUCCEEDED) == 1
    assert [line.split()[0] for line in log.read_text().splitlines()].count("end") == 1


async def test_a_lost_lease_stops_the_handler_and_nothing_is_written(serve, jobs, broker):
    """The winner's result stays, whatever the loser would have said."""
    stopped = asyncio.Event()
    worker = Worker()

    @worker.handler("robbed")
    async def robbed():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()

    await serve(worker, lease=0.6)
    job_id = await jobs.put("robbed")
    job = await jobs.reach(job_id, State.PROCESSING)
    stolen = new_token()
    await broker.redis.hset(broker.shard(0).job(job_id), "token", stolen)
    await asyncio.wait_for(stopped.wait(), 5)
    assert (await jobs.get(job_id)).version == job.version
    won = [Finish(job_id=job_id, token=stolen, outcome=Succeeded(result=b"1"))]
    assert await broker.finish(won) == [Finished.WRITTEN]


async def test_a_lease_that_cannot_be_renewed_is_given_up_before_its_end(own_valkey, namespace, settings):
    """Cut off from the store, the worker stops the handler in time, and gives the job back when the store returns."""
    store = own_valkey()
    stopped_at = asyncio.Queue()
    worker = Worker()

    @worker.handler("cut.off")
    async def cut_off(ctx: Context):
        if ctx.job.crashes or not stopped_at.empty():
            return
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped_at.put_nowait(time.monotonic())

    stop, ready = asyncio.Event(), asyncio.Event()
    config = settings(redis_url=store.url, lease=1.5)
    async with Broker(url=store.url, namespace=namespace) as broker:
        serving = asyncio.create_task(worker.serve(config, ready=ready, stop=stop))
        await ready.wait()
        [job] = await broker.enqueue([NewJob(spec=JobSpec(type="cut.off"))])

        async def running():
            return (await broker.get(job.job_id)).state is State.PROCESSING

        await asyncio.wait_for(_until(running), 5)
        cut_at = time.monotonic()
        store.process.signal(signal.SIGSTOP)
        assert await asyncio.wait_for(stopped_at.get(), 5) - cut_at < 1.5
        stopped_at.put_nowait(0.0)
        store.process.signal(signal.SIGCONT)

        async def done():
            return (await broker.get(job.job_id)).state is State.SUCCEEDED

        await asyncio.wait_for(_until(done), 10)
        ended = await broker.get(job.job_id)
        assert (ended.attempt, ended.crashes) == (1, 0), "given back by its own worker, not reclaimed from it"
        stop.set()
        await serving


async def test_the_keeper_lets_go_of_a_job_whose_time_was_up_long_ago(broker):
    """A handler that blocks the loop beyond its timeout must not keep its job for ever."""
    stops: list[tuple[Run, Stop]] = []
    held = [Run(job=claimed(), leased_until=0.0, on_timeout=lambda _run: None) for _ in range(2)]
    held[0].renew_until = time.monotonic() - 1
    keeper = _keeper(broker, held, stops)
    await keeper.renew(broker)
    await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.05)
    assert stops == [(held[1], Stop.LOST)], "the other one was asked for, and is nobody's"


async def test_the_death_of_the_keeper_is_told():
    """Without it all jobs would be lost one by one: the worker must hear of it."""
    deaths: list[BaseException] = []

    def broken():
        raise ZeroDivisionError

    keeper = _keeper(None, [], [], make=broken, deaths=deaths)
    keeper.start()
    await asyncio.wait_for(_until(_is(deaths)), 5)
    assert isinstance(deaths[0], ZeroDivisionError)
    await keeper.stop()
    await keeper.stop()


def _is(values):
    async def found():
        return bool(values)

    return found


def _keeper(broker, held, stops, *, make=None, deaths=None):
    info = WorkerInfo(worker_id="w-1-x", queues=("default",), concurrency=1, host="w", pid=1, version="0")
    keeper = LeaseKeeper(
        make_broker=make or (lambda: broker),
        info=info,
        held=lambda: held,
        on_stop=lambda run, stop: stops.append((run, stop)),
        on_death=(deaths if deaths is not None else []).append,
    )
    keeper._workers_loop = asyncio.get_running_loop()
    return keeper


async def test_a_failed_role_ends_the_worker_with_its_error(serve, jobs, broker):
    """It drains and raises, rather than go on without claiming."""
    worker = Worker()
    worker.handler("quick")(lambda: None)
    serving = await serve(worker)
    await broker.redis.set(broker.shard(0).ready("default", "normal"), "not a stream")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await asyncio.wait_for(asyncio.shield(serving.task), 10)
    assert threading.active_count() >= 1
