"""_dead_letters.py and Broker.dead_letters: paging through what failed."""

import random
from dataclasses import replace

import pytest

from broker.audit import audit
from broker.moves import BOOM, now_ms
from broker.state import A, B, C, D, ident, new, wipe
from headrace_broker import BadPageToken, Broker, DeadLetters, Failed, Finish
from headrace_broker.job import HOUR
from headrace_broker.keys import job_id, shard_of

QUEUES = ("x", "y", "z")


async def fail(broker: Broker, *names: str, queue: str = "default") -> None:
    """Makes dead letters, on whatever shards their names belong to."""
    await broker.enqueue([new(name, queue=queue) for name in names])
    for shard in range(broker.shards):
        jobs = (await broker.claim(shard=shard, worker="w1", queues=[queue], count=len(names), token="t1")).jobs
        await broker.finish([Finish(job_id=job.job_id, token="t1", outcome=Failed(failure=BOOM)) for job in jobs])


async def crowd(broker: Broker, queue: str, *names: str, at: int) -> None:
    """Lets dead letters of a queue share a few milliseconds."""
    for name in names:
        job = job_id(name, shards=broker.shards)
        await broker.redis.zadd(broker.shard(shard_of(job)).dead(queue), {job: at + len(name) % 3}, xx=True)


async def test_a_page_shows_what_failed(store_broker: Broker) -> None:
    """A dead letter is listed with its error and history, without its payload; the newest comes first."""
    assert await store_broker.dead_letters() == DeadLetters(jobs=(), next_page_token="", total=0)
    await fail(store_broker, "a")
    await fail(store_broker, "b")

    page = await store_broker.dead_letters()

    assert [job.job_id for job in page.jobs] == [B, A]
    assert (page.total, page.next_page_token) == (2, "")
    whole = await store_broker.get(A)
    assert page.jobs[1] == replace(whole, spec=replace(whole.spec, payload=b""))
    assert page.jobs[1].failure == replace(BOOM, time_ms=whole.finish_time_ms or 0)


async def test_a_queue_is_listed_alone(store_broker: Broker) -> None:
    """With a queue named, its dead letters alone are listed and counted."""
    await fail(store_broker, "a", queue="x")
    await fail(store_broker, "b", queue="y")

    assert [job.job_id for job in (await store_broker.dead_letters(queue="x")).jobs] == [A]
    assert (await store_broker.dead_letters(queue="x")).total == 1
    assert (await store_broker.dead_letters(queue="nothing")).total == 0
    assert (await store_broker.dead_letters()).total == 2


@pytest.mark.parametrize("shards", [1, 4])
async def test_paging_is_complete_and_never_repeats(store: str, namespace: str, shards: int) -> None:
    """Pages of any size show each dead letter once, newest first, though hundreds share a millisecond, shards and
    queues are mixed, and new ones arrive all the while.
    """
    async with Broker(url=store, namespace=namespace, shards=shards) as broker:
        await broker.ping()
        at = await now_ms(broker) - HOUR
        names = {queue: [f"{queue}{n}" for n in range(110)] for queue in QUEUES}
        for queue in QUEUES:
            await fail(broker, *names[queue], queue=queue)
            await crowd(broker, queue, *names[queue], at=at)
        wanted = {job_id(name, shards=shards) for queue in QUEUES for name in names[queue]}
        for size in (9, 100, 329, 330, 331):
            seen: list[str] = []
            page = await broker.dead_letters(page_size=size)
            while True:
                assert len(page.jobs) <= size
                seen += [job.job_id for job in page.jobs]
                if not page.next_page_token:
                    break
                if len(seen) < 30:
                    await fail(broker, f"late{size}.{len(seen)}", queue="x")
                page = await broker.dead_letters(page_size=size, page_token=page.next_page_token)
            assert len(seen) == len(set(seen))
            assert wanted <= set(seen)
            assert [job for job in seen if job in wanted] == await newest_first(broker, wanted)
        await audit(broker)
        await wipe(broker)


async def test_a_whole_batch_may_fail_in_one_millisecond(store_broker: Broker) -> None:
    """400 dead letters of one queue with the same time are paged through, each once."""
    names = [f"n{n}" for n in range(400)]
    await fail(store_broker, *names)
    dead = store_broker.shard(0).dead("default")
    await store_broker.redis.zadd(dead, {ident(name): 1_000 for name in names}, xx=True)

    seen: list[str] = []
    token = ""
    while token or not seen:
        page = await store_broker.dead_letters(page_size=30, page_token=token)
        seen += [job.job_id for job in page.jobs]
        token = page.next_page_token

    assert seen == sorted((ident(name) for name in names), reverse=True)


async def newest_first(broker: Broker, wanted: set[str]) -> list[str]:
    """Reads the order in which dead letters should be listed: by time, then by id."""
    found = []
    for number in range(broker.shards):
        for queue in QUEUES:
            dead = await broker.redis.zrange(broker.shard(number).dead(queue), 0, -1, withscores=True)
            found += [(int(score), member.decode()) for member, score in dead]
    return [job for _, job in sorted(found, reverse=True) if job in wanted]


async def test_a_dead_letter_that_is_deleted_between_pages_is_left_out(store_broker: Broker) -> None:
    """A record that is gone leaves its place empty; the pages after it are the same."""
    await fail(store_broker, *"abcd")
    first = await store_broker.dead_letters(page_size=2)
    rest = {A, B, C, D} - {job.job_id for job in first.jobs}
    await store_broker.redis.delete(store_broker.shard(0).job(min(rest)))
    await store_broker.redis.delete(store_broker.shard(0).job(first.jobs[-1].job_id))

    second = await store_broker.dead_letters(page_size=2, page_token=first.next_page_token)

    assert [job.job_id for job in second.jobs] == [max(rest)]
    assert second.next_page_token == ""
    await wipe(store_broker)


@pytest.mark.parametrize("size", [0, -1])
async def test_a_page_has_at_least_one_place(store_broker: Broker, size: int) -> None:
    """A page size below 1 is refused."""
    with pytest.raises(ValueError, match="page_size"):
        await store_broker.dead_letters(page_size=size)


async def a_token(broker: Broker, **query: object) -> str:
    """Returns a good page token."""
    await fail(broker, "a", "b", queue="x")
    return (await broker.dead_letters(page_size=1, **query)).next_page_token  # type: ignore[arg-type]


async def test_a_token_is_good_in_every_process(store_broker: Broker) -> None:
    """A token that one server gave is taken by another."""
    token = await a_token(store_broker)
    async with Broker(url=store_broker.url, namespace=store_broker.namespace) as other:
        assert len((await other.dead_letters(page_token=token)).jobs) == 1


@pytest.mark.parametrize("made_for", ["", "x"])
@pytest.mark.parametrize("used_for", ["", "x", "y"])
async def test_a_token_belongs_to_its_query(store_broker: Broker, made_for: str, used_for: str) -> None:
    """A token of a list of one queue is refused by the list of another, or of all."""
    token = await a_token(store_broker, queue=made_for)
    if made_for == used_for:
        assert (await store_broker.dead_letters(queue=used_for, page_token=token)).jobs
    else:
        with pytest.raises(BadPageToken):
            await store_broker.dead_letters(queue=used_for, page_token=token)


async def test_a_token_of_another_namespace_is_refused(store_broker: Broker) -> None:
    """Another namespace has another secret."""
    token = await a_token(store_broker)
    async with Broker(url=store_broker.url, namespace=f"{store_broker.namespace}-other") as other:
        with pytest.raises(BadPageToken):
            await other.dead_letters(page_token=token)
        await wipe(other)


async def test_every_flipped_bit_is_noticed(store_broker: Broker) -> None:
    """A token with any one of its bits flipped is refused."""
    token = await a_token(store_broker)
    for place, character in enumerate(token):
        for bit in range(7):
            forged = token[:place] + chr(ord(character) ^ (1 << bit)) + token[place + 1 :]
            with pytest.raises(BadPageToken):
                await store_broker.dead_letters(page_token=forged)


@pytest.mark.parametrize("kind", ["longer", "shorter", "padded", "stray", "twice", "random", "odd"])
async def test_a_forged_token_is_refused(store_broker: Broker, kind: str) -> None:
    """Anything but the token itself is refused, whether it decodes or not."""
    token = await a_token(store_broker)
    dice = random.Random(7)
    forgeries = {
        "longer": [token + "A", token + "AAAA"],
        "shorter": [token[:n] for n in range(1, len(token))],
        "padded": [token + "=", token + "===="],
        "stray": [token + "!", token[:5] + "\n" + token[5:], " " + token],
        "twice": [token + token],
        "random": ["".join(dice.choices("ABCdef012-_", k=dice.randint(1, 100))) for _ in range(200)],
        "odd": ["é", "\0", "%", "🐢" * 19, "A" * 10_000],
    }
    for forged in forgeries[kind]:
        with pytest.raises(BadPageToken):
            await store_broker.dead_letters(page_token=forged)
