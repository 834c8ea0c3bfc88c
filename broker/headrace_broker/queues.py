"""What operators see of queues and do to them. Every shard keeps its own part of a queue; here they are one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from headrace_broker._page_tokens import PageTokens
from headrace_broker._primaries import Primaries
from headrace_broker.errors import QueueNotFound
from headrace_broker.job import State
from headrace_broker.keys import Shard
from headrace_broker.queue import Queue, QueuePage, Rates

STATS_BATCH = 50
"""Queues that one script looks at: some 25 commands each."""
SPELL_MS = 10_000
"""What rates are counted in; the prelude of the scripts has the same number."""
_LETTERS = {"enqueued": "e", "finished": "f", "failed": "d"}
"""What the names of the fields of `rates:<queue>` begin with."""
WINDOW = 6
"""Spells that a rate is the mean of, the one under way included."""

Run = Callable[..., Awaitable[Any]]


class Queues:
    """Reached as `broker.queues`. Methods raise what those of Broker raise.

    A change is made in one shard after the other; where it stops half-way, making it again completes it.
    """

    def __init__(self, *, run: Run, primaries: Primaries, shards: Sequence[Shard], tokens: PageTokens) -> None:
        """`run(script, shard, *arguments)` runs a script."""
        self._run = run
        self._primaries = primaries
        self._shards = shards
        self._tokens = tokens

    async def get(self, queue: str) -> Queue:
        """Reads one queue.

        Raises:
            QueueNotFound: it has never had a job, nor been set up.
        """
        (found,) = await self.get_many([queue])
        if found is None:
            raise QueueNotFound(queue)
        return found

    async def get_many(self, queues: Sequence[str]) -> list[Queue | None]:
        """Reads queues, in their order; None for each that is not known."""
        parts = await asyncio.gather(*(self._parts(shard, queues) for shard in range(len(self._shards))))
        return [_merged(name, of_shards) for name, *of_shards in zip(queues, *parts, strict=True)]

    async def names(self) -> list[str]:
        """Reads the names of all queues, sorted."""
        found: set[bytes] = set()
        for shard in self._shards:
            async with self._primaries.calling(shard.number) as redis:
                found |= await redis.smembers(shard.queues())
        return sorted(name.decode() for name in found)

    async def page(self, *, page_size: int = 50, page_token: str = "") -> QueuePage:
        """Reads a page of all queues, by name.

        Raises:
            ValueError: page_size is below 1.
            BadPageToken: the token is not one of ours.
        """
        if page_size < 1:
            raise ValueError(f"page_size must be at least 1, not {page_size}")
        (after,) = await self._tokens.read(page_token, query="queues") if page_token else [""]
        names = await self.names()
        rest = [name for name in names if name > after]
        queues = await self.get_many(rest[:page_size])
        more = len(rest) > page_size
        token = await self._tokens.make([rest[page_size - 1]], query="queues") if more else ""
        return QueuePage(queues=tuple(q for q in queues if q is not None), next_page_token=token, total=len(names))

    async def pause(self, queue: str, *, reason: str = "", allow_missing: bool = False) -> Queue:
        """Stops a queue from handing out jobs. One that is paused already stays so since then, for the new reason.

        Raises:
            QueueNotFound: it has never had a job, nor been set up; with `allow_missing` it is there from now on.
        """
        if not allow_missing:
            await self._check_known(queue)
        for shard in range(len(self._shards)):
            await self._run("pause", shard, queue, reason)
        return await self.get(queue)

    async def resume(self, queue: str) -> Queue:
        """Lets a queue hand out jobs again. Does nothing to one that is not paused.

        Raises:
            QueueNotFound: it has never had a job, nor been set up.
        """
        await self._check_known(queue)
        for shard in range(len(self._shards)):
            await self._run("resume", shard, queue)
        return await self.get(queue)

    async def _check_known(self, queue: str) -> None:
        for shard in self._shards:
            async with self._primaries.calling(shard.number) as redis:
                if await redis.sismember(shard.queues(), queue):
                    return
        raise QueueNotFound(queue)

    async def _parts(self, shard: int, queues: Sequence[str]) -> list[_Part]:
        parts: list[_Part] = []
        for start in range(0, len(queues), STATS_BATCH):
            now, *values = await self._run("stats", shard, *queues[start : start + STATS_BATCH])
            parts += [_Part(now, values[n : n + 5]) for n in range(0, len(values), 5)]
        return parts


class _Part:
    """What one shard knows of a queue."""

    __slots__ = ("dead", "fields", "is_known", "now", "oldest", "rates")

    def __init__(self, now: int, values: Sequence[Any]) -> None:
        """`values`: the five that stats.lua replies for a queue."""
        is_known, fields, rates, dead, oldest = values
        self.now = now
        self.is_known = bool(is_known)
        self.fields = {name.decode(): value.decode() for name, value in zip(fields[::2], fields[1::2], strict=True)}
        self.rates = Counter(dict(zip((name.decode() for name in rates[::2]), map(int, rates[1::2]), strict=True)))
        self.dead = dead
        self.oldest = oldest

    def rate(self, letter: str) -> float:
        """Jobs a second in the latest spells; the window is 50 to 60 s long."""
        spell, since = divmod(self.now, SPELL_MS)
        count = sum(self.rates[f"{letter}{n}"] for n in range(spell - WINDOW + 1, spell + 1))
        return count * 1_000 / ((WINDOW - 1) * SPELL_MS + since)


def _merged(name: str, parts: Sequence[_Part]) -> Queue | None:
    """The queue that these parts are of."""
    if not any(part.is_known for part in parts):
        return None
    waits = [part.now - part.oldest for part in parts if part.oldest]
    pauses = [part.fields for part in parts if "paused_at" in part.fields]
    return Queue(
        name=name,
        jobs={state: sum(int(part.fields.get(state, 0)) for part in parts) for state in State},
        dead=sum(part.dead for part in parts),
        oldest_ready_ms=max(0, *waits) if waits else None,
        rates=Rates(**{what: sum(part.rate(letter) for part in parts) for what, letter in _LETTERS.items()}),
        paused_at_ms=int(pauses[0]["paused_at"]) if pauses else None,
        pause_reason=pauses[0].get("pause_reason", "") if pauses else "",
    )
