"""A worker that runs a hundred jobs at a time. Each run writes down that it has begun, and then only waits."""

import asyncio
import os
from typing import Any

from headrace_worker import Context, Worker

worker = Worker(queues=["default"], concurrency=100)


@worker.handler("begin.and.wait")
async def begin_and_wait(payload: dict[str, Any], ctx: Context) -> None:
    """Appends its job's id and this process's id to the log; returns once the file `until` is there."""
    place = os.open(payload["log"], os.O_WRONLY | os.O_APPEND)
    os.write(place, f"{ctx.job.id} {os.getpid()}\n".encode())
    os.close(place)
    while not await asyncio.to_thread(os.path.exists, payload["until"]):  # noqa: ASYNC110  the test is another process
        await asyncio.sleep(0.1)
