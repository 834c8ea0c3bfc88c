"""The producers and watchers of a chaos run: a process of the public client, and what it was told, written down.

It produces until SIGTERM; then it asks again for what it never got an answer for, sends a last round of jobs that shows
that everybody works again, and waits for its watchers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chaos.mix import Request, draw, draw_gentle
from headrace import (
    AsyncClient,
    AsyncJobHandle,
    DeadlineExceeded,
    EnqueueError,
    HeadraceError,
    InvalidRequest,
    JobNotFound,
    PreconditionFailed,
    ResourceExhausted,
    Unavailable,
)

SETTLE = 40.0
"""Seconds that each step of the last part may take."""
WATCHERS_SETTLE = 75.0
"""The same for watchers: it takes 35 s to find out that a stream was swallowed."""
LAST_ROUND = 400
CANCELLED = 0.06
"""Share of the jobs that somebody cancels a moment later."""
POISON_EVERY = 20.0
"""Seconds between two jobs that kill their worker: each of them costs four workers."""
PATIENCE = 4.0
"""Seconds that a call may take: shorter than many a fault, so that its caller is left not knowing."""
BATCH = 200


class Log:
    """The client's history, one JSON object a line."""

    def __init__(self, place: Path) -> None:
        self._file = place.open("a", buffering=1)
        self.numbers = itertools.count(1)

    def write(self, row: str, **facts: Any) -> None:
        """Adds a line."""
        self._file.write(json.dumps({"row": row, "at": time.time() * 1_000, **facts}) + "\n")


class Load:
    """All producers and watchers of this process."""

    def __init__(
        self, *, clients: Sequence[AsyncClient], log: Log, rng: random.Random, rate: float, gentle: bool = False
    ) -> None:
        """`gentle`: jobs that succeed at their first attempt, and nothing else."""
        self._clients = clients
        self._log = log
        self._rng = rng
        self._rate = rate
        self._gentle = gentle
        self._names = itertools.count(1)
        self._unanswered: dict[str, Request] = {}
        self._recent: list[Request] = []
        self._watching: set[asyncio.Task[None]] = set()
        self._calling: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()

    async def produce(self) -> None:
        """Sends jobs at the rate asked for, whatever becomes of the calls, until it is told to stop."""
        started, sent = time.monotonic(), 0
        while not self.stopping.is_set():
            missing = int((time.monotonic() - started) * self._rate) - sent
            sent += missing
            for _ in range(missing):
                self._spawn(self._one_move(), self._calling)
            await asyncio.sleep(0.01)

    async def settle(self) -> None:
        """Repeats what was not answered; sends the last round; waits for the watchers."""
        await self._done(self._calling, within=SETTLE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE):
                while self._unanswered:
                    await asyncio.gather(*(self._enqueue(one) for one in list(self._unanswered.values())))
                last = [self._draw("sleeps") for _ in range(LAST_ROUND)]
                await asyncio.gather(*(self._enqueue(one) for one in last))
        await self._done(self._calling, within=SETTLE)
        await self._done(self._watching, within=WATCHERS_SETTLE)

    @staticmethod
    async def _done(tasks: set[asyncio.Task[None]], *, within: float) -> None:
        """Waits for all of them. What has no end by then is left as it is: the checker will ask why."""
        if tasks:
            _, hanging = await asyncio.wait(set(tasks), timeout=within)
            for task in hanging:
                task.cancel()

    async def _one_move(self) -> None:
        """Mostly a new job; at times many at once, a repetition, another job under a known name, or poison."""
        chance = self._rng.random()
        if chance < 0.02:
            await self._enqueue_many([self._draw() for _ in range(self._rng.randrange(2, 20))])
        elif chance < 0.06 and self._recent:
            await self._enqueue(self._rng.choice(self._recent))
        elif chance < 0.08 and self._recent:
            await self._enqueue(self._rng.choice(self._recent).forged("b"))
        elif chance < 0.09:
            twin = self._draw()
            await asyncio.gather(self._enqueue(twin), self._enqueue(twin), self._enqueue(twin.forged("b")))
        else:
            await self._enqueue(self._draw())

    async def poison(self) -> None:
        """Sends a job now and then that takes its worker with it, until it is told to stop."""
        while not self._gentle and not await self._stops_within(POISON_EVERY):
            self._spawn(self._enqueue(self._draw("poison")), self._calling)

    async def _stops_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        return self.stopping.is_set()

    def _draw(self, kind: str = "") -> Request:
        return draw_gentle(self._rng, self._name()) if self._gentle else draw(self._rng, self._name(), kind=kind)

    def _name(self) -> str:
        return f"request-{next(self._names)}"

    async def _enqueue(self, request: Request) -> None:
        number = self._invoke(request)
        job = request.job()
        client = self._rng.choice(self._clients)
        options = {name: getattr(job, name) for name in job.__slots__ if name not in {"type", "payload"}}
        try:
            handle = await client.enqueue(job.type, job.payload, **options)
        except HeadraceError as error:
            self._failed(number, request, error)
        else:
            self._stored(number, request, handle.job_id, handle.deduplicated)

    async def _enqueue_many(self, requests: Sequence[Request]) -> None:
        numbers = [self._invoke(request) for request in requests]
        client = self._rng.choice(self._clients)
        answers = await client.enqueue_many([request.job() for request in requests])
        for number, request, answer in zip(numbers, requests, answers, strict=True):
            if isinstance(answer, EnqueueError):
                self._failed(number, request, answer.error)
            else:
                self._stored(number, request, answer.job_id, answer.deduplicated)

    def _invoke(self, request: Request) -> int:
        number = next(self._log.numbers)
        self._log.write("invoke", number=number, request_id=request.request_id, variant=request.variant)
        return number

    def _stored(self, number: int, request: Request, job_id: str, deduplicated: bool) -> None:  # noqa: FBT001
        self._log.write("answer", number=number, answer="ok", job_id=job_id, deduplicated=deduplicated)
        self._unanswered.pop(request.request_id + request.variant, None)
        self._recent = [*self._recent[-200:], request]
        if self._rng.random() < 0.15:
            self._spawn(self._watch(job_id), self._watching)
        if self._rng.random() < CANCELLED and not self._gentle:
            self._spawn(self._cancel(job_id), self._calling)

    def _failed(self, number: int, request: Request, error: HeadraceError) -> None:
        told = f"{type(error).__name__}: {error}"
        answer = "fail" if isinstance(error, InvalidRequest | ResourceExhausted) else "unknown"
        if isinstance(error, InvalidRequest) and error.reason == "REQUEST_ID_REUSED":
            answer = "reused"
        self._log.write("answer", number=number, answer=answer, error=told)
        name = request.request_id + request.variant
        if answer == "unknown" and self._rng.random() < 0.8:
            self._unanswered[name] = request
        else:
            self._unanswered.pop(name, None)

    async def _cancel(self, job_id: str) -> None:
        await asyncio.sleep(self._rng.uniform(0, 1.5))
        number = next(self._log.numbers)
        self._log.write("cancel", number=number, job_id=job_id)
        try:
            job = await self._rng.choice(self._clients).cancel(job_id, reason="chaos")
        except PreconditionFailed as error:
            self._log.write("cancelled", number=number, answer="ended", error=str(error))
        except HeadraceError as error:
            answer = "unknown" if isinstance(error, Unavailable | DeadlineExceeded) else "fail"
            self._log.write("cancelled", number=number, answer=answer, error=f"{type(error).__name__}: {error}")
        else:
            self._log.write("cancelled", number=number, answer="ok", state=job.state.value)

    async def _watch(self, job_id: str) -> None:
        number = next(self._log.numbers)
        after = self._rng.choice((None, 0))
        self._log.write("watch", number=number, job_id=job_id, after=after)
        error = await self._follow(number, job_id, after)
        self._log.write("watched", number=number, error=error)

    async def _follow(self, number: int, job_id: str, after: int | None) -> str:
        """Watches to the end; returns the error that ended it before. A watch that nobody answered is begun again."""
        told = False
        while True:
            try:
                async for event in self._rng.choice(self._clients).watch(job_id, after_version=after):
                    told = True
                    facts = {"kind": event.kind.value, "version": event.version, "state": event.state.value}
                    self._log.write("event", number=number, **facts)
            except Unavailable as error:
                if told:
                    return f"{type(error).__name__}: {error}"
            except HeadraceError as error:
                return f"{type(error).__name__}: {error}"
            else:
                return ""

    @staticmethod
    def _spawn(work: Any, tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def burst(client: AsyncClient, *, jobs: int, rng: random.Random) -> None:
    """Sends jobs of which no trace may be left a second after their end, watches some, and waits for all."""
    kinds = ("quick", "sleeps", "thread", "flaky", "retries", "snoozes", "discards")
    asked = [draw(rng, uuid.uuid4().hex, kind=rng.choice(kinds)) for _ in range(jobs)]
    brief = [replace(one, options={**one.options, "retention": 1.0, "expire_time": None}) for one in asked]
    handles = []
    for start in range(0, jobs, BATCH):
        handles += await client.enqueue_many([one.job() for one in brief[start : start + BATCH]])
    await asyncio.gather(*(_to_the_end(one) for one in handles if not isinstance(one, EnqueueError)))


async def _to_the_end(handle: AsyncJobHandle) -> None:
    try:
        async for _ in handle.watch():
            continue
    except JobNotFound:  # it has ended, and its second has passed
        return


async def main() -> None:
    """Reads the command line, and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", required=True, help="a server's address; may be repeated")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, default=150, help="moves a second")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="the file to write the history to")
    parser.add_argument("--burst", type=int, default=0, help="only send this many short-lived jobs, and wait for them")
    parser.add_argument("--gentle", action="store_true", help="only jobs that succeed at their first attempt")
    options = parser.parse_args()
    if options.burst:
        async with AsyncClient(options.target[0]) as client:
            await burst(client, jobs=options.burst, rng=random.Random(options.seed))
        print("load done", flush=True)  # noqa: T201
        return
    patience = {} if options.gentle else {"timeout": PATIENCE, "reconnect_timeout": 60.0}
    clients = [AsyncClient(target, **patience) for target in options.target for _ in range(2)]
    rng = random.Random(options.seed)
    load = Load(clients=clients, log=Log(options.log), rng=rng, rate=options.rate, gentle=options.gentle)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.stopping.set)
    print("load ready", flush=True)  # noqa: T201  the line that its starter waits for
    await asyncio.gather(load.produce(), load.poison())
    await load.settle()
    for client in clients:
        await client.close()
    print("load done", flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
