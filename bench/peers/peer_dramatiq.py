"""dramatiq on Redis, with its default middleware. Results are not kept."""

from __future__ import annotations

import os
import time

import dramatiq
from bench.tally import Tally
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_URL"]))
tallies: list[Tally] = []


class OpenTally(dramatiq.Middleware):
    """Opens the tally in the process that runs the actors."""

    def after_worker_boot(self, *_: object) -> None:
        """Open it."""
        tallies.append(Tally())
        print("peer ready", flush=True)


dramatiq.get_broker().add_middleware(OpenTally())


@dramatiq.actor
def noop(n: int) -> None:
    """Record that it ran."""
    tallies[0].ran(n)


async def enqueue(count: int) -> None:
    """Enqueue message by message; dramatiq has no bulk call."""
    for n in range(count):
        noop.send(n)


async def ping(number: int) -> None:
    """Enqueue one message."""
    noop.send(number)


async def schedule(count: int, at: float) -> None:
    """Enqueue messages that are due at one instant."""
    for n in range(count):
        noop.send_with_options(args=(n,), delay=max(0, int((at - time.time()) * 1000)))


if __name__ == "__main__":
    from script import run

    run(enqueue=enqueue, ping=ping, schedule=schedule)
