"""Promoters that die in the middle of their work."""

import asyncio
from pathlib import Path

from broker.moves import make_due
from broker.state import ident, new
from harness.processes import Process, Spawn
from harness.proxy import Mode, Proxy, target_of
from headrace_broker import Broker, Priority
from headrace_broker.job import HOUR

PROGRAM = Path(__file__).parent / "promoter.py"


async def test_promoters_killed_in_mid_call_lose_no_job_and_move_none_twice(store_broker: Broker, spawn: Spawn) -> None:
    """F52: 2,000 jobs are due at one instant; each of three promoters is killed while a call of its own is on its way.
    Whoever comes next moves what is left, and every job is in its stream once.
    """
    jobs = [ident(f"n{n}") for n in range(2_000)]
    await store_broker.enqueue([new(f"n{n}", delay_ms=HOUR) for n in range(2_000)])
    async with Proxy(target_of(store_broker.url)) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        promoters = [spawn("python", str(PROGRAM), url, store_broker.namespace) for _ in range(3)]
        await asyncio.gather(*(asyncio.to_thread(one.wait_for_line, "ready") for one in promoters))
        proxy.mode = Mode(delay=0.05)
        await make_due(store_broker, *jobs)
        await asyncio.gather(*(asyncio.to_thread(_kill_in_mid_call, one) for one in promoters))
    moved = [int(line.split()[1]) for one in promoters for line in one.lines if line.startswith("moved")]
    assert len(moved) >= 3
    while (await store_broker.promote(shard=0, queues=["default"])).more:
        continue
    entries = await store_broker.redis.xrange(store_broker.shard(0).ready("default", Priority.NORMAL))
    assert sorted(fields[b"j"].decode() for _, fields in entries) == sorted(jobs)


def _kill_in_mid_call(promoter: Process) -> None:
    """It calls again at once after each call, and every call is 100 ms on its way."""
    promoter.wait_for_line("moved")
    promoter.kill()
