"""The bell: tells listeners in this process what the scripts publish. One connection for each shard.

Pub/sub loses messages on every reconnect, so the bell only ever says «look»: a listener that may have missed
something is told to read the record again, which holds the history.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from redis.asyncio.client import PubSub

from headrace_broker import keys, record, store
from headrace_broker._primaries import Primaries, Primary
from headrace_broker.broker import Broker
from headrace_broker.errors import JobNotFound, StoreMoved, StoreUnavailable
from headrace_broker.job import Progress, Transition

CONFIRM_TIMEOUT = 5.0
"""Seconds until a listener that could not be subscribed is told that the store is unavailable."""
BUFFER = 64
"""Events that one bell keeps; one more and it says RESYNC instead, so a slow listener costs no memory."""
SILENCE = 5.0
"""Seconds without a word until the connection is asked for a sign of life; after two such spells it is dropped."""
_BACKOFF = (0.05, 1.0)

log = structlog.get_logger("headrace.subscription")


@dataclass(frozen=True, slots=True)
class Resync:
    """Events may have been missed: read the record."""


RESYNC = Resync()


class Bell:
    """What one listener hears of one job."""

    def __init__(self) -> None:
        self._events: deque[Transition | Progress | Resync] = deque()
        self._rung = asyncio.Event()
        self.confirmed = False

    async def ring(self, timeout: float) -> Transition | Progress | Resync | None:  # noqa: ASYNC109  # a wait, not a deadline
        """Returns the next event, or None when there was none within `timeout` seconds."""
        if not self._events:
            self._rung.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._rung.wait()
            except TimeoutError:
                return None
        return self._events.popleft()

    def put(self, event: Transition | Progress | Resync) -> None:
        """Adds an event; one too many empties the bell and leaves RESYNC."""
        if len(self._events) >= BUFFER or isinstance(event, Resync):
            self._events.clear()
            event = RESYNC
        self._events.append(event)
        self._rung.set()


class Subscription:
    """All bells of a process. `run` must be under way for `listen` to work."""

    def __init__(self, broker: Broker, *, worker: str = "") -> None:
        """`worker` is the one whose orders are to be heard, if any."""
        self.orders = asyncio.Event()
        """Set when this worker was told to look at its jobs, or such a word may have been missed."""
        self._feeds = [
            _Feed(primaries=broker.primaries, shard=broker.shard(n), worker=worker, orders=self.orders)
            for n in range(broker.shards)
        ]

    async def run(self) -> None:
        """Reads for ever, through every outage of the store. Cancel it to stop."""
        async with asyncio.TaskGroup() as group:
            for number, feed in enumerate(self._feeds):
                group.create_task(feed.run(), name=f"subscription-{number}")

    @asynccontextmanager
    async def listen(self, job_id: str) -> AsyncIterator[Bell]:
        """Enters once the store has confirmed that events of this job will be heard.

        Raises:
            StoreUnavailable: it has not within CONFIRM_TIMEOUT.
            JobNotFound: the id names no shard of ours.
        """
        if not keys.is_job_id(job_id) or keys.shard_of(job_id) >= len(self._feeds):
            raise JobNotFound(job_id)
        feed = self._feeds[keys.shard_of(job_id)]
        channel = feed.shard.event(job_id)
        bell = Bell()
        await feed.add(channel, bell)
        try:
            yield bell
        finally:
            feed.remove(channel, bell)

    def wake(self, shard: int) -> asyncio.Event:
        """Returns the event that is set when a job came to the head of a schedule, or that may have been missed."""
        return self._feeds[shard].wake

    def paused(self, shard: int) -> asyncio.Event:
        """Returns the event that is set when a queue was paused or resumed, or that may have been missed."""
        return self._feeds[shard].paused

    @property
    def listeners(self) -> int:
        """How many bells there are."""
        return sum(len(bells) for feed in self._feeds for bells in feed.bells.values())


class _Feed:
    """The connection of one shard: which channels it hears, and which bells hang on each."""

    def __init__(self, *, primaries: Primaries, shard: keys.Shard, worker: str, orders: asyncio.Event) -> None:
        self.shard = shard
        self.wake = asyncio.Event()
        self.paused = asyncio.Event()
        self.bells: dict[str, set[Bell]] = defaultdict(set)
        self._primaries = primaries
        self._signals = {shard.wake(): self.wake, shard.paused(): self.paused}
        """Channels of which no word matters, only that there was one; heard as long as there is a connection."""
        if worker:
            self._signals[shard.orders(worker)] = orders
        self._pubsub: PubSub | None = None
        self._asked: set[str] = set()  # channels that this connection was asked to subscribe to, and not to leave
        self._confirmed: dict[str, asyncio.Event] = {}
        self._idle: set[str] = set()
        self._sending = (
            asyncio.Lock()
        )  # subscribing and unsubscribing must reach the store in the order they were decided

    async def add(self, channel: str, bell: Bell) -> None:
        self.bells[channel].add(bell)
        self._idle.discard(channel)
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT):
                if channel not in self._confirmed:
                    self._confirmed[channel] = asyncio.Event()
                    await self._subscribe(channel)
                await self._confirmed[channel].wait()
        except TimeoutError:
            self.remove(channel, bell)
            raise StoreUnavailable("the store does not confirm subscriptions") from None
        except BaseException:
            self.remove(channel, bell)
            raise
        bell.confirmed = True

    def remove(self, channel: str, bell: Bell) -> None:
        self.bells[channel].discard(bell)
        if not self.bells[channel]:
            del self.bells[channel]
            self._idle.add(channel)

    async def _subscribe(self, channel: str) -> None:
        """Sends the request alone. `ssubscribe` would connect anew where the connection has broken, from this task,
        while `run` does the same from its own.
        """
        async with self._sending:
            connection = self._pubsub.connection if self._pubsub is not None else None
            if connection is None or not connection.is_connected:
                return  # `_connect` subscribes to every channel that has a bell
            if channel in self._asked:  # and just has
                return
            self._asked.add(channel)
            try:
                with store.store_errors():
                    await connection.send_command("SSUBSCRIBE", channel, check_health=False)
            except StoreUnavailable:  # the reading side sees the same break, and connects anew
                return

    async def run(self) -> None:
        pause, lost = _BACKOFF[0], False
        while True:
            primary: Primary | None = None
            try:
                primary = await self._primaries.of(self.shard.number)
                with store.store_errors():
                    async for _ in self._read(primary):
                        pause = _BACKOFF[0]
                        if lost:
                            log.info("subscription is back", shard=self.shard.number)
                            lost = False
            except StoreUnavailable as error:
                if primary is not None:
                    self._primaries.doubt(primary, error)
                if not lost:  # told once for each outage, not at every try
                    log.warning("subscription lost", shard=self.shard.number, error=str(error.__cause__ or error))
                lost = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, _BACKOFF[1])

    async def _read(self, primary: Primary) -> AsyncIterator[None]:
        client = primary.reading_client()
        try:
            async with client.pubsub() as pubsub:
                await self._connect_in_time(pubsub)
                silent = 0
                while True:
                    message = await pubsub.get_message(timeout=SILENCE if not self._idle else 0.2)
                    if message is not None:
                        silent = 0
                        self._hear(message)
                        yield
                    elif not self._idle:
                        silent += 1
                        if silent > 2:  # noqa: PLR2004  # two signs of life were asked for
                            raise StoreUnavailable("the subscription has gone silent")
                        await pubsub.ping()
                    await self._unsubscribe_idle(pubsub)
                    if await self._primaries.of(self.shard.number) is not primary:
                        raise StoreMoved("another store is the primary of this shard now")
        finally:
            self._pubsub = None
            await client.aclose()

    async def _connect_in_time(self, pubsub: PubSub) -> None:
        """Connects, or gives up: redis-py itself would wait for ever for a store whose first answer is lost."""
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT):
                await self._connect(pubsub)
        except TimeoutError:
            raise StoreUnavailable("the store does not answer a new subscription") from None

    async def _connect(self, pubsub: PubSub) -> None:
        """Subscribes to all channels that have bells; those that hung there before are told to resync."""
        async with self._sending:
            self._idle.clear()
            self._confirmed = {channel: self._confirmed.get(channel, asyncio.Event()) for channel in self.bells}
            for confirmed in self._confirmed.values():
                confirmed.clear()
            for channel in self._signals:
                await pubsub.ssubscribe(channel)
            self._asked = set(self._confirmed)
            for channel in tuple(self._asked):  # listeners may come meanwhile: they ask for themselves
                await pubsub.ssubscribe(channel)
            self._pubsub = pubsub

    def _hear(self, message: dict[str, object]) -> None:
        channel = message["channel"].decode() if isinstance(message["channel"], bytes) else ""
        match message["type"]:
            case "smessage" | "ssubscribe" if channel in self._signals:
                self._signals[channel].set()
            case "smessage":
                event = _decode(message["data"])  # type: ignore[arg-type]  # bytes, for want of decode_responses
                for bell in self.bells.get(channel, ()):
                    bell.put(event)
            case "sunsubscribe" if channel in self._signals:  # which we never leave
                raise StoreMoved("the store has ended the subscriptions of this shard: its slot has moved")
            case "ssubscribe":
                for bell in self.bells.get(channel, ()):
                    if bell.confirmed:
                        bell.put(RESYNC)
                if channel in self._confirmed:
                    self._confirmed[channel].set()

    async def _unsubscribe_idle(self, pubsub: PubSub) -> None:
        while self._idle:
            channel = self._idle.pop()
            async with self._sending:
                if channel in self.bells:
                    continue
                self._confirmed.pop(channel, None)
                self._asked.discard(channel)
                await pubsub.sunsubscribe(channel)


def _decode(message: bytes) -> Transition | Progress | Resync:
    try:
        return record.decode_event(message)
    except ValueError:  # not published by a script of ours: the record tells what is true
        return RESYNC
