"""claim.lua after a lost reply: the same call again, with resume."""

from broker.moves import claim, deliver, ids
from broker.state import A, B, C, Dump, new
from headrace_broker import Broker, Priority, State, new_token


async def test_resume_returns_what_the_lost_claim_had_claimed(store_broker: Broker, dump: Dump) -> None:
    """Law 3: the same call with resume returns exactly the same jobs, and changes nothing."""
    await store_broker.enqueue([new(f"n{n}", priority=p) for n, p in enumerate([*Priority, *Priority])])
    lost = await claim(store_broker, 4)
    state = await dump()

    for _ in range(2):
        again = await claim(store_broker, 4, resume=True)

        assert sorted(again.jobs, key=lambda job: job.job_id) == sorted(lost.jobs, key=lambda job: job.job_id)
        assert await dump() == state


async def test_resume_returns_a_delivered_job_once(store_broker: Broker, dump: Dump) -> None:
    """A job that the lost claim had from `delivered` is returned once, though the same call names it again."""
    await store_broker.enqueue([new("a"), new("b")])
    delivered = (await deliver(store_broker),)
    lost = await claim(store_broker, 2, delivered=delivered)
    state = await dump()

    again = await claim(store_broker, 2, delivered=delivered, resume=True)

    assert ids(lost) == ids(again) == [A, B]
    assert await dump() == state


async def test_a_call_that_never_arrived_claims_anew(store_broker: Broker) -> None:
    """Resume of a call that the store has never seen claims what there is."""
    await store_broker.enqueue([new("a"), new("b")])

    assert ids(await claim(store_broker, 5, resume=True)) == [A, B]


async def test_resume_tops_up_to_count(store_broker: Broker) -> None:
    """What the lost call had claimed counts; only the rest of `count` is claimed anew."""
    await store_broker.enqueue([new("a")])
    await claim(store_broker, 3)
    await store_broker.enqueue([new("b"), new("c"), new("d")])

    assert ids(await claim(store_broker, 3, resume=True)) == [A, B, C]


async def test_resume_never_gives_more_than_count(store_broker: Broker) -> None:
    """The lost claim's jobs come first, so a ghost delivery of higher priority never makes it too many."""
    await store_broker.enqueue([new("a"), new("b")])
    await claim(store_broker, 2)
    await store_broker.enqueue([new("c", priority=Priority.HIGH)])
    await deliver(store_broker, priority=Priority.HIGH)  # to a connection that is no more

    claims = await claim(store_broker, 2, resume=True)

    assert ids(claims) == [A, B]
    assert (await store_broker.get(C)).state is State.QUEUED
    assert ids(await claim(store_broker, 1, worker="w2", token="t2")) == [C]


async def test_resume_leaves_other_claims_of_the_worker_alone(store_broker: Broker, dump: Dump) -> None:
    """Jobs that the worker claimed under other tokens run already: they are not returned."""
    await store_broker.enqueue([new("a"), new("b")])
    await claim(store_broker, 1, token="t0")
    await claim(store_broker, 1, token="t1")
    state = await dump()

    assert ids(await claim(store_broker, 1, token="t1", resume=True)) == [B]
    assert ids(await claim(store_broker, 1, token="t2", resume=True)) == []
    assert await dump() == state


async def test_resume_finds_its_jobs_behind_many_that_run(store_broker: Broker) -> None:
    """A worker that runs more jobs than one look takes in still gets back what its lost claim had claimed."""
    await store_broker.enqueue([new(f"n{n}") for n in range(1_103)])
    for _ in range(3):
        await claim(store_broker, 367, token=new_token())
    lost = await claim(store_broker, 2)

    assert len(lost.jobs) == 2
    assert ids(await claim(store_broker, 2, resume=True)) == ids(lost)
