"""The smallest worker, which `headrace dev` runs unless it is given another one."""

from __future__ import annotations

from typing import Any

from headrace_worker import Context, Worker

worker = Worker()


@worker.handler("echo.process")
async def process(payload: Any, ctx: Context) -> Any:
    """Returns its payload."""
    ctx.progress(1.0, "echoed")
    return payload
