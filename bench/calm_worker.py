"""The worker of bench.calm: its handler does nothing but write down that it has run, outside the store."""

import os

from headrace_worker import Context, Worker

worker = Worker(queues=["default"], concurrency=100)

_EFFECTS = os.open(os.environ["CALM_EFFECTS"], os.O_WRONLY | os.O_APPEND) if "CALM_EFFECTS" in os.environ else -1


@worker.handler("calm.counted")
async def counted(ctx: Context) -> None:
    """Appends the job's id: one write, so lines of several processes never mix."""
    os.write(_EFFECTS, f"{ctx.job.id}\n".encode())
