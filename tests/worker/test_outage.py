"""The store goes away and comes back: everything recovers by itself, and nothing is silent or hot."""

import asyncio
import time
from pathlib import Path

import pytest

from headrace_broker import Broker, Enqueued, JobSpec, NewJob, State, StoreUnavailable
from headrace_worker import Worker


@pytest.fixture
async def outage(own_valkey, namespace, settings, launch):
    """A store of its own, a broker for it, and the settings of a worker for it."""
    store = own_valkey()
    async with Broker(url=store.url, namespace=namespace) as broker:
        yield store, broker, settings(redis_url=store.url, lease=2)


async def _put(broker, kind):
    [answer] = await broker.enqueue([NewJob(spec=JobSpec(type=kind))])
    assert isinstance(answer, Enqueued)
    return answer.job_id


async def test_a_restart_of_the_store_during_a_run_needs_no_help(outage, eventually):
    """Jobs before, while and after: all are done, by the same worker; what ended meanwhile is written afterwards."""
    store, broker, settings = outage
    release, ready, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
    runs: list[str] = []
    worker = Worker(concurrency=10)

    @worker.handler("waits")
    async def waits(ctx):
        runs.append(ctx.job.id)
        await release.wait()
        return "done"

    worker.handler("quick")(lambda: None)
    serving = asyncio.create_task(worker.serve(settings, ready=ready, stop=stop))
    await ready.wait()
    before = [await _put(broker, "waits") for _ in range(5)]
    await eventually(lambda: len(runs) == 5)
    store.kill()
    release.set()
    await asyncio.wait([serving], timeout=0.5)
    store.start_again()
    after = await eventually(lambda: _answered(_put(broker, "quick")))

    async def all_done():
        return all([(await broker.get(job_id)).state is State.SUCCEEDED for job_id in (*before, after)])

    await eventually(lambda: _answered(all_done()), within=10)
    assert sorted(runs) == sorted(before), "each ran once"
    stop.set()
    await serving


async def _answered(call):
    """What a call answers; False while the store cannot."""
    try:
        return await call
    except StoreUnavailable:
        return False


async def test_an_outage_is_logged_once_by_each_role_and_costs_no_cpu(own_valkey, namespace, launch, eventually_sync):
    """One line when the store is lost, one when it is back; no hot loop between them."""
    store = own_valkey()
    worker = launch("sample_app:worker", redis_url=store.url)
    store.kill()
    worker.wait_for_line("consumer of shard 0")
    used = _cpu(worker.pid)
    await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=1.5)
    assert _cpu(worker.pid) - used < 0.4
    store.start_again()
    worker.wait_for_line("store is back")
    lost = [line for line in worker.lines if "store lost" in line]
    assert len(lost) == len({line.split('"role": ')[1].split(",")[0] for line in lost})
    assert worker.stop() == 0


def _cpu(pid):
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def test_a_worker_can_be_stopped_during_an_outage(own_valkey, launch):
    """It does not wait for a store that may never come back."""
    store = own_valkey()
    worker = launch("sample_app:worker", redis_url=store.url)
    store.kill()
    worker.wait_for_line("store lost")
    started = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - started < 8
