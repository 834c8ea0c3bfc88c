"""Reads everything that is in the store, as the checker takes it."""

from __future__ import annotations

import json
from typing import Any

from headrace_broker import Broker, Job
from headrace_broker.keys import GROUP, Shard
from headrace_broker.record import decode_job

PAGE = 500


async def scan(broker: Broker) -> dict[str, Any]:
    """Returns the contents of all shards. Not one moment's picture: call it when nothing moves."""
    found: dict[str, Any] = {"records": [], "keys": {}, "entries": [], "lost_pending": []}
    found |= {"due": {}, "dead": {}, "expiring": {}, "counters": {}}
    for number in range(broker.shards):
        await _scan_shard(broker, broker.shard(number), found)
    found["records"].sort(key=lambda record: record["job_id"])
    return found


async def unfinished(broker: Broker) -> int:
    """Returns how many jobs have not ended, by the counters."""
    total = 0
    for number in range(broker.shards):
        for queue in await broker.queue_names(number):
            counters = await broker.redis.hgetall(broker.shard(number).queue(queue))
            waiting = (b"SCHEDULED", b"QUEUED", b"PROCESSING", b"RETRYING")
            total += sum(int(counters.get(state, 0)) for state in waiting)
    return total


async def _scan_shard(broker: Broker, shard: Shard, found: dict[str, Any]) -> None:
    names = [key.decode() async for key in broker.redis.scan_iter(match=f"{_plain(shard.tag)}*", count=1_000)]
    names = sorted(set(names))
    jobs = [name for name in names if name.startswith(shard.job(""))]
    for start in range(0, len(jobs), PAGE):
        await _read_records(broker, shard, jobs[start : start + PAGE], found["records"])
    for name in names:
        if name.startswith(shard.job("")):
            continue
        kind, ttl = (await broker.redis.type(name)).decode(), await broker.redis.pttl(name)
        found["keys"][name] = {"type": kind, "ttl_ms": ttl}
        await _read_index(broker, name, name.removeprefix(shard.tag), found)


def _plain(text: str) -> str:
    return text.replace("[", r"\[").replace("*", r"\*")


async def _read_records(broker: Broker, shard: Shard, names: list[str], into: list[dict[str, Any]]) -> None:
    async with broker.redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hgetall(name)
            pipeline.pttl(name)
        answers = await pipeline.execute()
    for name, packed, ttl in zip(names, answers[::2], answers[1::2], strict=True):
        if packed:
            fields = {field.decode(): value for field, value in packed.items()}
            job = decode_job(name.removeprefix(shard.job("")), fields)
            into.append(_record(job, entry=fields.get("entry", b"").decode(), ttl=ttl))


def _record(job: Job, *, entry: str, ttl: int) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "type": job.spec.type,
        "queue": job.spec.queue,
        "priority": job.spec.priority.value,
        "labels": dict(job.spec.labels),
        "state": job.state.value,
        "version": job.version,
        "created_ms": job.create_time_ms,
        "attempt": job.attempt,
        "crashes": job.crashes,
        "max_attempts": job.spec.retry.max_attempts,
        "token": job.token,
        "steps": [
            {
                "version": step.version,
                "state": step.state.value,
                "at_ms": step.time_ms,
                "attempt": step.attempt,
                "reason": step.reason,
                "detail": step.detail,
            }
            for step in job.history
        ],
        "due_ms": job.due_time_ms,
        "finished_ms": job.finish_time_ms,
        "expires_ms": job.spec.expire_time_ms,
        "failure": job.failure.reason if job.failure else "",
        "result": json.loads(job.result) if job.result else None,
        "entry": entry,
        "ttl_ms": ttl,
    }


async def _read_index(broker: Broker, key: str, name: str, found: dict[str, Any]) -> None:
    kind, _, queue = name.partition(":")
    if kind in {"due", "dead", "expiring"}:
        members = await broker.redis.zrange(key, 0, -1, withscores=True)
        found[kind] |= {member.decode(): int(score) for member, score in members}
    elif kind == "queue":
        counters = await broker.redis.hgetall(key)
        found["counters"][queue] = {state.decode(): int(count) for state, count in counters.items()}
    elif kind == "ready":
        await _read_stream(broker, key, queue, found)


async def _read_stream(broker: Broker, key: str, name: str, found: dict[str, Any]) -> None:
    queue, _, priority = name.rpartition(":")
    owners: dict[str, str] = {}
    for group in await broker.redis.xinfo_groups(key):
        if group["name"].decode() == GROUP:
            pending = await broker.redis.xpending_range(key, GROUP, "-", "+", 100_000)
            owners = {one["message_id"].decode(): one["consumer"].decode() for one in pending}
    entries = {entry.decode(): fields[b"j"].decode() for entry, fields in await broker.redis.xrange(key)}
    for entry, job_id in entries.items():
        consumer = owners.get(entry, "")
        where = {"queue": queue, "priority": priority, "entry": entry}
        found["entries"].append({**where, "job_id": job_id, "consumer": consumer})
    found["lost_pending"] += [f"{name} {entry}" for entry in owners if entry not in entries]
