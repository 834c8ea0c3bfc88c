"""Celery on Redis, acknowledged late, so that a crash loses nothing. Results are not kept."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from bench.tally import Tally
from celery import Celery, signals

app = Celery("peer_celery", broker=os.environ["BENCH_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=32,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)
tallies: list[Tally] = []


@signals.worker_ready.connect
def startup(**_: object) -> None:
    """Open the tally."""
    tallies.append(Tally())
    print("peer ready", flush=True)


@app.task(name="noop")
def noop(n: int) -> None:
    """Record that it ran."""
    tallies[0].ran(n)


async def enqueue(count: int) -> None:
    """Enqueue task by task on one connection; Celery has no bulk call."""
    with app.producer_or_acquire() as producer:
        for n in range(count):
            noop.apply_async((n,), producer=producer)


async def ping(number: int) -> None:
    """Enqueue one task."""
    noop.delay(number)


async def schedule(count: int, at: float) -> None:
    """Enqueue tasks that are due at one instant."""
    due = datetime.fromtimestamp(at, UTC)
    with app.producer_or_acquire() as producer:
        for n in range(count):
            noop.apply_async((n,), eta=due, producer=producer)


if __name__ == "__main__":
    from script import run

    run(enqueue=enqueue, ping=ping, schedule=schedule)
