"""Pages of the dead letter queue: newest first, over all shards and queues asked for, stable while new ones arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace_broker import record
from headrace_broker._page_tokens import PageTokens
from headrace_broker._places import Place, places
from headrace_broker._primaries import Primaries
from headrace_broker.job import Job
from headrace_broker.keys import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """One page, without content and result. `total` counts all pages; `next_page_token` is empty on the last."""

    jobs: tuple[Job, ...]
    next_page_token: str
    total: int


async def list_dead_letters(
    primaries: Primaries, shards: Sequence[Shard], *, tokens: PageTokens, queue: str, page_size: int, page_token: str
) -> DeadLetters:
    """Returns the page after `page_token`, of at most `page_size` jobs."""
    if page_size < 1:
        raise ValueError(f"page_size must be at least 1, not {page_size}")
    query = f"dead letters of {queue}"
    after = Place(*await tokens.read(page_token, query=query)) if page_token else None
    found: list[tuple[Place, Shard]] = []
    total = 0
    for shard in shards:
        async with primaries.calling(shard.number) as redis:
            queues = [queue] if queue else [q.decode() for q in await redis.smembers(shard.queues())]
            for name in queues:
                key = shard.dead(name)
                total += await redis.zcard(key)
                some = await places(redis, key, count=page_size + 1, after=after, newest_first=True)
                found += [(place, shard) for place in some]
    found.sort(key=lambda pair: pair[0], reverse=True)
    page = found[:page_size]
    jobs = await _read_jobs(primaries, page)
    token = ""
    if len(found) > page_size:
        last = page[-1][0]
        token = await tokens.make([last.time_ms, last.job_id], query=query)
    return DeadLetters(jobs=tuple(jobs), next_page_token=token, total=total)


async def _read_jobs(primaries: Primaries, page: Sequence[tuple[Place, Shard]]) -> list[Job]:
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
