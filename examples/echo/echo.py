"""The smallest worker."""

from typing import Any

from headrace_worker import Worker

worker = Worker()


@worker.handler("echo.process")
async def process(payload: Any) -> Any:
    """Returns what it was sent."""
    return payload
