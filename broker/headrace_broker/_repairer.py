"""The reconciler: goes through all records and indexes of a shard, again and again, and has mended what should not be.

Any number of processes may run one; the store lets one of them at a time make a pass. A pass is spread over `every`
seconds, and looks at no more than some 10,000 keys a second: one of the embedded default's size is done in a moment,
one of a million keys takes 100 seconds.
"""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Sequence

import structlog

from headrace_broker._repair import Repaired, RepairStep, Walk
from headrace_broker.broker import Broker
from headrace_broker.errors import BrokerError

FASTEST = 0.02
"""Seconds between two steps at the least: with those of the other shards together, 50 steps a second."""
SLOWEST = 1.0
TURN = 5.0
"""Seconds without a step after which another process takes over."""
TELL_EVERY = 1.0
QUEUES_A_STEP = 100

log = structlog.get_logger("headrace.repair")


class Repairer:
    """The passes of one process through one shard."""

    def __init__(self, *, broker: Broker, shard: int, every: float) -> None:
        """`every`: seconds that a pass is spread over."""
        self._broker = broker
        self._shard = shard
        self._every = every
        self._who = secrets.token_hex(8)
        self._least = FASTEST * broker.shards
        self._pause = self._least
        self._told_at = 0.0
        self._untold: Counter[str] = Counter()
        self._misfits: frozenset[str] = frozenset()
        self._begin()

    def _begin(self) -> None:
        self._began = time.monotonic()
        self._walks: deque[tuple[Walk, Sequence[str]]] = deque([(Walk.RECORDS, ())])
        self._cursor = ""
        self._steps = 0
        self._clean = True
        self._seen: set[str] = set()

    async def step(self) -> float:
        """Takes one step; returns the seconds until the next one is due."""
        walk, queues = self._walks[0]
        step = RepairStep(
            shard=self._shard,
            who=self._who,
            walk=walk,
            cursor=self._cursor,
            queues=queues,
            recount=self._clean,
            turn_ms=int(1_000 * max(TURN, 5 * self._pause)),
            pass_ms=int(1_000 * self._every),
        )
        try:
            done = await self._broker.repair(step)
            if done.wait_ms:
                self._begin()
                return done.wait_ms / 1_000 * random.uniform(1.0, 1.2)  # noqa: S311  spreads calls, guards nothing
            await self._go_on(walk, done)
        except BrokerError:  # a store that was restarted deals its keys out anew, so the cursor is worth nothing
            self._begin()
            raise
        if not self._walks:
            return self._end()
        return self._pause

    async def _go_on(self, walk: Walk, done: Repaired) -> None:
        self._steps += 1
        self._cursor = done.cursor
        self._clean = self._clean and not done.kinds
        self._untold.update(done.kinds)
        self._tell(done.misfits)
        if done.cursor:
            return
        self._walks.popleft()
        if walk is Walk.RECORDS:
            names = await self._broker.queue_names(self._shard)
            chunks = [names[start : start + QUEUES_A_STEP] for start in range(0, len(names), QUEUES_A_STEP)]
            self._walks.extend((Walk.PLACES, chunk) for chunk in chunks)

    def _end(self) -> float:
        """The next pass goes at the pace at which this one would have filled its time."""
        self._tell((), at_once=True)
        self._misfits = frozenset(self._seen)
        self._pause = max(self._least, min(SLOWEST, self._every / self._steps))
        rest = self._began + self._every - time.monotonic()
        self._begin()
        return max(self._least, rest)

    def _tell(self, misfits: Sequence[str], *, at_once: bool = False) -> None:
        """Logs what was repaired, once a second at the most, and a key of a wrong type when it is first met."""
        for misfit in misfits:
            if misfit not in self._misfits and misfit not in self._seen:
                log.error("a queue is not looked after: it has a key of a wrong type", shard=self._shard, error=misfit)
            self._seen.add(misfit)
        now = time.monotonic()
        if self._untold and (at_once or now - self._told_at >= TELL_EVERY):
            log.warning("repaired what should not have been possible", shard=self._shard, repaired=dict(self._untold))
            self._untold.clear()
            self._told_at = now
