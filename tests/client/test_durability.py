"""Durability through the client: what is asked for arrives, what was reached comes back, and levels do not mix."""

import asyncio
import time
from collections.abc import Callable

import pytest

from client.rig import Server
from harness.stores import Store
from headrace import (
    AsyncClient,
    AsyncJobHandle,
    Client,
    Durability,
    EnqueueError,
    InvalidRequest,
    NewJob,
    PreconditionFailed,
    Unavailable,
)


async def test_levels_arrive_and_come_back(own_valkey: Callable[..., Store], namespace: str) -> None:
    """One by one, at once and in a list, sync and async: the handle has the level that the store has confirmed."""
    server = Server(url=own_valkey("--appendfsync", "always").url, namespace=namespace)
    try:
        async with AsyncClient(server.target) as client:
            levels = [None, "accepted", Durability.FSYNCED]
            handles = await asyncio.gather(*(client.enqueue("t", durability=levels[n % 3]) for n in range(30)))
            reached = [Durability.ACCEPTED, Durability.ACCEPTED, Durability.FSYNCED]
            assert [one.durability for one in handles] == reached * 10
            listed = await client.enqueue_many(NewJob("t", durability=level) for level in levels)
            assert [one.durability for one in listed if isinstance(one, AsyncJobHandle)] == reached
        with Client(server.target) as sync:
            assert sync.enqueue("t", durability="fsynced").durability is Durability.FSYNCED
    finally:
        server.close()


async def test_a_level_that_is_not_there(client: AsyncClient) -> None:
    """A word that is no level is refused before anything is sent; a level that the store does not offer, after."""
    with pytest.raises(InvalidRequest) as wrong:
        await client.enqueue("t", durability="perfect")
    assert [one.field for one in wrong.value.violations] == ["durability"]
    with pytest.raises(PreconditionFailed) as refused:
        await client.enqueue("t", durability="fsynced")
    assert refused.value.reason == "DURABILITY_UNSUPPORTED"
    [listed] = await client.enqueue_many([NewJob("t", durability="fsynced")])
    assert isinstance(listed, EnqueueError)
    assert isinstance(listed.error, PreconditionFailed)


async def test_who_asks_for_nothing_waits_for_nothing(own_server: Callable[..., Server]) -> None:
    """A job that waits for a replica holds up no other of the same client; its producer hears of it after one wait, and
    finds the job again under its request_id.
    """
    server = own_server(HEADRACE_DURABILITY_TIMEOUT_MS="800")
    async with AsyncClient(server.target) as client:
        begun = time.monotonic()
        strict = asyncio.create_task(client.enqueue("t", durability="replicated", request_id="r"))
        others = await asyncio.gather(*(client.enqueue("t") for _ in range(20)))
        assert {one.durability for one in others} == {Durability.ACCEPTED}
        assert not strict.done()
        with pytest.raises(Unavailable) as unconfirmed:
            await strict
        assert time.monotonic() - begun < 4 * 0.8
        assert (unconfirmed.value.reason, unconfirmed.value.retry_after) == ("DURABILITY_NOT_REACHED", 1.0)
        assert (await client.enqueue("t", request_id="r")).deduplicated
