"""The whole state of a namespace as a dict that a test can spell out, and the pieces such a dict is made of.

Keys appear without their hash tag. Times that are plausible appear as TIME, so that a dict says nothing of when.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headrace_broker import Broker, JobSpec, NewJob
from headrace_broker.job import DAY
from headrace_broker.keys import GROUP, job_id

TIME = "<time>"
DIGEST = "<digest>"
HERE = "here"
"""Where a record's `entry` is, when its stream holds it, for this job; else GONE."""
GONE = "gone"

State = dict[str, Any]

_TIMES = frozenset({"created", "started", "finished", "due", "errored", "expires", "seen", "hold"})
_YEARS_AHEAD_MS = 2 * 365 * DAY


class Dump:
    """`await dump()`: everything that a broker's namespace holds now; see the module for how it reads.

    Hashes are {field: text}, with `spec`, `error` and `info` as JSON values, `history` as lines without their time,
    `ttl: True` where the key expires. Sorted sets are lists of members; one with a score that is no plausible time is
    shown with it. Streams are {entries: job ids, pending: {consumer: job ids}, groups}. Rates are left out, for they
    depend on the second; test_stats.py has them.
    """

    def __init__(self, broker: Broker, *, since_ms: int) -> None:
        self._broker = broker
        self._redis = broker.redis
        self._since_ms = since_ms
        self._entries: dict[tuple[str, str], str] = {}

    async def __call__(self, shard: int = 0) -> State:
        """Reads one shard."""
        tag = self._broker.shard(shard).tag
        kinds = {key: (await self._redis.type(key)).decode() for key in await all_keys(self._broker, shard)}
        kinds = {key: kind for key, kind in kinds.items() if not key.startswith(f"{tag}rates:")}
        self._entries = {}
        streams = {key: await self._stream(key) for key, kind in kinds.items() if kind == "stream"}
        values = {key: streams.get(key) or await self._value(key, kind) for key, kind in kinds.items()}
        return {key.removeprefix(tag): value for key, value in sorted(values.items())}

    async def _value(self, key: str, kind: str) -> Any:
        match kind:
            case "hash":
                return await self._hash(key)
            case "zset":
                found = await self._redis.zrange(key, 0, -1, withscores=True)
                return [self._member(member.decode(), int(score)) for member, score in found]
            case "set":
                return sorted(member.decode() for member in await self._redis.smembers(key))
            case "list":  # what `corrupt` leaves
                return [value.decode() for value in await self._redis.lrange(key, 0, -1)]
            case _:
                return (await self._redis.get(key)).decode()

    async def _stream(self, key: str) -> State:
        entries = {entry.decode(): fields[b"j"].decode() for entry, fields in await self._redis.xrange(key)}
        self._entries |= {(key, entry): job for entry, job in entries.items()}
        groups = [group["name"].decode() for group in await self._redis.xinfo_groups(key)]
        pending: dict[str, list[str]] = {}
        if GROUP in groups:
            for found in await self._redis.xpending_range(key, GROUP, "-", "+", 10_000):
                jobs = pending.setdefault(found["consumer"].decode(), [])
                jobs.append(entries.get(found["message_id"].decode(), GONE))
        return {"entries": list(entries.values()), "pending": pending, "groups": groups}

    async def _hash(self, key: str) -> State:
        found = await self._redis.hgetall(key)
        queue = found.get(b"queue", b"").decode()
        values = {name.decode(): self._field(key, queue, name.decode(), value) for name, value in found.items()}
        return values | ({"ttl": True} if await self._redis.pttl(key) > 0 else {})

    def _field(self, key: str, queue: str, name: str, value: bytes) -> Any:
        if name == "digest":
            return DIGEST if len(value) == 8 else value
        text = value.decode(errors="backslashreplace")
        if name in _TIMES:
            return TIME if self._is_plausible(int(text)) else text
        match name:
            case "spec" | "error" | "info":
                return json.loads(text)
            case "history":
                return [_without_time(line) for line in text.split("\n")]
            case "progress":
                time, rest = text.split("|", 1)
                return f"{TIME if self._is_plausible(int(time)) else time}|{rest}"
            case "entry":
                return self._place(key, queue, text)
            case _:
                return text

    def _place(self, key: str, queue: str, text: str) -> str:
        priority, entry = text.split(" ")
        tag, job = key.split("job:")
        return f"{priority} {HERE if self._entries.get((f'{tag}ready:{queue}:{priority}', entry)) == job else GONE}"

    def _member(self, member: str, score: int) -> Any:
        return member if self._is_plausible(score) else (member, score)

    def _is_plausible(self, time_ms: int) -> bool:
        return self._since_ms <= time_ms <= self._since_ms + _YEARS_AHEAD_MS


def _without_time(line: str) -> str:
    """'p17,1,,w1' → 'p 1 - w1'."""
    _, *rest = line[1:].split(",", 3)
    return " ".join([line[0], *(word or "-" for word in rest)])


async def all_keys(broker: Broker, shard: int = 0) -> list[str]:
    """Reads the names of all keys of a shard of a broker's namespace, sorted."""
    return sorted(key.decode() for key in await broker.redis.keys(f"{broker.shard(shard).tag}*"))


async def wipe(broker: Broker) -> None:
    """Deletes all that a namespace holds."""
    for shard in range(broker.shards):
        if found := await all_keys(broker, shard):
            await broker.redis.unlink(*found)


# --- what an expected state is made of


def ident(name: str, *, shards: int = 1) -> str:
    """Returns the id of the job that was stored under a request_id."""
    return job_id(name, shards=shards)


A, B, C, D = (ident(name) for name in "abcd")


def new(name: str = "", **spec: Any) -> NewJob:
    """Returns a request for a small job, `name` being its request_id."""
    return NewJob(request_id=name, spec=JobSpec(**({"type": "t", "payload": b"p"} | spec)))


def record(state: str, *history: str, **fields: Any) -> State:
    """Returns the record of a job made by `new(…)` that went through `history`; a field of None is left out."""
    common = {
        "state": state,
        "version": str(len(history)),
        "queue": "default",
        "created": TIME,
        "spec": {"type": "t"},
        "payload": "p",
        "retention": str(DAY),
        "digest": DIGEST,
        "history": list(history),
    }
    if state == "QUEUED":
        common["entry"] = f"{fields.get('priority') or 'normal'} {HERE}"
    return {name: value for name, value in (common | fields).items() if value is not None}


def claimed(entry: str = f"normal {HERE}", *, attempt: int = 1, token: str = "t1", worker: str = "w1") -> State:
    """Returns the fields that a claim leaves in a record."""
    return {
        "attempt": str(attempt),
        "token": token,
        "worker": worker,
        "entry": entry,
        "lease": "30000",
        "started": TIME,
    }


def streams(
    queue: str = "default", *, pending: Mapping[str, Mapping[str, list[str]]] | None = None, **entries: Sequence[str]
) -> State:
    """Returns the three streams of a queue: `streams(normal=[A], pending={"normal": {"w1": [A]}})`."""
    return {
        f"ready:{queue}:{priority}": {
            "entries": list(entries.get(priority, ())),
            "pending": dict((pending or {}).get(priority, {})),
            "groups": [GROUP],
        }
        for priority in ("high", "normal", "low")
    }


def known(*queues: str) -> State:
    """Returns the set of known queues; only `default` where none is named."""
    return {"queues": sorted(queues or ("default",))}


def counted(queue: str = "default", **states: int) -> State:
    """Returns the counters of a queue."""
    return {f"queue:{queue}": {state: str(count) for state, count in states.items()}}
