"""Everything that can end or move a job, all at once and from many connections: one winner, one end."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from broker.hearing import Hearing
from broker.moves import BOOM, claim, ids
from broker.state import ident, new
from headrace_broker import (
    Broker,
    Failed,
    Finish,
    Outcome,
    Released,
    Retried,
    State,
    Succeeded,
    Transition,
    WrongState,
    new_token,
)

JOBS = 150
OUTCOMES: list[Outcome] = [
    Succeeded(), Failed(failure=BOOM), Retried(delay_ms=0, failure=BOOM), Released(), Released(),
]  # fmt: skip


class Race:
    """What each of the racers does, and what the ones who cancelled were told."""

    def __init__(self, brokers: list[Broker], dice: random.Random) -> None:
        self._brokers = brokers
        self._dice = dice
        self.jobs = [ident(f"n{n}") for n in range(JOBS)]
        self.running: list[str] = []
        self.asked_while_running: set[str] = set()
        self.cancelled: set[str] = set()

    async def work(self, me: int) -> None:
        """Claims a few jobs, and writes two outcomes of each from two connections at once."""
        token = new_token()
        claimed = ids(await claim(self._brokers[me], 3, token=token, worker=f"w{me}"))
        self.running += claimed
        for job in claimed:
            ends = [Finish(job_id=job, token=token, outcome=self._dice.choice(OUTCOMES)) for _ in range(2)]
            await asyncio.gather(*(broker.finish([end]) for broker, end in zip(self._two(), ends, strict=True)))
            self.running.remove(job)

    async def cancel(self, me: int) -> None:
        """Cancels some job, every now and then one that runs."""
        runs = self.running and self._dice.random() < 0.2
        job = self._dice.choice(self.running if runs else self.jobs)
        try:
            told = await self._brokers[me].cancel(job, reason=f"c{me}")
        except WrongState:
            return
        (self.asked_while_running if told.state is State.PROCESSING else self.cancelled).add(job)

    async def promote(self, me: int) -> None:
        """Moves what is due."""
        await self._brokers[me].promote(shard=0, queues=["default"])

    async def all_ended(self) -> bool:
        """Whether there is nothing left to race for."""
        return all([(await self._brokers[0].get(job)).state.is_terminal for job in self.jobs])

    def _two(self) -> list[Broker]:
        return self._dice.sample(self._brokers, 2)


@pytest.fixture
async def brokers(store_broker: Broker) -> AsyncIterator[list[Broker]]:
    """Six brokers, as of six processes."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Broker(url=store_broker.url, namespace=store_broker.namespace))
            for _ in range(6)
        ]


async def test_whoever_races_a_job_has_one_end(store_broker: Broker, brokers: list[Broker], heard: Hearing) -> None:
    """F58: workers that claim and write two outcomes of each claim, cancels and promoters race over 150 jobs, some of
    which are scheduled. Each job ends once, is told to end once, and does not move afterwards; one whose cancel was
    answered with CANCELLED never runs again, and one that was asked to stop ends CANCELLED, unless it succeeded.
    """
    race = Race(brokers, random.Random(5))
    await heard.of(*race.jobs)
    await store_broker.enqueue([new(f"n{n}", delay_ms=50 * (n % 3)) for n in range(JOBS)])

    async def run(step: Callable[[int], Awaitable[None]], me: int) -> None:
        while not over.is_set():
            await step(me)

    over = asyncio.Event()
    async with asyncio.TaskGroup() as racers:
        for me, step in enumerate([race.work, race.work, race.work, race.cancel, race.cancel, race.promote]):
            racers.create_task(run(step, me))
        async with asyncio.timeout(20):
            while not await race.all_ended():
                continue
        over.set()

    ended = [await store_broker.get(job) for job in race.jobs]
    for job in ended:
        assert [step.state for step in job.history if step.state.is_terminal] == [job.history[-1].state]
        told = [one for one in await heard.decoded(job.job_id) if isinstance(one, Transition)]
        assert told == list(job.history)
    by_id = {job.job_id: job.state for job in ended}
    assert {by_id[job] for job in race.cancelled} == {State.CANCELLED}
    assert race.asked_while_running
    assert {by_id[job] for job in race.asked_while_running - race.cancelled} <= {State.CANCELLED, State.SUCCEEDED}
    assert set(by_id.values()) == {State.CANCELLED, State.SUCCEEDED, State.FAILED}, "not much of a race"
