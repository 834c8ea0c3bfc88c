"""Calls to several shards at once, of which each may fail by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from headrace_broker.errors import BrokerError


async def each_shard(shards: Iterable[int], call: Callable[[int], Awaitable[None]]) -> dict[int, BrokerError]:
    """Makes the call for every shard, waits for all of them, and returns the errors of those that failed.

    So a primary that is down harms its own shards alone. Where every shard has failed there is nothing else to tell:
    then the first error is raised, as is any that is no BrokerError.
    """
    asked = tuple(shards)
    replies = await asyncio.gather(*(call(shard) for shard in asked), return_exceptions=True)
    failed: dict[int, BrokerError] = {}
    for shard, reply in zip(asked, replies, strict=True):
        if isinstance(reply, BrokerError):
            failed[shard] = reply
        elif reply is not None:
            raise reply
    if failed and len(failed) == len(asked):
        raise failed[asked[0]]
    return failed
