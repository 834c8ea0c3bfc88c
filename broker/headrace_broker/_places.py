"""Walks over the sorted sets that jobs are in by time: page by page, stable while jobs come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_broker.store import Client

_CHUNK = 256


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a job stands: by time in ms, then by id."""

    time_ms: int
    job_id: str


async def places(
    redis: Client,
    key: str,
    *,
    count: int,
    after: Place | None = None,
    newest_first: bool = False,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> list[Place]:
    """Returns the first `count` places behind `after`. Many may share its millisecond: they are read, and passed over.

    `since_ms` and `until_ms`: only places from then to then, both included.
    """
    low: int | str = "-inf" if since_ms is None else since_ms
    high: int | str = "+inf" if until_ms is None else until_ms
    if after is not None and newest_first:
        high = after.time_ms if until_ms is None else min(after.time_ms, until_ms)
    elif after is not None:
        low = after.time_ms if since_ms is None else max(after.time_ms, since_ms)
    found: list[Place] = []
    offset, size = 0, max(count, _CHUNK)
    while len(found) < count:
        chunk = await _chunk(redis, key, low, high, offset=offset, size=size, newest_first=newest_first)
        found += [place for place in chunk if after is None or (place < after if newest_first else place > after)]
        if len(chunk) < size:
            break
        offset += size
    return found[:count]


async def _chunk(
    redis: Client, key: str, low: int | str, high: int | str, *, offset: int, size: int, newest_first: bool
) -> Sequence[Place]:
    if newest_first:
        read = await redis.zrevrangebyscore(key, high, low, start=offset, num=size, withscores=True)
    else:
        read = await redis.zrangebyscore(key, low, high, start=offset, num=size, withscores=True)
    return [Place(int(score), member.decode()) for member, score in read]
