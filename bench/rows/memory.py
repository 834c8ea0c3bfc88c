"""What a job costs the store in memory, beyond its payload."""

from __future__ import annotations

import asyncio

from bench.contenders import HEADRACE
from bench.rows.race import Result
from bench.stage import Stage, fresh_stage, wait_until
from headrace import AsyncClient, NewJob

_JOBS = 20_000
_PAYLOAD = {"n": 0}
_PAYLOAD_BYTES = len('{"n":0}')
_BATCH = 500


def per_job() -> Result:
    """Bytes for each queued job; then for each finished one, with its history, while it is retained."""
    with fresh_stage() as stage:
        _, address = stage.serve()
        asyncio.run(_enqueue(address, _BATCH))  # what is there once: names, groups, scripts
        before = _used(stage)
        asyncio.run(_enqueue(address, _JOBS))
        queued = (_used(stage) - before) / _JOBS - _PAYLOAD_BYTES
        reader = stage.reader
        HEADRACE.start(stage)
        wait_until(lambda: reader.look() >= _JOBS + _BATCH, within=60)
        finished = (_used(stage) - before) / _JOBS - _PAYLOAD_BYTES
    return Result(numbers={"bytes per queued job": queued, "bytes per finished job": finished}, counts={})


async def _enqueue(address: str, count: int) -> None:
    async with AsyncClient(address) as client:
        await client.enqueue_many(NewJob("noop", _PAYLOAD) for _ in range(count))


def _used(stage: Stage) -> int:
    with stage.store as store:
        return int(store.info("memory")["used_memory_dataset"])
