"""What operators ask of jobs, and do to them: the part of the Broker that neither producers nor workers need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from headrace_broker import keys, record
from headrace_broker._dead_letters import DeadLetters, list_dead_letters
from headrace_broker._page_tokens import PageTokens
from headrace_broker._primaries import Primaries
from headrace_broker._sweep import CHUNK, Act, DeadLetterFilter, Letter, Sweep, Swept
from headrace_broker.errors import JobNotFound, WrongState
from headrace_broker.job import Job, State

DETAIL = 200
"""Characters of an error, or of a reason, that the history keeps."""


class JobControl(ABC):
    """The verbs on jobs, each of them one script, and the dead letters."""

    namespace: str
    shards: int
    primaries: Primaries
    _tokens: PageTokens

    @abstractmethod
    async def _run(self, script: str, shard: int, *arguments: Any) -> Any:
        """Runs a script on a shard."""

    def shard(self, number: int) -> keys.Shard:
        """Returns the keys of a shard."""
        return keys.Shard(self.namespace, number)

    def _shard_of(self, job_id: str) -> int:
        if not keys.is_job_id(job_id) or keys.shard_of(job_id) >= self.shards:
            raise JobNotFound(job_id)
        return keys.shard_of(job_id)

    async def cancel(self, job_id: str, *, reason: str = "") -> Job:
        """Cancels a job that waits; of one that runs, has its worker stop the handler. Safe to repeat.

        `reason` says who asks, and why; the history keeps its first 200 characters. Returns the job, without content
        and result: CANCELLED, or PROCESSING with the time of the request.

        Raises:
            JobNotFound: there is no record of it.
            WrongState: it has ended otherwise.
        """
        job = await self._control("cancel", job_id, reason[:DETAIL])
        if job.state.is_terminal and job.state is not State.CANCELLED:
            raise WrongState(job_id, job.state, "cancelled")
        return job

    async def delete(self, job_id: str) -> None:
        """Deletes a job that does not run, with all that is known of it.

        Raises:
            JobNotFound: there is no record of it.
            WrongState: it runs.
        """
        (word,) = await self._run("delete", self._shard_of(job_id), job_id, "")
        if word == b"MISSING":
            raise JobNotFound(job_id)
        if word == b"RUNNING":
            raise WrongState(job_id, State.PROCESSING, "deleted")

    async def _control(self, script: str, job_id: str, *arguments: Any) -> Job:
        """Runs a script that returns the basic fields of the record, and makes a job of them."""
        values = await self._run(script, self._shard_of(job_id), job_id, *arguments, *record.BASIC_FIELDS)
        fields = dict(zip(record.BASIC_FIELDS, values, strict=True))
        if fields["state"] is None:
            raise JobNotFound(job_id)
        return record.decode_job(job_id, fields)

    async def dead_letters(self, *, queue: str = "", page_size: int = 50, page_token: str = "") -> DeadLetters:
        """Reads a page of the dead letter queue of one queue, or of all, those that failed last first.

        Raises:
            ValueError: page_size is below 1.
            BadPageToken: the token is not one of ours, or belongs to another query.
        """
        return await list_dead_letters(
            self.primaries,
            [self.shard(n) for n in range(self.shards)],
            tokens=self._tokens,
            queue=queue,
            page_size=page_size,
            page_token=page_token,
        )

    async def requeue(self, letters: Sequence[Letter]) -> list[bool]:
        """Puts dead letters back to work, with attempts and crashes counted anew. Safe to repeat: False for each that
        is not that dead letter any more.
        """
        return [word == 1 for word in await self._each("requeue", letters)]

    async def delete_letters(self, letters: Sequence[Letter]) -> list[bool]:
        """Deletes dead letters; False for each that is not that dead letter any more."""
        return [word == b"DELETED" for word in await self._each("delete", letters)]

    async def requeue_dead_letters(
        self,
        *,
        job_ids: Sequence[str] = (),
        where: DeadLetterFilter | None = None,
        validate_only: bool = False,
        page_token: str = "",
    ) -> Swept:
        """Requeues the dead letters among `job_ids`, or one step of all those that fit `where`, oldest first.

        Raises:
            BadPageToken: the token is not one of ours, or belongs to another filter.
        """
        act = None if validate_only else self.requeue
        return await self._sweep("requeue", act, job_ids=job_ids, where=where, page_token=page_token)

    async def purge_dead_letters(
        self,
        *,
        job_ids: Sequence[str] = (),
        where: DeadLetterFilter | None = None,
        force: bool = False,
        page_token: str = "",
    ) -> Swept:
        """Deletes the dead letters among `job_ids`, or one step of all those that fit `where`; only counts them without
        `force`.

        Raises:
            BadPageToken: the token is not one of ours, or belongs to another filter.
        """
        act = self.delete_letters if force else None
        return await self._sweep("purge", act, job_ids=job_ids, where=where, page_token=page_token)

    async def _sweep(
        self, verb: str, act: Act | None, *, job_ids: Sequence[str], where: DeadLetterFilter | None, page_token: str
    ) -> Swept:
        sweep = Sweep(primaries=self.primaries, shards=[self.shard(n) for n in range(self.shards)], act=act)
        if where is None:
            return await sweep.of(job_ids)
        query = f"{verb} {act is not None} {where.canonical()}"
        return await sweep.step(where, tokens=self._tokens, query=query, page_token=page_token)

    async def _each(self, script: str, letters: Sequence[Letter]) -> list[Any]:
        """Runs a script that takes id and version of each job; returns its words in their places."""
        answers: list[Any] = [None] * len(letters)
        for shard, indexes in keys.by_shard(letter.job_id for letter in letters).items():
            for start in range(0, len(indexes), CHUNK):
                chunk = indexes[start : start + CHUNK]
                arguments = [value for i in chunk for value in (letters[i].job_id, letters[i].version)]
                for i, word in zip(chunk, await self._run(script, shard, *arguments), strict=True):
                    answers[i] = word
        return answers
