"""Listens to the channels of jobs with a raw client, and returns what was published."""

from headrace_broker import Broker, Progress, Transition
from headrace_broker.record import decode_event

_END = b"end"


class Hearing:
    """What the scripts publish of some jobs, in order."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._pubsub = broker.redis.pubsub()
        self._channels: dict[str, str] = {}
        self._messages: dict[str, list[bytes]] = {}

    async def of(self, *jobs: str) -> None:
        """Begins to listen to these jobs; from here on nothing is missed."""
        shard = self._broker.shard(0)
        for job in jobs:
            self._channels[shard.event(job)] = job
            self._messages[job] = []
            await self._pubsub.ssubscribe(shard.event(job))
            while (message := await self._pubsub.get_message(timeout=5)) is None or message["type"] != "ssubscribe":
                continue

    async def raw(self, job: str) -> list[bytes]:
        """Returns all that was published of a job up to now."""
        channel = self._broker.shard(0).event(job)
        await self._broker.redis.execute_command("SPUBLISH", channel, _END)
        while True:
            message = await self._pubsub.get_message(timeout=5)
            assert message is not None, "what was just published does not arrive"
            name = self._channels[message["channel"].decode()]
            if message["data"] != _END:
                self._messages[name].append(message["data"])
            elif name == job:
                return self._messages[job]

    async def decoded(self, job: str) -> list[Transition | Progress]:
        """Returns the same as the values that a bell rings with."""
        return [decode_event(message) for message in await self.raw(job)]

    async def events(self, job: str) -> list[str]:
        """Returns the same as lines without time: 'version state attempt reason detail', '-' for nothing."""
        lines = []
        for message in await self.raw(job):
            name, version, state, _, attempt, reason, detail = message.decode().split("|", 6)
            assert name == job
            lines.append(f"{version} {state} {attempt} {reason or '-'} {detail or '-'}")
        return lines

    async def aclose(self) -> None:
        """Stops listening."""
        await self._pubsub.aclose()
