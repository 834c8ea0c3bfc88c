"""What is in the store: each job in one place (I14), no rests (I15), known keys (I16), all safe from a crash (I17)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from chaos.checker.history import TERMINAL, History, Record, Store
from chaos.checker.verdict import Violation

_TIMED = {"SCHEDULED", "RETRYING"}
_NAME = r"[A-Za-z0-9_.-]{1,128}"
_TAG = r"\{[A-Za-z0-9_.-]+:\d+\}:"
_KEYS = {
    rf"{_TAG}queues": ("set", False),
    rf"{_TAG}queue:{_NAME}": ("hash", False),
    rf"{_TAG}ready:{_NAME}:(high|normal|low)": ("stream", False),
    rf"{_TAG}(due|expiring|dead):{_NAME}": ("zset", False),
    rf"{_TAG}workers": ("zset", False),
    rf"{_TAG}worker:.+": ("hash", True),
    rf"{_TAG}rates:{_NAME}": ("hash", True),
    rf"{_TAG}pulse": ("hash", False),
    rf"{_TAG}repairs": ("hash", False),
    rf"{_TAG}secret": ("string", False),
}
"""Every key that may be there beside records: its type, and whether it expires by itself."""


def one_place(history: History) -> Iterator[Violation]:
    """I14: a job is on the schedule, in a stream, among the dead letters, or nowhere, as its state says."""
    store = history.store
    entries: dict[str, list[str]] = defaultdict(list)
    for entry in store.entries:
        entries[entry.job_id].append(f"{entry.priority} {entry.entry}")
    for record in store.records.values():
        yield from _place(record, store, entries[record.job_id])
    for job_id in {*store.due, *store.dead, *store.expiring, *entries} - set(store.records):
        yield Violation("I14", job_id, "is in an index or a stream, and has no record")
    for lost in store.lost_pending:
        yield Violation("I14", "", f"pending entry {lost} is not in its stream any more")
    yield from _counters(store)


def _place(record: Record, store: Store, entries: list[str]) -> Iterator[Violation]:
    timed, dead = record.job_id in store.due, record.job_id in store.dead
    if timed != (record.state in _TIMED):
        yield Violation("I14", record.job_id, f"{record.state}, and {'' if timed else 'not '}on the schedule")
    if dead != (record.state == "FAILED"):
        yield Violation("I14", record.job_id, f"{record.state}, and {'' if dead else 'not '}among the dead letters")
    if timed and store.due[record.job_id] != record.due_ms:
        yield Violation("I14", record.job_id, f"due at {record.due_ms}, on the schedule at {store.due[record.job_id]}")
    if record.job_id in store.expiring and record.state in TERMINAL:
        yield Violation("I14", record.job_id, f"{record.state}, and still to expire")
    if record.state == "QUEUED" and record.entry not in entries:
        yield Violation("I14", record.job_id, f"QUEUED as {record.entry}, which is not in a stream")
    if record.state == "PROCESSING" and record.entry not in entries:
        yield Violation("I14", record.job_id, f"PROCESSING as {record.entry}, which is not in a stream")


def _counters(store: Store) -> Iterator[Violation]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for record in store.records.values():
        found[record.queue][record.state] += 1
    for queue in {*store.counters, *found}:
        kept = store.counters.get(queue, {})
        wrong = {
            state: (kept.get(state, 0), found[queue][state])
            for state in {*kept, *found[queue]}
            if kept.get(state, 0) != found[queue][state]
        }
        if wrong:
            yield Violation("I14", "", f"counters of queue {queue} are off (kept, found): {wrong}")


def no_rests(history: History) -> Iterator[Violation]:
    """I15: when every job has ended, streams and schedules are empty, and nothing is pending."""
    store = history.store
    if any(record.state not in TERMINAL for record in store.records.values()):
        return
    for entry in store.entries:
        held = f", pending for {entry.consumer}" if entry.consumer else ""
        yield Violation("I15", entry.job_id, f"entry {entry.entry} is left in {entry.queue}:{entry.priority}{held}")
    for job_id in {*store.due, *store.expiring}:
        yield Violation("I15", job_id, "is left on a schedule")


def known_keys(history: History) -> Iterator[Violation]:
    """I16: every key is one of keys.py and of its type; records and workers' entries expire, nothing else does."""
    for name, key in history.store.keys.items():
        kinds = [kind for pattern, kind in _KEYS.items() if re.fullmatch(pattern, name)]
        if not kinds:
            yield Violation("I16", "", f"orphan key {name} ({key.type})")
        elif kinds[0] != (key.type, key.ttl_ms >= 0):
            yield Violation("I16", "", f"{name} is a {key.type} with a TTL of {key.ttl_ms} ms")
    for record in history.store.records.values():
        expires = record.state in TERMINAL and record.state != "FAILED"
        if (record.ttl_ms >= 0) != expires:
            yield Violation("I16", record.job_id, f"{record.state} with a TTL of {record.ttl_ms} ms")


def survives_a_crash(history: History) -> Iterator[Violation]:
    """I17: after kill -9 of the store and a restart, every record and every index is what it was."""
    before, after = history.store, history.reloaded
    if after is None:
        return
    for job_id in {*before.records, *after.records}:
        was, now = before.records.get(job_id), after.records.get(job_id)
        if was is None or now is None or _facts(was) != _facts(now):
            yield Violation("I17", job_id, f"was {was and was.state} before the store's crash, is {now and now.state}")
    for name in ("entries", "due", "dead", "expiring", "counters"):
        if getattr(before, name) != getattr(after, name):
            yield Violation("I17", "", f"{name} differ after the store's crash")


def _facts(record: Record) -> tuple[object, ...]:
    return (record.state, record.version, record.attempt, record.crashes, record.token, record.steps, record.result)
