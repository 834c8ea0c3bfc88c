"""Workers and paused queues: nothing is handed out, nobody asks all the time, and a resume is noticed at once."""

import time

from headrace_broker import Broker, JobSpec, NewJob, State
from headrace_worker import Worker


def _echo(**options: object) -> Worker:
    worker = Worker(**options)

    @worker.handler("echo")
    async def echo() -> None:
        pass

    return worker


async def _claims(broker: Broker) -> int:
    """Script calls that the store has answered, of all its users."""
    stats = await broker.redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "xreadgroup"))


async def test_a_worker_waits_while_its_queue_is_paused_and_goes_on_at_the_resume(serve, jobs, broker):
    """Jobs that came before, while and after it was paused stay QUEUED; the resume is heard within half a second."""
    await serve(_echo())
    assert (await jobs.ended(await jobs.put("echo"))).state is State.SUCCEEDED
    await broker.queues.pause("default", reason="maintenance")
    held = [await jobs.put("echo") for _ in range(3)]

    await broker.queues.pause("default")
    assert [(await jobs.get(job)).state for job in held] == [State.QUEUED] * 3

    began = time.monotonic()
    await broker.queues.resume("default")
    for job in held:
        assert (await jobs.ended(job)).state is State.SUCCEEDED
    assert time.monotonic() - began < 1


async def test_other_queues_are_served_at_once_meanwhile(serve, jobs, broker):
    """A worker of two queues waits for the one that is not paused, as quick as ever."""
    await serve(_echo(queues=["default", "other"]))
    await jobs.ended(await jobs.put("echo", queue="other"))
    await broker.queues.pause("default", allow_missing=True)
    held = await jobs.put("echo")

    for _ in range(3):
        began = time.monotonic()
        await jobs.ended(await jobs.put("echo", queue="other"))
        assert time.monotonic() - began < 1

    assert (await jobs.get(held)).state is State.QUEUED


async def test_nobody_asks_all_the_time(serve, jobs, own_valkey, namespace, eventually):
    """With a backlog in a paused queue, a worker asks the store a few times a second, not thousands of times."""
    store = own_valkey()
    async with Broker(url=store.url, namespace=namespace) as broker:
        await broker.queues.pause("default", allow_missing=True)
        await serve(_echo(), redis_url=store.url)
        answers = await jobs_of(broker, 20)
        before, began = await _claims(broker), time.monotonic()
        await eventually(lambda: time.monotonic() - began > 2.5)
        asked = await _claims(broker) - before
        assert {(await broker.get(job)).state for job in answers} == {State.QUEUED}
        assert asked < 60, "its maintenance asks some 15 times a second"


async def jobs_of(broker: Broker, count: int) -> list[str]:
    """Puts jobs into the default queue."""
    return [one.job_id for one in await broker.enqueue([NewJob(spec=JobSpec(type="echo")) for _ in range(count)])]
