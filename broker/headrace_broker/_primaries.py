"""Which store serves which shard, and the clients to it. The same for one store, for Sentinels, and for a cluster.

Every call of a shard goes to the store that is its primary as far as we know. A call that fails casts doubt on that
store: the next one looks for the primary first. Looking is done by one task at a time, ever less often while it brings
nothing new, and holds up the calls of no other primary.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog
from redis.exceptions import ResponseError

from headrace_broker import store
from headrace_broker._discovery import Places, discovery
from headrace_broker.address import read_address
from headrace_broker.errors import BrokerError, StoreMoved, StoreUnavailable, StoreUnfit
from headrace_broker.keys import Shard

_BACKOFF = (0.05, 1.0)
"""Seconds between two looks for primaries that brought nothing new: the first time, and at most."""
CONFIRMING = 16
"""Calls to one primary that wait for a disk or for replicas at a time; others wait for their turn."""
_CALM = 5.0
"""Seconds without a look, after which the next trouble is a new one."""

Reply = TypeVar("Reply")

log = structlog.get_logger("headrace.store")


@dataclass(eq=False, slots=True, kw_only=True)
class Primary:
    """One store, and the client for commands to it."""

    place: str
    url: str
    redis: store.Client
    confirming: store.Client
    """For calls that wait for a disk or for replicas: all connections may be waiting, and no other call is held up."""
    syncs_always: bool = False
    """Whether it was found to sync every write, when we last looked."""
    doubted: bool = False

    def reading_client(self) -> store.Client:
        """Returns a new client with one connection of its own, for reads that block."""
        return store.reading_client(self.url)

    async def aclose(self) -> None:
        """Closes all connections. May be called twice."""
        await store.close(self.redis)
        await store.close(self.confirming)


class Primaries:
    """The primaries of all shards. Belongs to one event loop."""

    def __init__(self, *, url: str, shards: Sequence[Shard]) -> None:
        """Connects to nothing. Raises ValueError where the URL cannot be read."""
        self._address = read_address(url)
        store.check_url(self._address.url_of(self._address.places[0]))
        self.kind = self._address.kind
        self._discovery = discovery(self._address, shards)
        self._shards = [shard.number for shard in shards]
        self._by_place: dict[str, Primary] = {}
        self._by_shard: dict[int, Primary] = {}
        self._retired: list[tuple[float, Primary]] = []
        self._looking: asyncio.Task[None] | None = None
        self._not_before = self._stale_at = 0.0
        self._pause = _BACKOFF[0]
        self._failure: StoreUnavailable | StoreUnfit | None = None
        self._lost = False
        if not self._discovery.every:  # there is nothing to look for
            one = self._primary_at(self._address.places[0])
            self._by_shard = dict.fromkeys(self._shards, one)

    @asynccontextmanager
    async def calling(self, shard: int) -> AsyncIterator[store.Client]:
        """Wraps every call of a shard: see `reaching`."""
        async with self.reaching(shard) as primary:
            yield primary.redis

    @asynccontextmanager
    async def reaching(self, shard: int, seconds: float = store.COMMAND_TIMEOUT) -> AsyncIterator[Primary]:
        """Wraps every call of a shard: gives it the primary and `seconds`, the look for it included, and turns what
        redis-py raises into the broker's errors. StoreMoved: the same again goes to the right one.
        """
        primary: Primary | None = None
        try:
            with store.store_errors():
                async with asyncio.timeout(seconds):
                    primary = await self.of(shard)
                    yield primary
        except StoreUnavailable as error:
            if primary is not None:
                if not isinstance(error.__cause__, ResponseError):  # it has not answered
                    await store.drop_idle(primary.redis)
                self.doubt(primary, error)
            raise

    async def of(self, shard: int) -> Primary:
        """Returns the primary of a shard, after a look for it where nobody is known, or the one known is in doubt.

        Raises:
            StoreUnavailable: nobody serves it, or nobody says who does.
            StoreUnfit: before any primary was found, those who should know are not what the URL says.
        """
        primary = self._by_shard.get(shard)
        if not self._discovery.every:
            assert primary is not None  # as `__init__` has seen to
            return primary
        now = asyncio.get_running_loop().time()
        if (primary is None or primary.doubted) and (self._looking is not None or now >= self._not_before):
            await asyncio.shield(self._look())
            primary = self._by_shard.get(shard)
        elif now >= self._stale_at:
            self._look()  # in the background: what is known may well be right
        if primary is None:
            raise self._why_nobody(shard)
        return primary

    async def anyone(self, call: Callable[[store.Client], Awaitable[Reply]]) -> Reply:
        """Makes a call to all primaries at once, and returns the first answer: who answers serves its shards.

        Raises:
            StoreUnavailable: none answers.
        """
        one_of_each = {primary.place: shard for shard, primary in self._by_shard.items()}

        async def ask(shard: int) -> Reply:
            async with self.calling(shard) as redis:
                return await call(redis)

        asking = [asyncio.create_task(ask(shard), name="ask") for shard in one_of_each.values() or self._shards[:1]]
        try:
            for answered in asyncio.as_completed(asking):
                try:
                    return await answered
                except StoreUnavailable as error:
                    failure = error
            raise failure
        finally:
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)

    def doubt(self, primary: Primary, error: StoreUnavailable) -> None:
        """Call after every failure that another primary might be the cure of. Where the store itself has said that
        another one is the primary, looking for it is worth while soon, whatever came before.
        """
        primary.doubted = True
        if isinstance(error, StoreMoved):
            self._pause = _BACKOFF[0]
            self._not_before = min(self._not_before, asyncio.get_running_loop().time() + _BACKOFF[0])

    async def look_again(self) -> None:
        """Returns after a look that began later than now: call before a call that raised StoreMoved is repeated."""
        if self._discovery.every:
            await asyncio.sleep(self._not_before - asyncio.get_running_loop().time())
            await asyncio.shield(self._look())

    async def look(self) -> dict[Primary, list[int]]:
        """Looks for all primaries now, and returns the shards of each. Raises as `of` does where one has none."""
        if self._discovery.every:
            await asyncio.shield(self._look())
        if missing := [shard for shard in self._shards if shard not in self._by_shard]:
            raise self._why_nobody(missing[0])
        shards: dict[Primary, list[int]] = {}
        for shard in self._shards:
            shards.setdefault(self._by_shard[shard], []).append(shard)
        return shards

    def known(self, shard: int) -> store.Client:
        """Returns the client of the shard's primary. Raises StoreUnavailable before the first call has found it."""
        if shard not in self._by_shard:
            raise StoreUnavailable(f"the primary of shard {shard} has not been looked for yet")
        return self._by_shard[shard].redis

    async def aclose(self) -> None:
        """Closes all connections. May be called twice."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self._discovery.aclose()
        for primary in [*self._by_place.values(), *(one for _, one in self._retired)]:
            await primary.aclose()

    def _look(self) -> asyncio.Task[None]:
        """Begins to look for the primaries, unless that is under way. The task raises nothing."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._find(), name="look-for-primaries")
        return self._looking

    async def _find(self) -> None:
        clock = asyncio.get_running_loop().time
        changed = False
        try:
            changed = await self._adopt(await self._discovery.find(self._by_place))
            self._failure = None
            if self._lost:
                log.info("the primaries are found again")
                self._lost = False
        except (StoreUnavailable, StoreUnfit) as error:
            self._failure = error
            if self._by_shard and not self._lost:  # told once for each outage; at the start the caller tells
                log.warning("nobody says who the primary is; the last one known stays", error=str(error))
                self._lost = True
        except Exception as error:  # a fault of ours, or an answer nobody has thought of: no worker may end of it
            log.exception("the look for the primaries failed")
            self._failure = StoreUnavailable("who the primary is cannot be made out")
            self._failure.__cause__ = error
        finally:
            calm = clock() - self._not_before > _CALM
            self._pause = _BACKOFF[0] if changed or calm else min(2 * self._pause, _BACKOFF[1])
            self._not_before = clock() + self._pause
            self._stale_at = clock() + self._discovery.every
            self._looking = None

    async def _adopt(self, places: Places) -> bool:
        """Takes over what was found; returns whether that is news. A shard that nobody serves stays where it was."""
        before = self._by_shard
        for place in set(places.values()):
            self._primary_at(place).doubted = False
        self._by_shard = before | {shard: self._by_place[place] for shard, place in places.items()}
        moved: dict[tuple[str, str], list[int]] = {}
        for shard, primary in before.items():
            if self._by_shard[shard] is not primary:
                moved.setdefault((primary.place, self._by_shard[shard].place), []).append(shard)
        for (old, new), shards in moved.items():
            log.warning("shards have another primary now", shards=shards, before=old, now=new)
        await self._retire()
        return before != self._by_shard

    def _primary_at(self, place: str) -> Primary:
        if place not in self._by_place:
            url = self._address.url_of(place)
            confirming = store.command_client(url, connections=CONFIRMING)
            self._by_place[place] = Primary(
                place=place, url=url, redis=store.command_client(url), confirming=confirming
            )
        return self._by_place[place]

    async def _retire(self) -> None:
        """Drops the stores that serve nothing any more, once the calls that were under way to them are over."""
        now = asyncio.get_running_loop().time()
        in_use = set(self._by_shard.values())
        for place in [place for place, primary in self._by_place.items() if primary not in in_use]:
            self._retired.append((now + 2 * store.COMMAND_TIMEOUT, self._by_place.pop(place)))
        while self._retired and self._retired[0][0] <= now:
            await self._retired.pop(0)[1].aclose()

    def _why_nobody(self, shard: int) -> BrokerError:
        if self._failure is None:
            return StoreUnavailable(f"no primary serves shard {shard}")
        again = type(self._failure)(str(self._failure))  # another instance, for each has a traceback of its own
        again.__cause__ = self._failure.__cause__
        return again
