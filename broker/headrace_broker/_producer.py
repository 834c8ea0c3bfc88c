"""Storing jobs, shard by shard, and having the store confirm them as safely as was asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from headrace_broker import keys, record
from headrace_broker._side_by_side import each_shard
from headrace_broker.confirm import Confirmer, Question
from headrace_broker.errors import BrokerError, DurabilityNotReached, RequestIdReused
from headrace_broker.job import Durability, Enqueued, NewJob, State

ENQUEUE_BATCH = 200
"""Jobs that one enqueue script stores: keeps it well under 10 ms, so that no other caller waits for it."""
_WIDTH = 4
"""Values of a reply that belong to one job."""

Answer: TypeAlias = Enqueued | BrokerError
Run: TypeAlias = Callable[..., Awaitable[Any]]
"""Runs a script by its name, on a shard by its number, with arguments."""


class Producer:
    """Stores jobs. `run` is for those that the store has only to accept, `confirmer` for all others."""

    def __init__(self, *, shards: int, run: Run, confirmer: Confirmer) -> None:
        self._shards = shards
        self._run = run
        self._confirmer = confirmer

    async def enqueue(self, jobs: Sequence[NewJob], durability: Durability) -> list[Answer]:
        """See Broker.enqueue."""
        ids = [keys.job_id(job.request_id, shards=self._shards) for job in jobs]
        by_shard = keys.by_shard(ids)
        answers: dict[int, Answer] = {}

        async def store_in(shard: int) -> None:
            indexes = by_shard[shard]
            question = await self._confirmer.question(durability, shard)
            chunks = [indexes[start : start + ENQUEUE_BATCH] for start in range(0, len(indexes), ENQUEUE_BATCH)]
            scripts = [
                [value for i in chunk for value in record.enqueue_arguments(jobs[i], ids[i])] for chunk in chunks
            ]
            replies, shortfall = await self._write(shard, scripts, question)
            words = [reply[start : start + _WIDTH] for reply in replies for start in range(0, len(reply), _WIDTH)]
            for i, told in zip(indexes, words, strict=True):
                answers[i] = _answer(jobs[i], ids[i], told, durability, shortfall)

        failed = await each_shard(by_shard, store_in)
        return [answers.get(i) or failed[keys.shard_of(job_id)] for i, job_id in enumerate(ids)]

    async def _write(self, shard: int, scripts: list[list[Any]], question: Question) -> tuple[list[Any], str]:
        """Returns the scripts' replies, and what is missing from the level ("" where nothing is)."""
        if not question:
            return [await self._run("enqueue", shard, *arguments) for arguments in scripts], ""
        return await self._confirmer.run("enqueue", shard, scripts, question)


def _answer(job: NewJob, job_id: str, told: Sequence[Any], durability: Durability, shortfall: str) -> Answer:
    word, state, version, created = told
    if word == b"reused":
        return RequestIdReused(job.request_id, job_id)
    if shortfall:
        return DurabilityNotReached(job_id, durability, shortfall)
    return Enqueued(
        job_id=job_id,
        state=State(state.decode()),
        version=version,
        create_time_ms=created,
        deduplicated=word == b"old",
        durability=durability,
    )
