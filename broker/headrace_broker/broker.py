"""The broker: one method for each transition, each calling the script of its name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, Self

from headrace_broker import keys, record, scripts, store
from headrace_broker._answers import Claims, Held, Promoted, Reclaimed, Renewed, WorkerInfo
from headrace_broker._checks import StoreInfo, check_primaries
from headrace_broker._finish_arguments import finish_arguments
from headrace_broker._job_control import JobControl
from headrace_broker._page_tokens import PageTokens
from headrace_broker._primaries import Primaries
from headrace_broker._producer import Producer
from headrace_broker._reader import Delivery, Reader
from headrace_broker._repair import Repaired, RepairStep, count_repairs
from headrace_broker._side_by_side import each_shard
from headrace_broker.confirm import Confirmation, Confirmer
from headrace_broker.errors import BrokerError, JobNotFound, StoreMoved
from headrace_broker.job import MAX_CRASHES, Durability, Enqueued, Failure, Job, NewJob, Priority, Reason
from headrace_broker.outcome import Finish, Finished
from headrace_broker.queues import Queues
from headrace_broker.workers import Workers

FINISH_BATCH = 200
DUTY_BATCH = 200
"""Jobs that one call of a maintenance script moves."""
RENEW_BATCH = 500
WORKER_TTL_MS = 10 * 60 * 1_000
"""How long a silent worker is remembered."""


class Broker(JobControl):
    """Everything that headrace does in Valkey or Redis. Belongs to one event loop; any number of tasks may share it.

    All methods raise StoreUnavailable when the store cannot answer (then they may be repeated), and StoreFull when it
    is out of memory.
    """

    def __init__(
        self,
        *,
        url: str,
        namespace: str = "headrace",
        shards: int = 1,
        lease_ms: int = 30_000,
        confirmation: Confirmation | None = None,
        shebang: bool = True,
    ) -> None:
        """Connects to nothing yet. `shebang=False` is for fakeredis, which knows no `#!lua` line."""
        if not 1 <= shards <= keys.MAX_SHARDS:
            raise ValueError(f"shards must be 1 to {keys.MAX_SHARDS}, not {shards}")
        self.url = url
        self.namespace = namespace
        self.shards = shards
        self.lease_ms = lease_ms
        self.primaries = Primaries(url=url, shards=[self.shard(n) for n in range(shards)])
        self._scripts = scripts.load_all(shebang=shebang)
        self._readers = {n: Reader(primaries=self.primaries, shard=self.shard(n)) for n in range(shards)}
        self._confirmer = Confirmer(
            primaries=self.primaries,
            namespace=namespace,
            scripts=self._scripts,
            wanted=confirmation or Confirmation(),
        )
        self._producer = Producer(shards=shards, run=self._run, confirmer=self._confirmer)
        self._tokens = PageTokens(primaries=self.primaries, key=self.shard(0).secret())
        self.queues = Queues(
            run=self._run,
            primaries=self.primaries,
            shards=[self.shard(n) for n in range(shards)],
            tokens=self._tokens,
        )
        self.workers = Workers(primaries=self.primaries, shard=self.shard(0), lease_ms=lease_ms)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections. May be called twice."""
        for reader in self._readers.values():
            await reader.aclose()
        await self.primaries.aclose()

    @property
    def redis(self) -> store.Client:
        """The client of the first shard's primary: for looking at a store. Calls of ours take `primaries.calling`."""
        return self.primaries.known(0)

    async def _run(self, script: str, shard: int, *arguments: Any, within: float = store.COMMAND_TIMEOUT) -> Any:
        try:
            return await self._run_once(script, shard, *arguments, within=within)
        except StoreMoved:  # it was refused there; where the shard is now, it is as good as new
            await self.primaries.look_again()
            return await self._run_once(script, shard, *arguments, within=within)

    async def _run_once(self, script: str, shard: int, *arguments: Any, within: float) -> Any:
        async with self.primaries.reaching(shard, within) as primary:
            return await self._scripts[script](primary.redis, self.shard(shard).queues(), *arguments)

    async def check(self) -> StoreInfo:
        """Looks whether the store may be trusted with jobs.

        Raises:
            StoreUnfit: too old, a replica, set to evict keys, or unable to confirm jobs as the default durability asks.
                The message says what to change.
        """
        info = await check_primaries(self.primaries)
        return replace(info, warnings=(*info.warnings, *await self._confirmer.look()))

    async def ping(self) -> None:
        """Returns when the store answers; of several primaries one is enough, for its shards are served."""
        await self.primaries.anyone(lambda redis: redis.ping())

    async def clock_ms(self) -> int:
        """Reads the clock of the store, in ms since the epoch; of several primaries, the one that answers first."""
        return await self.primaries.anyone(store.clock_ms)

    # --- producers

    async def enqueue(
        self, jobs: Sequence[NewJob], *, durability: Durability = Durability.ACCEPTED
    ) -> list[Enqueued | BrokerError]:
        """Stores jobs, and answers each in order. Safe to repeat when every job has a request_id.

        A job whose request_id was used for another job is answered with RequestIdReused; it harms no other. One that is
        stored, but not confirmed as `durability` asks, with DurabilityNotReached: a repetition confirms it again. Nor
        does a shard that fails harm another: its jobs are answered with StoreUnavailable or StoreFull.

        Raises:
            StoreUnavailable, StoreFull: all shards have failed.
            DurabilityUnsupported: the store does not offer this level; nothing is stored.
        """
        return await self._producer.enqueue(jobs, durability)

    async def get(self, job_id: str) -> Job:
        """Reads a job with its content, result and history.

        Raises:
            JobNotFound: there is no record of it.
        """
        shard = self._shard_of(job_id)
        async with self.primaries.calling(shard) as redis:
            fields = await redis.hgetall(self.shard(shard).job(job_id))
        if b"state" not in fields:
            raise JobNotFound(job_id)
        return record.decode_job(job_id, {name.decode(): value for name, value in fields.items()})

    async def version(self, job_id: str) -> int:
        """Reads how many transitions a job has made.

        Raises:
            JobNotFound: there is no record of it.
        """
        shard = self._shard_of(job_id)
        async with self.primaries.calling(shard) as redis:
            version = await redis.hget(self.shard(shard).job(job_id), "version")
        if version is None:
            raise JobNotFound(job_id)
        return int(version)

    # --- workers

    async def claim(
        self,
        *,
        shard: int,
        worker: str,
        queues: Sequence[str],
        count: int,
        token: str,
        delivered: Sequence[Delivery] = (),
        resume: bool = False,
    ) -> Claims:
        """Takes up to `count` queued jobs of a shard, higher priorities first, then in the order of `queues`.

        `token` is a `new_token()` for each call. After a call that raised StoreUnavailable, call again with the same
        token and `resume`: jobs that the lost call had claimed are returned once more. `delivered` is what
        `wait` returned.
        """
        streams = [value for priority in Priority for queue in queues for value in (queue, priority.value)]
        entries = [value for d in delivered for value in (d.queue, d.priority.value, d.entry, d.job_id)]
        reply = await self._run(
            "claim", shard, worker, token, self.lease_ms, count, int(resume), len(streams) // 2, *streams, *entries
        )
        jobs = tuple(record.decode_claimed(fields, token=token) for fields in _chunks(reply[2:], 10))
        paused = frozenset(reply[1].decode().split(",")) if reply[1] else frozenset()
        return Claims(jobs=jobs, more=bool(reply[0]), paused=paused)

    async def wait(self, *, shard: int, worker: str, queues: Sequence[str], timeout_ms: int) -> tuple[Delivery, ...]:
        """Blocks until a job is delivered to this worker; () when `timeout_ms` have passed, or at a wake or a nudge.

        Where there are no `queues` it waits for the rest alone. Hand what it returns to the next claim. Has a
        connection of its own; one call at a time for each shard.
        """
        return await self._readers[shard].wait(worker=worker, queues=queues, timeout_ms=timeout_ms)

    async def wake(self) -> None:
        """Ends all waits of this broker, without losing a delivery. Later waits return at once, too."""
        await each_shard(self._readers, lambda shard: self._readers[shard].wake())

    async def nudge(self, shard: int) -> None:
        """Ends the wait that is under way, or else the next one, without losing a delivery: time for another claim."""
        await self._readers[shard].nudge()

    async def finish(self, finishes: Sequence[Finish]) -> list[Finished]:
        """Writes outcomes, each only under the token of the current claim. Safe to repeat.

        Raises where any shard fails: hand over those of one shard alone, if it is to harm no other.
        """
        answers: list[Finished] = [Finished.STALE] * len(finishes)
        by_shard = keys.by_shard(finish.job_id for finish in finishes)

        async def finish_in(shard: int) -> None:
            for chunk in _chunks(by_shard[shard], FINISH_BATCH):
                arguments = [value for i in chunk for value in finish_arguments(finishes[i])]
                for i, word in zip(chunk, await self._run("finish", shard, *arguments), strict=True):
                    answers[i] = Finished(word.decode())

        for error in (await each_shard(by_shard, finish_in)).values():
            raise error
        return answers

    async def renew(
        self, *, worker: WorkerInfo, held: Sequence[Held], within: float = store.COMMAND_TIMEOUT
    ) -> list[Renewed | BrokerError]:
        """Renews leases, and says that the worker lives.

        A shard that fails, or does not answer `within` seconds, harms no other: its leases are answered with the error,
        which is raised if all have failed.
        """
        answers: list[Renewed | None] = [None] * len(held)
        by_shard = keys.by_shard(hold.job_id for hold in held)
        by_shard.setdefault(0, [])  # the heartbeat is kept in the first shard
        info = json.dumps(asdict(worker))

        async def renew_in(shard: int) -> None:
            for n, chunk in enumerate(_chunks(by_shard[shard], RENEW_BATCH) or [[]]):
                says = info if shard == 0 and n == 0 else ""
                arguments = [value for i in chunk for value in (held[i].job_id, held[i].token)]
                words = (worker.worker_id, says, WORKER_TTL_MS, *arguments)
                for i, number in zip(chunk, await self._run("renew", shard, *words, within=within), strict=True):
                    answers[i] = Renewed(number)

        failed = await each_shard(by_shard, renew_in)
        return [
            failed[keys.shard_of(hold.job_id)] if answer is None else answer
            for hold, answer in zip(held, answers, strict=True)
        ]

    async def report_progress(self, job_id: str, token: str, *, fraction: float, message: str) -> bool:
        """Records how far a handler has come, and tells its watchers. False where the lease is lost."""
        return bool(await self._run("progress", keys.shard_of(job_id), job_id, token, f"{fraction:.4g}", message))

    async def depart(self, *, worker: str, queues: Sequence[str]) -> int:
        """Takes leave at the end of a drain: what was delivered and never claimed goes back to the front."""
        counts: list[int] = []

        async def depart_from(shard: int) -> None:
            counts.append(await self._run("depart", shard, worker, *queues))

        for error in (await each_shard(range(self.shards), depart_from)).values():
            raise error
        return sum(counts)

    # --- maintenance: each is one script, so any number of processes may call it at once

    async def queue_names(self, shard: int) -> list[str]:
        """Reads the names of the queues that a shard has ever had jobs of, sorted."""
        async with self.primaries.calling(shard) as redis:
            names = await redis.smembers(self.shard(shard).queues())
        return sorted(name.decode() for name in names)

    async def promote(self, *, shard: int, queues: Sequence[str]) -> Promoted:
        """Moves jobs that are due to their streams."""
        moved, more, next_due, now = await self._run("promote", shard, DUTY_BATCH, *queues)
        return Promoted(moved=moved, more=bool(more), next_due_in_ms=max(0, next_due - now) if next_due else None)

    async def reclaim(self, *, shard: int, queues: Sequence[str]) -> Reclaimed:
        """Takes jobs from workers whose lease ran out; see reclaim.lua for what an outage of the store means."""
        failure = Failure(
            reason=Reason.CRASH_LOOP,
            message=f"a worker died or went silent {MAX_CRASHES + 1} times while it ran this job",
        )
        packed = record.encode_failure(failure)
        reply = await self._run("reclaim", shard, self.lease_ms, DUTY_BATCH, MAX_CRASHES, packed, *queues)
        return Reclaimed(requeued=reply[0], dead=reply[1], returned=reply[2], held_ms=reply[3])

    async def expire(self, *, shard: int, queues: Sequence[str]) -> int:
        """Ends waiting jobs whose expire_time has passed; returns how many it looked at, DUTY_BATCH at the most."""
        return int(await self._run("expire", shard, DUTY_BATCH, *queues))

    async def trim(self, *, shard: int, queues: Sequence[str], retention_ms: int) -> int:
        """Deletes dead letters older than `retention_ms`; returns how many, DUTY_BATCH at the most."""
        return int(await self._run("trim", shard, retention_ms, DUTY_BATCH, *queues))

    async def forget(self, *, shard: int, queues: Sequence[str], idle_ms: int = WORKER_TTL_MS) -> int:
        """Forgets consumers that hold nothing and have not read for `idle_ms`; returns how many."""
        return int(await self._run("forget", shard, idle_ms, *queues))

    async def repair(self, step: RepairStep) -> Repaired:
        """Mends what should not be possible in a part of a shard; `Repairer` goes through all of them."""
        return Repaired.of(await self._run("repair", step.shard, *step.arguments()))

    async def repairs(self) -> dict[str, int]:
        """Reads how often each kind of thing was ever repaired, in all shards together."""
        kept = []
        for shard in range(self.shards):
            async with self.primaries.calling(shard) as redis:
                kept.append(await redis.hgetall(self.shard(shard).repairs()))
        return count_repairs(kept)


def _chunks(items: Sequence[Any], size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]
