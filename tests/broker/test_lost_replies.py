"""The connection breaks at any point of a call: the call took effect wholly or not at all, and may be repeated."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest

from broker.moves import BOOM, LEASE_OVER, WORKER, age, claim, finish, ids, make_due
from broker.state import ident, new
from harness.proxy import Mode, Proxy, target_of
from headrace_broker import (
    Broker,
    Enqueued,
    Finished,
    Held,
    JobNotFound,
    Retried,
    State,
    StoreUnavailable,
    Succeeded,
    new_token,
)
from headrace_broker.scripts import load_all

T = TypeVar("T")
Far = tuple[Broker, Proxy]


@pytest.fixture
async def far(store: str, namespace: str) -> AsyncIterator[Far]:
    """A broker whose store is behind a proxy, in the namespace of `store_broker`. Its connection is made, and the store
    knows the scripts, so that the next request is the call itself.
    """
    async with (
        Proxy(target_of(store)) as proxy,
        Broker(url=f"redis://127.0.0.1:{proxy.port}/0", namespace=namespace) as broker,
    ):
        for script in load_all().values():
            await broker.redis.script_load(script.text)
        yield broker, proxy


async def _twice(far: Far, call: Callable[[], Awaitable[T]]) -> T:
    """Makes a call whose reply is lost, and makes it again."""
    broker, proxy = far
    proxy.mode = Mode(lose_replies=True)
    with pytest.raises(StoreUnavailable):
        await call()
    proxy.pass_on()
    await broker.ping()
    return await call()


async def test_every_call_of_a_life_may_lose_its_reply(store_broker: Broker, far: Far) -> None:
    """F02, F04: a job fails once, loses its worker once, and succeeds, while the reply of each single call is lost and
    the call repeated: one job, one story, and afterwards everything in its place (see audit.py).
    """
    broker, _ = far
    job, queues = ident("a"), ["default"]

    [stored] = await _twice(far, lambda: broker.enqueue([new("a")]))
    assert isinstance(stored, Enqueued)
    assert stored.deduplicated

    async def claimed(token: str) -> None:
        proxy = far[1]
        proxy.mode = Mode(lose_replies=True)
        with pytest.raises(StoreUnavailable):
            await claim(broker, token=token)
        proxy.pass_on()
        assert ids(await claim(broker, token=token, resume=True)) == [job]

    await claimed("t1")
    assert await _twice(far, lambda: broker.report_progress(job, "t1", fraction=0.5, message="half"))
    assert await _twice(far, lambda: broker.renew(worker=WORKER, held=[Held(job_id=job, token="t1")])) == [True]
    outcome = Retried(delay_ms=60_000, failure=BOOM)
    assert await _twice(far, lambda: finish(broker, job, outcome, token="t1")) is Finished.WRITTEN
    await make_due(store_broker, job)
    assert (await _twice(far, lambda: broker.promote(shard=0, queues=queues))).moved == 0  # the first call has
    await claimed("t2")
    await age(store_broker, job, LEASE_OVER)
    assert (await _twice(far, lambda: broker.reclaim(shard=0, queues=queues))).requeued == 0  # the first call has
    await claimed("t3")
    assert await _twice(far, lambda: finish(broker, job, Succeeded(), token="t3")) is Finished.WRITTEN
    assert await _twice(far, lambda: broker.depart(worker="w1", queues=queues)) == 0

    told = [step.state for step in (await _twice(far, lambda: broker.get(job))).history]
    assert told == [
        State.QUEUED, State.PROCESSING, State.RETRYING, State.QUEUED, State.PROCESSING, State.QUEUED, State.PROCESSING,
        State.SUCCEEDED,
    ]  # fmt: skip


async def test_a_request_that_is_cut_anywhere_is_stored_wholly_or_not_at_all(store_broker: Broker, far: Far) -> None:
    """F04: the connection is reset after so many bytes, a few more each time: a job and all of its parts, or nothing;
    the same request again makes it one job in any case.
    """
    broker, proxy = far
    cut = 0
    for size in range(0, 700, 13):
        name = new_token()
        proxy.mode = Mode(cut_after=size)
        try:
            await broker.enqueue([new(name)])
        except StoreUnavailable:
            cut += 1
        proxy.pass_on()
        stored = await _is_there(store_broker, name)
        [answer] = await broker.enqueue([new(name)])
        assert isinstance(answer, Enqueued)
        assert answer.deduplicated == stored
    assert 10 < cut < 54, "some were cut, some were not"


async def _is_there(broker: Broker, name: str) -> bool:
    try:
        return (await broker.get(ident(name))).state is State.QUEUED
    except JobNotFound:
        return False
