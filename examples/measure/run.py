"""One run of the demo on a stack that is up: enqueue, follow, sum up, check."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from rich.console import Console

from examples.measure import display, producer, summary
from examples.measure.library import Module
from examples.measure.tally import Tally
from headrace import AsyncClient, Job, JobState

_LONGEST = 300.0  # seconds; many times what a slow machine needs


class DemoFailedError(Exception):
    """The demo did not come out right; the text says why, in one line."""


async def measure(address: str, modules: Sequence[Module], console: Console) -> Mapping[str, Job]:
    """Have all modules measured by the stack whose server listens at `address`; the dead letters, by module.

    Raises DemoFailedError when a job got lost on the way, or failed for want of a worker that can run it.
    """
    async with AsyncClient(address) as client:
        tally = Tally(total=len(modules))
        batch = await producer.enqueue(client, modules)
        try:
            async with asyncio.timeout(_LONGEST), _shown(tally, console):
                await batch.follow(tally)
        except TimeoutError:
            raise DemoFailedError(f"{tally.total - tally.done:,} jobs have not ended within {_LONGEST:.0f} s") from None
        dead = await batch.dead_letters(client)
        summary.show(tally, dead, console)
        check(tally, dead)
        return dead


def check(tally: Tally, dead: Mapping[str, Job]) -> None:
    """Raise DemoFailedError unless every job has succeeded, or has failed over its module and is in the DLQ."""
    succeeded, failed = tally.states[JobState.SUCCEEDED], tally.states[JobState.FAILED]
    if succeeded + failed != tally.total:
        raise DemoFailedError(f"of {tally.total:,} jobs {succeeded:,} succeeded and {failed:,} failed: some got lost")
    if len(dead) != failed:
        raise DemoFailedError(f"{failed:,} jobs failed for good, but {len(dead):,} are in the dead letter queue")
    for name, job in dead.items():
        if job.failure is None or not job.failure.error_type:  # no exception of the handler: it could not run
            raise DemoFailedError(f"the job of {name} failed, but not over its module: {job.failure}")


@contextlib.asynccontextmanager
async def _shown(tally: Tally, console: Console) -> AsyncIterator[None]:
    shown = asyncio.create_task(display.show(tally, console), name="display")
    try:
        yield
    finally:
        shown.cancel()
        await asyncio.wait({shown})
