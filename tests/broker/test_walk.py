"""A random walk over all moves, beside a small model of the state machine; the audit runs after every step.

The seed is part of the test's name: a walk that fails can be walked again.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from broker.audit import audit
from broker.hearing import Hearing
from broker.moves import LEASE_OVER, WORKER, age, claim, ids, make_due, make_expired, now_ms
from broker.outcomes import OUTCOMES
from broker.state import ident, new
from broker.sweep import sweep
from headrace_broker import (
    Broker,
    Discarded,
    Enqueued,
    Failed,
    Finish,
    Finished,
    Held,
    Letter,
    Outcome,
    Priority,
    Reclaimed,
    Released,
    Renewed,
    Retried,
    Snoozed,
    State,
    Succeeded,
    Transition,
    WrongState,
)
from headrace_broker.job import HOUR, MAX_CRASHES

STEPS = 130
NAMES = [f"j{n}" for n in range(40)]
WORKERS = ("w1", "w2", "w3")
LIVE = {State.SCHEDULED, State.QUEUED, State.PROCESSING, State.RETRYING}


ALL_OUTCOMES: list[Outcome] = [outcome for outcome, _ in OUTCOMES.values()]


@dataclass(slots=True)
class Model:
    """What a job should be."""

    priority: Priority
    state: State
    version: int = 1
    attempt: int = 0
    crashes: int = 0
    token: str = ""
    old_tokens: list[str] = field(default_factory=list)
    started: bool = False
    may_expire: bool = False
    expired: bool = False
    is_off_the_list: bool = False
    """Whether `expire` has seen it running after its time."""
    cancel: bool = False
    """Whether it was asked to cancel it while it ran."""

    def to(self, state: State) -> None:
        """Makes one transition."""
        self.state = state
        self.version += 1
        if state in LIVE - {State.PROCESSING}:
            self.is_off_the_list = False


class Walk:
    """One walk: the broker, the model, and the dice."""

    def __init__(self, broker: Broker, *, seed: int, begun_ms: int) -> None:
        self.broker = broker
        self.begun_ms = begun_ms
        self.dice = random.Random(seed)
        self.jobs: dict[str, Model] = {}
        self.lines: dict[Priority, list[str]] = {priority: [] for priority in Priority}
        self.tokens = 0
        self.deleted: set[str] = set()

    def some(self, *states: State) -> list[str]:
        """Picks up to three jobs in one of these states."""
        fitting = sorted(name for name, job in self.jobs.items() if job.state in states)
        return self.dice.sample(fitting, min(len(fitting), self.dice.randint(1, 3)))

    async def enqueue(self) -> None:
        """Stores new jobs, and repeats requests of old ones."""
        names = self.dice.sample(NAMES, 3)
        expire_time_ms = self.begun_ms + 2 * HOUR
        requests = []
        for name in names:
            dice = random.Random(name)
            spec = {"priority": dice.choice(list(Priority)), "delay_ms": dice.choice([0, 0, HOUR])}
            expires = dice.random() < 0.3
            requests.append(new(name, **spec, expire_time_ms=expire_time_ms if expires else None))
        for name, request, answer in zip(names, requests, await self.broker.enqueue(requests), strict=True):
            assert isinstance(answer, Enqueued)
            assert answer.deduplicated == (name in self.jobs)
            if name not in self.jobs:
                state = State.SCHEDULED if request.spec.delay_ms else State.QUEUED
                self.jobs[name] = Model(
                    priority=request.spec.priority, state=state, may_expire=request.spec.expire_time_ms is not None
                )
                if state is State.QUEUED:
                    self.lines[request.spec.priority].append(name)
            assert (answer.state, answer.version) == (self.jobs[name].state, self.jobs[name].version)

    async def claim(self) -> None:
        """Claims as some worker; now and then the reply is lost, and the claim sent again."""
        self.tokens += 1
        token, worker, count = f"t{self.tokens}", self.dice.choice(WORKERS), self.dice.randint(0, 4)
        expected = self._claimed(count, token)
        got = ids(await claim(self.broker, count, token=token, worker=worker))
        assert got == [ident(name) for name in expected]
        if self.dice.random() < 0.3:
            again = ids(await claim(self.broker, count, token=token, worker=worker, resume=True))
            assert set(got) <= set(again)
            more = self._claimed(count - len(got), token)
            assert sorted(again) == sorted(got + [ident(name) for name in more])

    def _claimed(self, count: int, token: str) -> list[str]:
        got: list[str] = []
        for priority in Priority:
            line = self.lines[priority]
            while line and len(got) < count:
                name = line.pop(0)
                job = self.jobs[name]
                if job.state is not State.QUEUED:
                    continue
                if job.expired:
                    job.to(State.FAILED if job.started else State.EXPIRED)
                    continue
                job.to(State.PROCESSING)
                job.attempt += 1
                job.started = True
                job.old_tokens.append(job.token)
                job.token = token
                got.append(name)
        return got

    async def finish(self) -> None:
        """Finishes running jobs in all ways, with good, old and strange tokens."""
        finishes, words = [], []
        for name in self.some(*State):
            job = self.jobs[name]
            good = job.token != "" and self.dice.random() < 0.7
            token = job.token if good else self.dice.choice([*job.old_tokens, "strange"])
            good = token == job.token != ""
            outcome = self.dice.choice(ALL_OUTCOMES)
            if token == "":
                continue
            finishes.append(Finish(job_id=ident(name), token=token, outcome=outcome))
            words.append(Finished.WRITTEN if good else Finished.STALE)
            if good and job.state is State.PROCESSING:
                self._finished(name, job, outcome)
        assert await self.broker.finish(finishes) == words
        assert await self.broker.finish(finishes) == words  # law 3

    def _finished(self, name: str, job: Model, outcome: Outcome) -> None:
        if job.cancel and not isinstance(outcome, Succeeded):
            job.to(State.CANCELLED)
            return
        match outcome:
            case Succeeded():
                job.to(State.SUCCEEDED)
            case Retried():
                job.to(State.RETRYING)
            case Failed():
                job.to(State.FAILED)
            case Discarded():
                job.to(State.CANCELLED)
            case Released():
                job.attempt -= 1
                job.to(State.QUEUED)
                self.lines[Priority.HIGH].append(name)
            case Snoozed():
                job.attempt -= 1
                job.to(State.SCHEDULED)

    async def promote(self) -> None:
        """Lets some jobs come due, and promotes them."""
        names = self.some(State.SCHEDULED, State.RETRYING)
        for ago_ms, name in enumerate(reversed(names), 1):
            await make_due(self.broker, ident(name), ago_ms=1_000 * ago_ms)
        for name in names:
            job = self.jobs[name]
            if job.expired:
                job.to(State.FAILED if job.started else State.EXPIRED)
            else:
                job.to(State.QUEUED)
                self.lines[job.priority].append(name)
        assert (await self.broker.promote(shard=0, queues=["default"])).moved == len(names)

    async def renew(self) -> None:
        """Renews some leases, held and lost."""
        names = self.some(*State)
        held = [Held(job_id=ident(name), token=self.jobs[name].token) for name in names]
        running = [self.jobs[name] for name in names]
        expected = [Renewed(int(job.state is State.PROCESSING) * (1 + job.cancel)) for job in running]
        assert await self.broker.renew(worker=WORKER, held=held) == expected

    async def report(self) -> None:
        """Reports progress of some jobs."""
        for name in self.some(*State):
            job = self.jobs[name]
            expected = job.state is State.PROCESSING
            assert await self.broker.report_progress(ident(name), job.token, fraction=0.5, message=name) == expected

    async def reclaim(self) -> None:
        """Lets some leases run out, and reclaims them."""
        names = sorted(self.some(State.PROCESSING))
        for name in names:
            await age(self.broker, ident(name), LEASE_OVER)
        order = []
        for priority in Priority:
            key = self.broker.shard(0).ready("default", priority)
            order += [fields[b"j"].decode() for _, fields in await self.broker.redis.xrange(key)]
        done = await self.broker.reclaim(shard=0, queues=["default"])
        dead = cancelled = 0
        for name in sorted(names, key=lambda name: order.index(ident(name))):
            job = self.jobs[name]
            job.old_tokens.append(job.token)
            job.token = ""
            if job.cancel:
                cancelled += 1
                job.to(State.CANCELLED)
                continue
            job.crashes += 1
            job.attempt -= 1
            if job.crashes > MAX_CRASHES:
                dead += 1
                job.to(State.FAILED)
            elif job.crashes > 1:
                job.to(State.SCHEDULED)
            else:
                job.to(State.QUEUED)
                self.lines[Priority.HIGH].append(name)
        assert done == Reclaimed(requeued=len(names) - dead - cancelled, dead=dead)

    async def cancel(self) -> None:
        """Cancels jobs in all states, some of them twice."""
        for name in self.some(*State):
            job = self.jobs[name]
            if job.state in LIVE - {State.PROCESSING}:
                job.to(State.CANCELLED)
            job.cancel |= job.state is State.PROCESSING
            if job.state.is_terminal and job.state is not State.CANCELLED:
                with pytest.raises(WrongState):
                    await self.broker.cancel(ident(name))
            else:
                assert (await self.broker.cancel(ident(name))).version == job.version

    async def expire(self) -> None:
        """Lets the time of some jobs pass; half of the time their end is left to claim and promote."""
        for name in self.some(*LIVE):
            job = self.jobs[name]
            if job.may_expire and not job.expired:
                job.expired = True
                await make_expired(self.broker, ident(name))
        if self.dice.random() < 0.5:
            await self.broker.expire(shard=0, queues=["default"])
            for job in self.jobs.values():
                self._expire(job)

    def _expire(self, job: Model) -> None:
        if not job.expired or job.is_off_the_list:
            return
        if job.state is State.PROCESSING:
            job.is_off_the_list = True  # until it comes back to wait
        elif job.state in LIVE:
            job.to(State.FAILED if job.started else State.EXPIRED)

    async def requeue(self) -> None:
        """Requeues some jobs by name, dead or not, some of them in a version that they had before."""
        letters, expected = [], []
        for name in self.some(*State):
            job = self.jobs[name]
            version = job.version - self.dice.choice([0, 0, 1])
            letters.append(Letter(job_id=ident(name), version=version))
            expected.append(job.state is State.FAILED and version == job.version)
            if expected[-1]:
                job.attempt = job.crashes = 0
                job.old_tokens.append(job.token)
                job.token = ""
                if job.expired:
                    job.expired = job.may_expire = job.is_off_the_list = False
                job.to(State.QUEUED)
                self.lines[job.priority].append(name)
        assert await self.broker.requeue(letters) == expected

    async def delete(self) -> None:
        """Deletes a job; the same request makes a new one later, under the same id."""
        for name in self.some(*State)[:1]:
            if self.jobs[name].state is State.PROCESSING:
                with pytest.raises(WrongState):
                    await self.broker.delete(ident(name))
                return
            await self.broker.delete(ident(name))
            del self.jobs[name]
            for line in self.lines.values():
                line[:] = [queued for queued in line if queued != name]
            self.deleted.add(name)

    async def compare(self) -> None:
        """Holds every record against the model, and what was published against the records."""
        for name, model in self.jobs.items():
            job = await self.broker.get(ident(name))
            assert (job.state, job.version, job.attempt, job.crashes, job.token) == (
                model.state, model.version, model.attempt, model.crashes, model.token,
            ), name  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
async def test_a_walk(store_broker: Broker, heard: Hearing, seed: int) -> None:
    """After each of some hundred random moves every job is where the model says, and all invariants hold: allowed
    transitions, counted attempts, versions and times that go forward, each job in one place, true counters, nothing
    to repair. At the end, what was published of each job is its history.
    """
    walk = Walk(store_broker, seed=seed, begun_ms=await now_ms(store_broker))
    await heard.of(*(ident(name) for name in NAMES))
    moves: list[Callable[[], Awaitable[None]]] = [
        walk.enqueue, walk.claim, walk.claim, walk.finish, walk.finish, walk.promote, walk.renew, walk.report,
        walk.reclaim, walk.expire, walk.cancel,
        walk.requeue, walk.delete,
    ]  # fmt: skip
    for _ in range(STEPS):
        await walk.dice.choice(moves)()
        await walk.compare()
        await audit(store_broker)
        assert await sweep(store_broker, recount=True) == {}
    for name in walk.jobs.keys() - walk.deleted:
        job = await store_broker.get(ident(name))
        published = [event for event in await heard.decoded(ident(name)) if isinstance(event, Transition)]
        assert published == list(job.history)
