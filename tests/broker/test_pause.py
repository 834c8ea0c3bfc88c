"""pause.lua and Queues.pause: a paused queue hands out nothing, and everything else about it goes on."""

import pytest

from broker.hearing import Hearing
from broker.moves import BOOM, QUEUE_KEYS, assert_stopped_by, claim, deliver, finish, ids, lose, make_due, start
from broker.state import A, B, C, Dump, counted, known, new, record, streams
from harness.stores import Store
from headrace_broker import Broker, Finished, Priority, QueueNotFound, Retried, State, Succeeded
from headrace_broker.job import HOUR


async def test_a_paused_queue_hands_out_nothing(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """No claim gets a job of it, of any priority, and is told why; other queues are served. Pausing again keeps the
    time of the first pause.
    """
    await store_broker.enqueue([new("a"), new("b", priority=Priority.HIGH), new("c", queue="other")])
    await heard.of(A)

    paused = await store_broker.queues.pause("default", reason="the bank is closed")

    state = await dump()
    assert paused.paused_at_ms is not None
    assert paused.pause_reason == "the bank is closed"
    claims = await claim(store_broker, 5, queues=("default", "other"))
    assert (ids(claims), claims.paused) == ([C], frozenset({"default"}))
    assert (await claim(store_broker, 5, token="t2")).paused == {"default"}
    again = await store_broker.queues.pause("default", reason="and stays so")
    assert (again.paused_at_ms, again.pause_reason) == (paused.paused_at_ms, "and stays so")
    assert (await dump())["ready:default:normal"] == state["ready:default:normal"]
    assert await heard.events(A) == []


async def test_all_else_goes_on(store_broker: Broker) -> None:
    """Running jobs finish or fail, lost ones come back, new and due ones join the line; nothing of it is handed out."""
    await start(store_broker, new("a"), new("b"), new("c"))
    await store_broker.queues.pause("default")

    assert await finish(store_broker, A, Succeeded()) is Finished.WRITTEN
    assert await finish(store_broker, B, Retried(delay_ms=HOUR, failure=BOOM)) is Finished.WRITTEN
    await make_due(store_broker, B)
    assert (await store_broker.promote(shard=0, queues=["default"])).moved == 1
    await lose(store_broker, C)
    await store_broker.enqueue([new("d")])

    assert (await claim(store_broker, 5, token="t2")).jobs == ()
    assert (await store_broker.queues.get("default")).jobs[State.QUEUED] == 3


async def test_a_job_that_was_delivered_before_the_claim_goes_back(store_broker: Broker, dump: Dump) -> None:
    """A blocking read may be handed a job just as its queue is paused: the claim gives it back, at the front."""
    await store_broker.enqueue([new("a"), new("b")])
    delivered = await deliver(store_broker)
    await store_broker.queues.pause("default")

    assert (await claim(store_broker, 5, delivered=[delivered])).jobs == ()

    state = await dump()
    assert state["ready:default:high"] == {"entries": [A], "pending": {}, "groups": ["workers"]}
    assert state["ready:default:normal"]["entries"] == [B]
    await store_broker.queues.resume("default")
    assert ids(await claim(store_broker, 5, token="t2")) == [A, B]


async def test_a_claim_whose_reply_was_lost_is_answered_after_the_pause(store_broker: Broker) -> None:
    """Jobs that were claimed before the pause are this worker's: asked again, the claim returns them, and no others."""
    await store_broker.enqueue([new("a"), new("b")])
    await claim(store_broker, 1)
    await store_broker.queues.pause("default")

    assert ids(await claim(store_broker, 2, resume=True)) == [A]


async def test_an_unknown_queue_is_not_paused_by_mistake(store_broker: Broker, dump: Dump) -> None:
    """A queue that nobody knows is refused, unless it is asked for; then it is there, paused, with its groups."""
    with pytest.raises(QueueNotFound, match="no queue default"):
        await store_broker.queues.pause("default")
    assert await dump() == {}

    paused = await store_broker.queues.pause("default", reason="r", allow_missing=True)

    state = await dump()
    assert paused.paused_at_ms == int(state["queue:default"].pop("paused_at"))
    assert state == {**known(), **streams(), "queue:default": {"pause_reason": "r"}}
    await store_broker.enqueue([new("a")])
    assert (await claim(store_broker)).jobs == ()


async def test_a_pause_outlives_the_store(own_valkey, namespace: str) -> None:
    """After a crash and a restart of the store the queue is still paused."""
    store: Store = own_valkey("--appendfsync", "always")
    async with Broker(url=store.url, namespace=namespace) as broker:
        await broker.enqueue([new("a")])
        paused = await broker.queues.pause("default", reason="r")
        store.kill()
        store.start_again()
    async with Broker(url=store.url, namespace=namespace) as broker:
        found = await broker.queues.get("default")
        assert (found.paused_at_ms, found.pause_reason) == (paused.paused_at_ms, "r")
        assert (await claim(broker)).jobs == ()


@pytest.mark.parametrize("key", QUEUE_KEYS)
async def test_a_key_of_the_wrong_type_stops_it_before_its_first_write(store_broker: Broker, key: str) -> None:
    """Law 1: a wrong key of the queue stops the call before it has changed anything."""
    await assert_stopped_by(store_broker, key, lambda: store_broker.queues.pause("default", allow_missing=True))


async def test_the_counters_stay(store_broker: Broker, dump: Dump) -> None:
    """What the queue counts lives beside the pause, and is not touched by it."""
    await store_broker.enqueue([new("a")])
    await store_broker.queues.pause("default")
    await store_broker.queues.resume("default")

    assert await dump() == {**known(), **counted(QUEUED=1), **streams(normal=[A]), f"job:{A}": record("QUEUED", "q")}
