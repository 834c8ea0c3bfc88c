"""Writes that the store has to confirm: by an fsync of its append-only file, or by its replicas.

WAIT waits for what was last written *on its own connection*; on one that wrote nothing it answers at once. So the
scripts, one more small write, and the question go out in one piece on one connection. The small write is there for
scripts that wrote nothing because an earlier call had stored the job: its reply, or its confirmation, may be what was
lost. One piece, because redis-py opens a broken connection again between two commands: then the new one would confirm,
maybe from a new primary, what it knows nothing of.

That a write is on disk is what `appendfsync always` means: no answer leaves the store before. So the question is
whether it is set that way. WAITAOF is not asked, because with `everysec` it confirms what no fsync has seen: Valkey
(measured: 9.1) takes an empty buffer for a disk that is up to date. Redis had the same fault, and mended it in its
pull request 13793.
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
from headrace_broker.errors import DurabilityUnsupported, StoreMoved, StoreUnfit
from headrace_broker.job import SECOND, Durability
from headrace_broker.scripts import Script

ALWAYS = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
"""With these settings no answer leaves the store before what it says is on disk."""

log = structlog.get_logger("headrace.durability")

Question: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What producers get who do not ask, what REPLICATED means here, and how long a confirmation may take."""

    default: Durability = Durability.ACCEPTED
    replicas: int = 1
    timeout_ms: int = 1_000


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
                async with self._primaries.reaching(shard) as primary:
                    await _check_fsyncs(primary)
                return ("CONFIG GET", *ALWAYS)

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
            case dict() if told == ALWAYS:  # CONFIG GET
                return ""
        primary.syncs_always = False  # it could be had when we last looked; look again
        with suppress(ResponseError), store.store_errors():
            if isinstance(told, Exception):
                raise told  # it may be that the store fails over, or stops
        log.warning("the store does not confirm what it wrote", told=str(told))
        return "the store no longer offers it"


async def _check_fsyncs(primary: Primary) -> None:
    """Looks once whether the store syncs every write; the question that follows each write finds out when that ends."""
    if primary.syncs_always:
        return
    try:
        told: dict[str, str] = await primary.redis.config_get(*ALWAYS)
    except ResponseError as error:
        why = "the store does not let this user read its settings (CONFIG GET)"
        raise DurabilityUnsupported(Durability.FSYNCED, why) from error
    wrong = [f"{name} is {told.get(name)}, not {value}" for name, value in ALWAYS.items() if told.get(name) != value]
    if wrong:
        raise DurabilityUnsupported(Durability.FSYNCED, f"the store does not sync every write: {', '.join(wrong)}")
    primary.syncs_always = True
