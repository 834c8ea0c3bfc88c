"""One bounded step of a walk over the dead letters that match a filter, oldest first; a token tells where to go on.

A letter is acted on only in the version in which it was looked at, so however many walks there are, at once or one
after the other, each letter meets one of them. A walk ends with the letters that were there when it began: a job that
fails again meanwhile is not met twice.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field

from headrace_broker import record, store
from headrace_broker._page_tokens import PageTokens
from headrace_broker._places import Place, places
from headrace_broker._primaries import Primaries
from headrace_broker.job import State
from headrace_broker.keys import Shard, is_job_id, shard_of

CHUNK = 100
"""Letters that are read, and acted on, at a time: few enough for a script of a few ms."""
LOOKS = 1_000
"""Letters that one step looks at, at the most."""
VISITS = 100
"""Queues, or chunks of them, that one step looks into, at the most."""
_LAST = "~"  # comes after every job id


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters are meant: those that fit everything that is given."""

    queue: str = ""
    type: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    """Of the failure, such as TIMEOUT."""
    since_ms: int | None = None
    """Those that failed then or later."""
    before_ms: int | None = None
    """Those that failed earlier."""

    def canonical(self) -> str:
        """Returns a text that is the same for the same filter."""
        return json.dumps(asdict(self), sort_keys=True)

    def fits(self, found: Mapping[str, bytes | None]) -> bool:
        """Whether a record's `spec` and `history` are as wanted."""
        if self.type or self.labels:
            spec = json.loads(found["spec"] or b"{}")
            labels = spec.get("labels", {})
            if self.type not in {"", spec.get("type")} or any(labels.get(k) != v for k, v in self.labels.items()):
                return False
        return not self.reason or record.last_reason(found["history"] or b"") == self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter, as it was seen."""

    job_id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a step did. `next_page_token` is empty at the end of the walk."""

    done: int
    """Letters that were acted on; or that would have been, where only counting was asked for."""
    scanned: int
    """Letters that were looked at."""
    skipped: tuple[str, ...] = ()
    """Of the ids that were named: those that are no dead letters, or no more."""
    next_page_token: str = ""


Act = Callable[[Sequence[Letter]], Awaitable[Sequence[bool]]]


@dataclass(frozen=True, slots=True)
class _Position:
    shard: int
    queue: str
    place: Place


class Sweep:
    """A walk. `act` says for each letter whether it was acted on; None: only count."""

    def __init__(self, *, primaries: Primaries, shards: Sequence[Shard], act: Act | None) -> None:
        self._primaries = primaries
        self._shards = shards
        self._act = act

    async def of(self, job_ids: Sequence[str]) -> Swept:
        """Acts on the dead letters among these jobs."""
        done: set[str] = set()
        wanted = dict.fromkeys(job_ids)
        by_shard: dict[int, list[str]] = defaultdict(list)
        for job_id in wanted:
            if is_job_id(job_id) and shard_of(job_id) < len(self._shards):
                by_shard[shard_of(job_id)].append(job_id)
        for shard, mine in by_shard.items():
            for start in range(0, len(mine), CHUNK):
                done |= await self._handle(self._shards[shard], mine[start : start + CHUNK], DeadLetterFilter())
        skipped = tuple(job_id for job_id in wanted if job_id not in done)
        return Swept(done=len(done), scanned=len(wanted), skipped=skipped)

    async def step(self, where: DeadLetterFilter, *, tokens: PageTokens, query: str, page_token: str) -> Swept:
        """Goes on at the token, or begins."""
        if page_token:
            until_ms, shard, queue, *place = await tokens.read(page_token, query=query)
            begin = _Position(shard, queue, Place(*place))
        else:
            until_ms = await self._now_ms()
            if where.before_ms is not None:
                until_ms = min(until_ms, where.before_ms - 1)
            begin = _Position(0, "", Place(0, ""))
        done = scanned = visits = 0
        async with aclosing(self._chunks(begin, where, until_ms)) as chunks:
            async for position, ids in chunks:
                done += len(await self._handle(self._shards[position.shard], ids, where))
                scanned, visits = scanned + len(ids), visits + 1
                if scanned >= LOOKS or visits >= VISITS:
                    end = position.place
                    at = [until_ms, position.shard, position.queue, end.time_ms, end.job_id]
                    return Swept(done=done, scanned=scanned, next_page_token=await tokens.make(at, query=query))
        return Swept(done=done, scanned=scanned)

    async def _now_ms(self) -> int:
        async with self._primaries.calling(0) as redis:
            return await store.clock_ms(redis)

    async def _chunks(
        self, begin: _Position, where: DeadLetterFilter, until_ms: int
    ) -> AsyncGenerator[tuple[_Position, list[str]], None]:
        """The letters behind `begin`, chunk by chunk, each with the position at its end. A chunk may be empty."""
        for shard in self._shards[begin.shard :]:
            here = begin if shard.number == begin.shard else _Position(shard.number, "", Place(0, ""))
            for queue in await self._queues(shard, where):
                if queue < here.queue:
                    continue
                after = here.place if queue == here.queue else None
                more = True
                while more:
                    async with self._primaries.calling(shard.number) as redis:
                        found = await places(
                            redis,
                            shard.dead(queue),
                            count=CHUNK,
                            after=after,
                            since_ms=where.since_ms,
                            until_ms=until_ms,
                        )
                    after = found[-1] if found else Place(until_ms, _LAST)
                    more = len(found) == CHUNK
                    yield _Position(shard.number, queue, after), [place.job_id for place in found]

    async def _queues(self, shard: Shard, where: DeadLetterFilter) -> list[str]:
        if where.queue:
            return [where.queue]
        async with self._primaries.calling(shard.number) as redis:
            return sorted(name.decode() for name in await redis.smembers(shard.queues()))

    async def _handle(self, shard: Shard, job_ids: Sequence[str], where: DeadLetterFilter) -> set[str]:
        """Acts on those that are dead letters and fit; returns their ids."""
        names = ("state", "version", *(("spec", "history") if where.type or where.labels or where.reason else ()))
        async with self._primaries.calling(shard.number) as redis, redis.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hmget(shard.job(job_id), names)
            records = [dict(zip(names, values, strict=True)) for values in await pipeline.execute()]
        letters = [
            Letter(job_id=job_id, version=int(found["version"]))
            for job_id, found in zip(job_ids, records, strict=True)
            if found["state"] == State.FAILED.value.encode() and where.fits(found)
        ]
        if self._act is None or not letters:
            return {letter.job_id for letter in letters}
        acted = await self._act(letters)
        return {letter.job_id for letter, done in zip(letters, acted, strict=True) if done}
