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
        like(shard.rates("QUEUE")): "hash",
        like(shard.job("ID")): "hash",
        **{like(shard.ready("QUEUE", priority)): "stream" for priority in Priority},
        like(shard.due("QUEUE")): "zset",
        like(shard.expiring("QUEUE")): "zset",
        like(shard.dead("QUEUE")): "zset",
        like(shard.workers()): "zset",
        like(shard.worker("WORKER")): "hash",
        like(shard.pulse()): "hash",
        like(shard.repairs()): "hash",
        like(shard.secret()): "string",
    }


async def audit(broker: Broker) -> None:
    """Raises AssertionError that names the first thing found wrong."""
    for number in range(broker.shards):
        shard = broker.shard(number)
        found = await all_keys(broker, number)
        await _check_keys(broker, shard, found)
        records = await _read(broker, shard, [key for key in found if key.startswith(shard.job(""))])
        places = await _find_places(broker, shard, found)
        for record in records:
            _check_history(record.job)
            _check_place(record, places)
        await _check_counters(broker, shard, [record.job for record in records])


@dataclass(frozen=True, slots=True)
class _Record:
    job: Job
    entry: str
    lives_on: bool


async def _read(broker: Broker, shard: Shard, found: list[str]) -> list[_Record]:
    async with broker.redis.pipeline(transaction=False) as pipeline:
        for key in found:
            pipeline.hgetall(key)
            pipeline.pttl(key)
        answers = await pipeline.execute()
    records = []
    for key, packed, ttl in zip(found, answers[::2], answers[1::2], strict=True):
        if packed:  # else it has expired meanwhile
            fields = {name.decode(): value for name, value in packed.items()}
            job = decode_job(key.removeprefix(shard.job("")), fields)
            records.append(_Record(job, fields.get("entry", b"").decode(), ttl == -1))
    return records


async def _check_keys(broker: Broker, shard: Shard, found: list[str]) -> None:
    allowed = patterns(shard)
    async with broker.redis.pipeline(transaction=False) as pipeline:
        for key in found:
            pipeline.type(key)
        types = [kind.decode() for kind in await pipeline.execute()]
    for key, kind in zip(found, types, strict=True):
        kinds = [allowed[pattern] for pattern in allowed if re.fullmatch(pattern, key)]
        assert kinds == [kind] or kind == "none", f"{key} ({kind}) is none of the keys of keys.py"


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
        since = max((n for n, step in enumerate(steps) if step.reason == "REQUEUED"), default=0)
        reasons = Counter(step.reason for step in steps[since:])
        starts = sum(step.state is State.PROCESSING for step in steps[since:])
        assert job.attempt == starts - sum(reasons[reason] for reason in _GIVEN_BACK)
        assert job.crashes == reasons["LEASE_LOST"] + reasons["CRASH_LOOP"] <= MAX_CRASHES + 1
        assert steps[0].time_ms == job.create_time_ms


def _check_place(record: _Record, places: _Places) -> None:
    job, what = record.job, f"{record.job.job_id} ({record.job.state})"
    entries = places.entries.get(job.job_id, [])
    assert (job.job_id in places.due) == (job.state in _WAITING_FOR_TIME), f"{what}: on the schedule, or not"
    assert (job.job_id in places.dead) == (job.state is State.FAILED), f"{what}: dead letter, or not"
    if job.job_id in places.due:
        assert places.due[job.job_id] == job.due_time_ms
    if job.state is State.QUEUED:  # any other entry is a tombstone of a time before a requeue, a delete, an update
        assert record.entry in entries, f"{what}: queued as {record.entry}, has {entries}"
    elif job.state is State.PROCESSING:
        assert record.entry in entries, f"{what}: claimed as {record.entry}, has {entries}"
        assert record.entry in places.pending, f"{what}: its entry is not pending"
        assert job.token
        assert job.worker
    lives_on = job.state in _LIVE or job.state is State.FAILED
    assert record.lives_on == lives_on, f"{what}: expires, or not"


async def _check_counters(broker: Broker, shard: Shard, jobs: Iterable[Job]) -> None:
    live: dict[str, Counter[str]] = defaultdict(Counter)
    for job in jobs:
        live[job.spec.queue][job.state] += 1
    for queue in {name.decode() for name in await broker.redis.smembers(shard.queues())} | set(live):
        fields = {k.decode(): v for k, v in (await broker.redis.hgetall(shard.queue(queue))).items()}
        kept = {state: int(fields[state]) for state in State if state in fields}
        assert min(kept.values(), default=0) >= 0, f"{queue}: {kept}"
        for state in _LIVE:
            assert kept.get(state, 0) == live[queue][state], f"{queue}: {kept}, but there are {dict(live[queue])}"
        for state in set(State) - _LIVE:  # these count all that ever ended so
            assert kept.get(state, 0) >= live[queue][state], f"{queue}: {kept}, but there are {dict(live[queue])}"
