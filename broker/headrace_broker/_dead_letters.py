"""Pages of the dead letter queue: newest first, over all shards and queues asked for, stable while new ones arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_broker import _page_token, record
from headrace_broker._primaries import Primaries
from headrace_broker.job import Job
from headrace_broker.keys import Shard
from headrace_broker.store import Client

_CHUNK = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """One page, without content and result. `total` counts all pages; `next_page_token` is empty on the last."""

    jobs: tuple[Job, ...]
    next_page_token: str
    total: int


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Where a dead letter stands: by time of failure, then by id."""

    time_ms: int
    job_id: str


async def list_dead_letters(
    primaries: Primaries, shards: Sequence[Shard], *, secret: bytes, queue: str, page_size: int, page_token: str
) -> DeadLetters:
    """Returns the page after `page_token`, of at most `page_size` jobs."""
    if page_size < 1:
        raise ValueError(f"page_size must be at least 1, not {page_size}")
    after = _Place(*_page_token.read(page_token, secret=secret, query=queue)) if page_token else None
    found: list[tuple[_Place, Shard]] = []
    total = 0
    for shard in shards:
        async with primaries.calling(shard.number) as redis:
            queues = [queue] if queue else [q.decode() for q in await redis.smembers(shard.queues())]
            for name in queues:
                total += await redis.zcard(shard.dead(name))
                found += [(place, shard) for place in await _places(redis, shard.dead(name), after, page_size + 1)]
    found.sort(key=lambda pair: pair[0], reverse=True)
    page = found[:page_size]
    jobs = await _read_jobs(primaries, page)
    last = page[-1][0] if len(found) > page_size else None
    token = _page_token.make([last.time_ms, last.job_id], secret=secret, query=queue) if last else ""
    return DeadLetters(jobs=tuple(jobs), next_page_token=token, total=total)


async def _places(redis: Client, key: str, after: _Place | None, count: int) -> list[_Place]:
    """Returns the first `count` places after `after`, newest first. Many may share the millisecond of `after`."""
    places: list[_Place] = []
    offset = 0
    newest = "+inf" if after is None else after.time_ms
    size = max(count, _CHUNK)
    while len(places) < count:
        chunk = await redis.zrevrangebyscore(key, newest, "-inf", start=offset, num=size, withscores=True)
        read = [_Place(int(score), member.decode()) for member, score in chunk]
        places += [place for place in read if after is None or place < after]
        if len(chunk) < size:
            break
        offset += size
    return places[:count]


async def _read_jobs(primaries: Primaries, page: Sequence[tuple[_Place, Shard]]) -> list[Job]:
    records: dict[str, list[bytes | None]] = {}
    for shard in {shard for _, shard in page}:
        ids = [place.job_id for place, home in page if home == shard]
        async with primaries.calling(shard.number) as redis, redis.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.hmget(shard.job(job_id), record.BASIC_FIELDS)
            records |= zip(ids, await pipeline.execute(), strict=True)
    return [
        record.decode_job(place.job_id, fields)
        for place, _ in page
        if (fields := dict(zip(record.BASIC_FIELDS, records[place.job_id], strict=True)))["state"] is not None
    ]
