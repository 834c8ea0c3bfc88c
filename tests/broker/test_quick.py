"""The quick path: one job's whole life against fakeredis, where no real store is at hand.

It shows that the scripts are plain enough for another engine, and no more than that. What fakeredis cannot do, and the
other modules of this room therefore test on real stores:
- it knows no `#!lua` line, so nothing about memory (flags=allow-oom) and no cluster rules;
- a blocking XREADGROUP that is woken returns nothing: `wait` only ends after its time;
- INFO and CONFIG are missing: `check` cannot work, nor can maxmemory, persistence or replication be tried;
- its TCP server closes a connection after every error it reports, so the scripts are loaded beforehand: NOSCRIPT
  would be the end of the call;
- it is one Python process: no crash, no restart, no concurrency worth the name.
"""

import threading
from collections.abc import AsyncIterator

import pytest
from fakeredis import TcpFakeServer

from broker.moves import BOOM, WORKER, claim, finish, ids, lose, make_due, make_expired, now_ms, start
from broker.state import A, B, new
from headrace_broker import Broker, Failed, Finished, Held, Priority, Retried, State, Succeeded
from headrace_broker.job import HOUR
from headrace_broker.scripts import load_all


@pytest.fixture
async def quick() -> AsyncIterator[Broker]:
    """A Broker of a fakeredis that listens on TCP."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis", server_version=(7, 0))
    thread = threading.Thread(target=server.serve_forever, name="fakeredis")
    thread.start()
    async with Broker(url=f"redis://127.0.0.1:{server.server_address[1]}/0", shebang=False) as broker:
        for script in load_all(shebang=False).values():
            assert await broker.redis.script_load(script.text) == script.sha
        yield broker
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_job_succeeds(quick: Broker) -> None:
    """Steps: enqueue → claim → progress → finish → get."""
    await quick.enqueue([new("a", priority=Priority.LOW), new("b"), new("a", priority=Priority.LOW)])

    claims = await claim(quick, 5)

    assert ids(claims) == [B, A]
    assert ids(await claim(quick, 5, resume=True)) == [B, A]
    assert await quick.report_progress(A, "t1", fraction=0.5, message="half")
    assert await quick.renew(worker=WORKER, held=[Held(job_id=A, token="t1")]) == [True]
    assert await finish(quick, A, Succeeded(result=b"done")) is Finished.WRITTEN
    assert await finish(quick, B, Succeeded(), token="stale") is Finished.STALE
    job = await quick.get(A)
    assert (job.state, job.result, job.version, job.attempt) == (State.SUCCEEDED, b"done", 3, 1)
    assert [step.state for step in job.history] == [State.QUEUED, State.PROCESSING, State.SUCCEEDED]


async def test_a_job_is_scheduled_retried_and_fails(quick: Broker) -> None:
    """Steps: enqueue → promote → claim → retry → promote → claim → fail → dead letter."""
    await quick.enqueue([new("a", delay_ms=HOUR)])
    for token, outcome in (("t1", Retried(delay_ms=HOUR, failure=BOOM)), ("t2", Failed(failure=BOOM))):
        assert (await quick.promote(shard=0, queues=["default"])).moved == 0
        await make_due(quick, A)
        assert (await quick.promote(shard=0, queues=["default"])).moved == 1
        assert ids(await claim(quick, token=token)) == [A]
        assert await finish(quick, A, outcome, token=token) is Finished.WRITTEN

    page = await quick.dead_letters()

    assert [job.job_id for job in page.jobs] == [A]
    assert page.jobs[0].failure is not None
    assert page.jobs[0].failure.message == "boom"


async def test_a_lost_job_comes_back(quick: Broker) -> None:
    """Steps: claim → lease over → reclaim → claim by another worker."""
    await start(quick, new("a"))
    await lose(quick, A)

    [job] = (await claim(quick, token="t2", worker="w2")).jobs

    assert (job.job_id, job.attempt, job.crashes) == (A, 1, 1)
    assert await finish(quick, A, Succeeded()) is Finished.STALE


async def test_the_other_duties_run(quick: Broker) -> None:
    """Steps: expire, trim, forget and depart."""
    await quick.enqueue([new("a", expire_time_ms=await now_ms(quick) + HOUR)])
    await start(quick, new("b", queue="other"))
    await finish(quick, B, Failed(failure=BOOM))
    await make_expired(quick, A)

    assert await quick.expire(shard=0, queues=["default", "other"]) == 1
    assert await quick.trim(shard=0, queues=["default", "other"], retention_ms=-HOUR) == 1
    assert await quick.depart(worker="w1", queues=["default", "other"]) == 0
    assert await quick.forget(shard=0, queues=["default", "other"], idle_ms=-1) == 0
    assert (await quick.get(A)).state is State.EXPIRED


async def test_a_queue_is_paused_and_seen(quick: Broker) -> None:
    """Steps: enqueue → pause → claim nothing → resume → claim, and the counts of it."""
    await quick.enqueue([new("a")])
    assert (await quick.queues.pause("default", reason="r")).pause_reason == "r"
    assert (await claim(quick)).paused == {"default"}
    assert (await quick.queues.resume("default")).jobs[State.QUEUED] == 1
    assert ids(await claim(quick)) == [A]
