"""The producer of the demo: enqueues one job for every module and follows each to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from examples.measure.library import Module
from examples.measure.tally import Tally
from headrace import AsyncClient, AsyncJobHandle, EnqueueError, Job, NewJob, Priority, RetryPolicy

_RETRY = RetryPolicy(max_attempts=3, initial_backoff=1, multiplier=2, jitter=0.5)


class NotStoredError(Exception):
    """Some jobs were not stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The jobs of one run, by the names of their modules."""

    handles: dict[str, AsyncJobHandle]

    async def follow(self, tally: Tally) -> None:
        """Watch all jobs at once, each on a stream of its own, until the last one has ended."""
        for name, handle in self.handles.items():
            tally.stored(name, handle.state)
        try:
            async with asyncio.TaskGroup() as group:
                for name, handle in self.handles.items():
                    group.create_task(_follow(name, handle, tally), name=f"watch of {name}")
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors  # all streams share one connection: one error stands for all

    async def dead_letters(self, client: AsyncClient) -> dict[str, Job]:
        """Those of these jobs that lie in the dead letter queue, by the names of their modules."""
        names = {handle.job_id: name for name, handle in self.handles.items()}
        return {names[job.job_id]: job async for job in client.dlq() if job.job_id in names}


async def enqueue(client: AsyncClient, modules: Sequence[Module]) -> Batch:
    """Store one job for each module, 1,000 in a request. Raises NotStoredError unless all were stored."""
    outcomes = await client.enqueue_many(_job(index, module) for index, module in enumerate(modules))
    errors = [outcome for outcome in outcomes if isinstance(outcome, EnqueueError)]
    if errors:
        raise NotStoredError(f"{len(errors):,} of {len(outcomes):,} jobs were not stored; the first: {errors[0].error}")
    handles = [outcome for outcome in outcomes if not isinstance(outcome, EnqueueError)]
    return Batch(handles={module.name: handle for module, handle in zip(modules, handles, strict=True)})


def _job(index: int, module: Module) -> NewJob:
    # Every 20th job is scheduled 2 to 6 seconds ahead. High priority has it run when it is due, and a broken module be
    # retried when it is due, before all those of normal priority that still wait.
    turn, place = divmod(index, 20)
    delay = 2 + turn % 5 if place == 19 else None  # noqa: PLR2004 - the last of each 20
    return NewJob(
        "measure.module",
        {"path": str(module.path)},
        retry=_RETRY,
        delay=delay,
        priority=Priority.HIGH if delay or module.broken else Priority.NORMAL,
    )


async def _follow(name: str, handle: AsyncJobHandle, tally: Tally) -> None:
    # The job may have gone far by now: `after_version=0` has its story told from the beginning.
    async for event in handle.watch(after_version=0):
        tally.take(name, event)
