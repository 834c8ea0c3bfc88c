"""What must hold of a namespace between any two calls, whatever happened before: checked after every test of this room.

The checks are the invariants I8 (only allowed transitions), I9 (attempts and crashes are counted right), I10 (versions
and times go forward), I14 (every job is in exactly one place, and the counters agree) and I16 (no unknown keys).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from broker.state import all_keys
from headrace_broker import Broker
from headrace_broker.job import MAX_CRASHES, Job, Priority, State
from headrace_broker.keys import GROUP, Shard
from headrace_broker.record import decode_job

_WAITING_FOR_TIME = {State.SCHEDULED, State.RETRYING}
_LIVE = {State.SCHEDULED, State.QUEUED, State.PROCESSING, State.RETRYING}
_GIVEN_BACK = {"RELEASED", "SNOOZED", "LEASE_LOST", "CRASH_LOOP"}
_EDGES = {
    State.SCHEDULED: {State.QUEUED, State.EXPIRED, State.FAILED, State.CANCELLED},
    State.QUEUED: {State.PROCESSING, State.EXPIRED, State.FAILED, State.CANCELLED},
    State.PROCESSING: {
        State.QUEUED, State.RETRYING, State.SCHEDULED, State.SUCCEEDED, State.FAILED, State.CANCELLED,
    },
    State.RETRYING: {State.QUEUED, State.FAILED, State.CANCELLED},
    State.FAILED: {State.QUEUED},
    State.SUCCEEDED: set(),
    State.CANCELLED: set(),
    State.EXPIRED: set(),
}  # fmt: skip
_NAME = r"[A-Za-z0-9_.-]{1,128}"


@dataclass(slots=True)
class _Places:
    """Where the jobs of a shard were found."""

    due: dict[str, int] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    entries: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pending: set[str] = field(default_factory=set)


def patterns(shard: Shard) -> dict[str, str]:
    """Returns what keys.py allows: regular expression → type."""

    def like(key: str) -> str:
        return re.escape(key).replace("QUEUE", _NAME).replace("ID", "[0-9A-HJKMNP-TV-Z]{26}").replace("WORKER", ".+")

    return {
        like(shard.queues()): "set",
        like(shard.queue("QUEUE")): "hash",
        like(shard.job("ID")): "hash",
        **{like(shard.ready("QUEUE", priority)): "stream" for priority in Priority},
        like(shard.due("QUEUE")): "zset",
        like(shard.expiring("QUEUE")): "zset",
        like(shard.dead("QUEUE")): "zset",
        like(shard.workers()): "zset",
        like(shard.worker("WORKER")): "hash",
        like(shard.pulse()): "hash",
        like(shard.secret()): "string",
    }


async def audit(broker: Broker) -> None:
    """Raises AssertionError that names the first thing found wrong."""
    for number in range(broker.shards):
        shard = broker.shard(number)
        found = await all_keys(broker, number)
        await _check_keys(broker, shard, found)
        prefix = shard.job("")
        jobs = {key.removeprefix(prefix): await _read(broker, key) for key in found if key.startswith(prefix)}
        places = await _find_places(broker, shard, found)
        for job_id, job in jobs.items():
            _check_history(job)
            await _check_place(broker, shard, job_id, job, places)
        await _check_counters(broker, shard, jobs.values())


async def _read(broker: Broker, key: str) -> Job:
    fields = await broker.redis.hgetall(key)
    return decode_job(key[-26:], {name.decode(): value for name, value in fields.items()})


async def _check_keys(broker: Broker, shard: Shard, found: list[str]) -> None:
    allowed = patterns(shard)
    for key in found:
        kinds = [kind for pattern, kind in allowed.items() if re.fullmatch(pattern, key)]
        assert kinds == [(await broker.redis.type(key)).decode()], f"{key} is none of the keys of keys.py"


async def _find_places(broker: Broker, shard: Shard, found: list[str]) -> _Places:
    places = _Places()
    for key in found:
        name = key.removeprefix(shard.tag)
        if name.startswith("due:"):
            places.due |= {m.decode(): int(s) for m, s in await broker.redis.zrange(key, 0, -1, withscores=True)}
        elif name.startswith("dead:"):
            places.dead |= {member.decode() for member in await broker.redis.zrange(key, 0, -1)}
        elif name.startswith("ready:"):
            await _find_entries(broker, key, name.rsplit(":", 1)[1], places)
    return places


async def _find_entries(broker: Broker, key: str, priority: str, places: _Places) -> None:
    entries = {entry.decode(): fields[b"j"].decode() for entry, fields in await broker.redis.xrange(key)}
    for entry, job in entries.items():
        places.entries[job].append(f"{priority} {entry}")
    for group in await broker.redis.xinfo_groups(key):
        assert group["name"].decode() == GROUP
        for pending in await broker.redis.xpending_range(key, GROUP, "-", "+", 10_000):
            entry = pending["message_id"].decode()
            assert entry in entries, f"{key}: pending entry {entry} has left its stream"
            places.pending.add(f"{priority} {entry}")


def _check_history(job: Job) -> None:
    steps = job.history
    assert steps[-1].version == job.version, f"{job.job_id}: history ends at {steps[-1].version}, not {job.version}"
    assert steps[-1].state is job.state
    assert [step.time_ms for step in steps] == sorted(step.time_ms for step in steps)
    for before, after in pairwise(steps):
        assert after.state in _EDGES[before.state], f"{job.job_id}: {before.state} → {after.state}"
    if steps[0].version == 1:
        assert steps[0].state in {State.SCHEDULED, State.QUEUED}
        reasons = Counter(step.reason for step in steps)
        starts = sum(step.state is State.PROCESSING for step in steps)
        assert job.attempt == starts - sum(reasons[reason] for reason in _GIVEN_BACK)
        assert job.crashes == reasons["LEASE_LOST"] + reasons["CRASH_LOOP"] <= MAX_CRASHES + 1
        assert steps[0].time_ms == job.create_time_ms


async def _check_place(broker: Broker, shard: Shard, job_id: str, job: Job, places: _Places) -> None:
    entries, what = places.entries.get(job_id, []), f"{job_id} ({job.state})"
    assert (job_id in places.due) == (job.state in _WAITING_FOR_TIME), f"{what}: on the schedule, or not"
    assert (job_id in places.dead) == (job.state is State.FAILED), f"{what}: dead letter, or not"
    if job_id in places.due:
        assert places.due[job_id] == job.due_time_ms
    if job.state is State.QUEUED:
        assert len(entries) == 1, f"{what}: {len(entries)} entries"
    elif job.state is State.PROCESSING:
        entry = (await broker.redis.hget(shard.job(job_id), "entry")).decode()
        assert entries == [entry], f"{what}: claimed as {entry}, has {entries}"
        assert entry in places.pending, f"{what}: its entry is not pending"
        assert job.token
        assert job.worker
    elif job.state in _WAITING_FOR_TIME:
        assert not entries, f"{what}: has entries {entries}"
    lives_on = job.state in _LIVE or job.state is State.FAILED
    assert (await broker.redis.pttl(shard.job(job_id)) == -1) == lives_on, f"{what}: expires, or not"


async def _check_counters(broker: Broker, shard: Shard, jobs: Iterable[Job]) -> None:
    live: dict[str, Counter[str]] = defaultdict(Counter)
    for job in jobs:
        live[job.spec.queue][job.state] += 1
    for queue in {name.decode() for name in await broker.redis.smembers(shard.queues())} | set(live):
        kept = {k.decode(): int(v) for k, v in (await broker.redis.hgetall(shard.queue(queue))).items()}
        assert min(kept.values(), default=0) >= 0, f"{queue}: {kept}"
        for state in _LIVE:
            assert kept.get(state, 0) == live[queue][state], f"{queue}: {kept}, but there are {dict(live[queue])}"
        for state in set(State) - _LIVE:  # these count all that ever ended so
            assert kept.get(state, 0) >= live[queue][state], f"{queue}: {kept}, but there are {dict(live[queue])}"
