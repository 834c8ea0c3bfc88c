"""Writes that the store has to confirm: by an fsync of its append-only file, or by its replicas.

WAIT and WAITAOF wait for what was last written *on their own connection*; on one that wrote nothing they answer at
once. So the scripts, one more small write, and the command that waits go out in one piece on one connection. The small
write is there for scripts that wrote nothing because an earlier call had stored the job: its reply, or its
confirmation, may be what was lost. One piece, because redis-py opens a broken connection again between two commands:
then the new one would confirm, maybe from a new primary, what it knows nothing of.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog
from redis.exceptions import ResponseError

from headrace_broker import keys, store
from headrace_broker._primaries import Primaries, Primary
from headrace_broker.errors import DurabilityUnsupported, StoreMoved, StoreUnavailable, StoreUnfit
from headrace_broker.job import SECOND, Durability
from headrace_broker.scripts import Script

HAS_WAITAOF = (7, 2)
"""The version of Redis that brought WAITAOF. Every Valkey says that it is at least this one."""
ALWAYS = {"appendonly": "yes", "appendfsync": "always"}
"""With these settings no answer leaves the store before what it says is on disk."""

log = structlog.get_logger("headrace.durability")

Question: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What producers get who do not ask, what REPLICATED means here, and how long a confirmation may take."""

    default: Durability = Durability.ACCEPTED
    replicas: int = 1
    timeout_ms: int = 2_000
    """An append-only file with `everysec` is synced once a second, so less than that would often be too short."""


class Confirmer:
    """Runs scripts, and waits until what they wrote is as safe as it has to be."""

    def __init__(
        self, *, primaries: Primaries, namespace: str, scripts: dict[str, Script], wanted: Confirmation
    ) -> None:
        self._primaries = primaries
        self._namespace = namespace
        self._scripts = scripts
        self._wanted = wanted

    async def question(self, durability: Durability, shard: int) -> Question:
        """Returns the command that tells whether this level is reached; () for ACCEPTED, of which nothing is asked.

        Whether replicas are there is seen at each write anew.

        Raises:
            DurabilityUnsupported: the store does not offer this level. The message says why.
        """
        match durability:
            case Durability.ACCEPTED:
                return ()
            case Durability.REPLICATED:
                return ("WAIT", self._wanted.replicas, self._wanted.timeout_ms)
            case Durability.FSYNCED:
                return await self._question_of_fsyncs(shard)

    async def look(self) -> tuple[str, ...]:
        """Returns what may keep the default level from being reached now.

        Raises:
            StoreUnfit: a store does not offer it.
        """
        default, needed = self._wanted.default, self._wanted.replicas
        if default is Durability.ACCEPTED:
            return ()
        found = needed
        for shards in (await self._primaries.look()).values():
            try:
                await self.question(default, shards[0])
            except DurabilityUnsupported as error:
                raise StoreUnfit(f"HEADRACE_DURABILITY is {default}, but {error.why}") from error
            async with self._primaries.calling(shards[0]) as redis:
                found = min(found, int((await redis.info("replication")).get("connected_slaves", 0)))
        told = f"HEADRACE_DURABILITY is replicated, on {needed}, but {found} replicas are connected"
        return (told,) if found < needed and default is Durability.REPLICATED else ()

    async def run(
        self, name: str, shard: int, calls: Sequence[Sequence[Any]], question: Question
    ) -> tuple[list[Any], str]:
        """Runs a script once for each list of arguments. Returns its replies, and what is missing from the level."""
        try:
            return await self._run_once(name, shard, calls, question)
        except StoreMoved:  # refused, or left without a confirmation: where the shard is now, all of it is asked anew
            await self._primaries.look_again()
            return await self._run_once(name, shard, calls, question)

    async def _run_once(
        self, name: str, shard: int, calls: Sequence[Sequence[Any]], question: Question
    ) -> tuple[list[Any], str]:
        tag = keys.Shard(self._namespace, shard)
        seconds = store.COMMAND_TIMEOUT + self._wanted.timeout_ms / SECOND
        async with self._primaries.reaching(shard, seconds) as primary:
            pipe = primary.confirming.pipeline(transaction=False)
            for arguments in calls:  # EVAL: after an EVALSHA that finds no script the rest would go on all the same
                pipe.eval(self._scripts[name].text, 1, tag.queues(), *arguments)
            pipe.hset(tag.pulse(), "confirm", 1)
            pipe.execute_command(*question)
            *written, told = await pipe.execute(raise_on_error=False)
            for reply in written:
                if isinstance(reply, Exception):
                    raise reply
            return written[:-1], self._shortfall(told, primary)

    def _shortfall(self, told: Any, primary: Primary) -> str:
        """Returns "" where the store has confirmed the level, else what is missing."""
        wanted = self._wanted
        match told:
            case int():  # WAIT
                missing = told < wanted.replicas
                return f"{told} of {wanted.replicas} replicas confirmed it within {wanted.timeout_ms} ms" * missing
            case [local, _]:  # WAITAOF
                return "" if local else f"no fsync of the append-only file within {wanted.timeout_ms} ms"
            case dict() if told == ALWAYS:  # CONFIG GET
                return ""
        primary.of_fsyncs = ()  # it could be had when we last looked; look again
        with suppress(ResponseError), store.store_errors():
            if isinstance(told, Exception):
                raise told  # it may be that the store fails over, or stops
        log.warning("the store does not confirm what it wrote", told=str(told))
        return "the store no longer offers it"

    async def _question_of_fsyncs(self, shard: int) -> Question:
        async with self._primaries.reaching(shard) as primary:
            if not primary.of_fsyncs:
                primary.of_fsyncs = await self._find_question_of_fsyncs(primary.redis)
            return primary.of_fsyncs

    async def _find_question_of_fsyncs(self, redis: store.Client) -> Question:
        info: dict[str, Any] = await redis.info()
        if info.get("loading"):  # it does not tell yet whether it will have an append-only file
            raise StoreUnavailable("the store is loading")
        try:
            policy = (await redis.config_get("appendfsync"))["appendfsync"]
        except (ResponseError, KeyError):  # CONFIG is forbidden to this user
            policy = "unknown"
        old = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2]) < HAS_WAITAOF
        if not info.get("aof_enabled"):
            raise DurabilityUnsupported(Durability.FSYNCED, "the store has no append-only file (appendonly no)")
        if policy == "no":
            raise DurabilityUnsupported(Durability.FSYNCED, "the store never syncs its file (appendfsync no)")
        if old and policy != "always":
            why = f"the store is older than Redis 7.2, and its appendfsync is {policy}, not always"
            raise DurabilityUnsupported(Durability.FSYNCED, why)
        return ("CONFIG GET", *ALWAYS) if old else ("WAITAOF", 1, 0, self._wanted.timeout_ms)
