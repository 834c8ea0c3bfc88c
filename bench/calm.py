"""Without faults no job runs twice: `make calm JOBS=100000`, or `python -m bench.calm`.

A real store, a real server and two workers. Jobs go in over gRPC; each run appends the id of its job to a file. In the
end the workers are stopped, and every job must be there exactly once, and be SUCCEEDED after one attempt and no crash.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.processes import Process, start
from harness.stores import Store
from headrace import AsyncClient, NewJob
from headrace.errors import EnqueueError
from headrace_broker import Broker

BATCH = 1_000
PATIENCE = 30.0
"""Seconds without a further run after which the rest is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was seen."""

    ids: Sequence[str]
    runs: Counter[str]
    records: Counter[tuple[str, str, str]]
    """How many records have this state, this number of attempts, and this number of crashes."""
    seconds: float

    def problems(self) -> list[str]:
        """What must not be, in words."""
        jobs = len(self.ids)
        twice = sum(count > 1 for count in self.runs.values())
        missing = len(set(self.ids) - set(self.runs))
        good = self.records[("SUCCEEDED", "1", "0")]
        found = {
            f"{twice:,} jobs ran more than once": twice,
            f"{missing:,} jobs did not run": missing,
            f"{len(set(self.runs) - set(self.ids)):,} runs of jobs that nobody enqueued": set(self.runs)
            - set(self.ids),
            f"{jobs - good:,} records are not SUCCEEDED after one attempt: {dict(self.records)}": jobs - good,
        }
        return [problem for problem, there in found.items() if there]


async def run(jobs: int, workers: int) -> Outcome:
    """Sends the jobs, waits until no more runs come, and reads what became of them."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-calm-")))
        effects = directory / "effects"
        effects.touch()
        store = await asyncio.to_thread(lambda: Store(data=directory / "store"))
        stack.callback(store.close)
        server = _start(stack, store.url, "headrace_server", HEADRACE_LISTEN="127.0.0.1:0")
        port = server.wait_for_line(r'"port": (\d+)', within=20)[1]
        target = ("headrace_worker", "bench.calm_worker:worker")
        running = [_start(stack, store.url, *target, CALM_EFFECTS=str(effects)) for _ in range(workers)]
        for worker in running:
            worker.wait_for_line("worker ready", within=20)
        begun = time.monotonic()
        ids = await _enqueue(f"127.0.0.1:{port}", jobs)
        await _settle(effects, jobs)
        seconds = time.monotonic() - begun
        await asyncio.gather(*(asyncio.to_thread(worker.stop, within=60) for worker in running))
        runs = Counter((await asyncio.to_thread(effects.read_text)).split())
        return Outcome(ids=ids, runs=runs, records=await _records(store.url, ids), seconds=seconds)


def _start(stack: AsyncExitStack, url: str, module: str, *arguments: str, **settings: str) -> Process:
    environment = {"HEADRACE_REDIS_URL": url, "HEADRACE_LOG_FORMAT": "json", **settings}
    process = start("python", "-m", module, *arguments, environment=environment)
    stack.callback(process.close)
    return process


async def _enqueue(address: str, jobs: int) -> list[str]:
    ids: list[str] = []
    async with AsyncClient(address) as client:
        for first in range(0, jobs, BATCH):
            for answer in await client.enqueue_many(NewJob("calm.counted") for _ in range(min(BATCH, jobs - first))):
                if isinstance(answer, EnqueueError):
                    raise answer
                ids.append(answer.job_id)
    return ids


async def _settle(effects: Path, jobs: int) -> None:
    """Returns when every job has run, or no further one has for a while."""
    size, since = 0, time.monotonic()
    line = len("0" * 26 + "\n")
    while size < jobs * line and time.monotonic() - since < PATIENCE:
        await asyncio.sleep(0.1)
        now = (await asyncio.to_thread(effects.stat)).st_size
        if now > size:
            size, since = now, time.monotonic()


async def _records(url: str, ids: Sequence[str]) -> Counter[tuple[str, str, str]]:
    records: Counter[tuple[str, str, str]] = Counter()
    async with Broker(url=url) as broker:
        await broker.check()
        for first in range(0, len(ids), BATCH):
            pipe = broker.redis.pipeline(transaction=False)
            for job_id in ids[first : first + BATCH]:
                pipe.hmget(broker.shard(0).job(job_id), "state", "attempt", "crashes")
            for state, attempt, crashes in await pipe.execute():
                records[(state or b"none").decode(), (attempt or b"0").decode(), (crashes or b"0").decode()] += 1
    return records


def main() -> int:
    """Reads the command line, runs, and says what was seen. The exit code is 1 where a job ran twice, or not once."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.calm", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: %(default)s)")
    options = parser.parse_args()
    if options.jobs < 1 or options.workers < 1:
        parser.error("--jobs and --workers must be at least 1")
    outcome = asyncio.run(run(options.jobs, options.workers))
    problems = outcome.problems()
    print(f"{options.jobs:,} jobs, {options.workers} workers, {outcome.seconds:.1f} s: {outcome.runs.total():,} runs")
    for problem in problems:
        print(f"WRONG: {problem}")
    if not problems:
        print("every job ran exactly once, and is SUCCEEDED after one attempt and no crash")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
