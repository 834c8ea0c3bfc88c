"""What a record tells of its job: states (I8), attempts (I9), versions and times (I10), due times (I12, I13, I20)."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from chaos.checker.history import TERMINAL, History, Record
from chaos.checker.verdict import Violation

_EDGES = {
    "SCHEDULED": {"QUEUED", "EXPIRED", "FAILED", "CANCELLED"},
    "QUEUED": {"PROCESSING", "EXPIRED", "FAILED", "CANCELLED"},
    "PROCESSING": {"QUEUED", "RETRYING", "SCHEDULED", "SUCCEEDED", "FAILED", "CANCELLED"},
    "RETRYING": {"QUEUED", "FAILED", "CANCELLED"},
    "FAILED": {"QUEUED"},
}
"""docs/states.md; no way leads out of the states that are not here."""
OVERTAKEN_MS = 1_000
"""How much earlier one that came later may be claimed: each worker reads for itself, and in batches."""
_GIVEN_BACK = {"RELEASED", "SNOOZED", "LEASE_LOST", "CRASH_LOOP"}


def allowed_states(history: History) -> Iterator[Violation]:
    """I8: every stored transition is one of the state machine's, and a terminal state is the last."""
    for record in history.store.records.values():
        if record.steps[0].version == 1 and record.steps[0].state not in {"SCHEDULED", "QUEUED"}:
            yield Violation("I8", record.job_id, f"its life began as {record.steps[0].state}")
        if record.steps[-1].state != record.state:
            yield Violation("I8", record.job_id, f"is {record.state}, but its history ends as {record.steps[-1].state}")
        crashes = 0
        for before, after in pairwise(record.steps):
            crashes = 0 if after.reason == "REQUEUED" else crashes + (after.reason in {"LEASE_LOST", "CRASH_LOOP"})
            if after.state not in _EDGES.get(before.state, set()) or (
                before.state == "FAILED" and after.reason != "REQUEUED"
            ):
                yield Violation("I8", record.job_id, f"went from {before.state} to {after.state}")
            elif after.reason == "LEASE_LOST" and after.state != ("QUEUED" if crashes == 1 else "SCHEDULED"):
                yield Violation("I8", record.job_id, f"was {after.state} after lost lease number {crashes}")


def attempts_counted(history: History) -> Iterator[Violation]:
    """I9: an attempt is +1 at each claim, given back where it did not count; crashes apart; both within limits."""
    for record in history.store.records.values():
        if record.steps[0].version == 1:
            yield from _attempts(record, max_crashes=history.settings.max_crashes)


def _attempts(record: Record, *, max_crashes: int) -> Iterator[Violation]:
    requeued = max((n for n, step in enumerate(record.steps) if step.reason == "REQUEUED"), default=0)
    life = record.steps[requeued:]  # since when attempts and crashes are counted
    reasons = Counter(step.reason for step in life)
    claims = sum(step.state == "PROCESSING" for step in life)
    counted = claims - sum(reasons[reason] for reason in _GIVEN_BACK)
    if record.attempt != counted:
        yield Violation("I9", record.job_id, f"attempt is {record.attempt}; its history makes it {counted}")
    if record.attempt > record.max_attempts:
        yield Violation("I9", record.job_id, f"attempt {record.attempt} of {record.max_attempts}")
    crashes = reasons["LEASE_LOST"] + reasons["CRASH_LOOP"]
    if record.crashes != crashes:
        yield Violation("I9", record.job_id, f"crashes is {record.crashes}; its history makes it {crashes}")
    if reasons["LEASE_LOST"] > max_crashes or (reasons["CRASH_LOOP"] and crashes <= max_crashes):
        yield Violation("I9", record.job_id, f"{crashes} crashes, of which {max_crashes} are survived")
    last = record.steps[-1]
    used_up = last.state == "FAILED" and last.reason in {"HANDLER_ERROR", "TIMEOUT"} and record.type != "fatal"
    if used_up and record.attempt != record.max_attempts:
        yield Violation("I9", record.job_id, f"a dead letter after attempt {record.attempt} of {record.max_attempts}")


def versions_and_times(history: History) -> Iterator[Violation]:
    """I10: versions go up by one, times by the store's clock never go back."""
    for record in history.store.records.values():
        versions = [step.version for step in record.steps]
        if versions != list(range(versions[0], versions[0] + len(versions))) or versions[-1] != record.version:
            yield Violation("I10", record.job_id, f"is at version {record.version}; its history has {versions}")
        if versions[0] != 1:
            yield Violation("I10", record.job_id, f"its history begins at version {versions[0]}")
        times = [record.created_ms, *(step.at_ms for step in record.steps)]
        if times != sorted(times):
            yield Violation("I10", record.job_id, f"times go back: {times}")
        if record.state in TERMINAL and record.finished_ms != record.steps[-1].at_ms:
            yield Violation(
                "I10", record.job_id, f"finished at {record.finished_ms}, ended at {record.steps[-1].at_ms}"
            )


def not_before_due(history: History) -> Iterator[Violation]:
    """I12: no job is queued or started before it is due, by the store's clock."""
    for record in history.store.records.values():
        delay = int(record.labels.get("delay_ms", 0))
        started = next((step for step in record.steps if step.state in {"QUEUED", "PROCESSING"}), None)
        if started is not None and started.at_ms < record.created_ms + delay:
            early = record.created_ms + delay - started.at_ms
            yield Violation("I12", record.job_id, f"{started.state} {early} ms before its due time")
        if started is not None and delay == 0 and started.version > 1:
            yield Violation("I12", record.job_id, "was scheduled, though due at once")


def retries_wait(history: History) -> Iterator[Violation]:
    """I13: a retry waits as long as its policy, or its handler, says at the least. (For jobs without jitter.)"""
    for record in history.store.records.values():
        least = int(record.labels.get("backoff_ms", 0))
        for before, after in pairwise(record.steps):
            if before.state == "RETRYING" and after.state == "QUEUED" and after.at_ms - before.at_ms < least:
                waited = after.at_ms - before.at_ms
                yield Violation("I13", record.job_id, f"tried again after {waited} ms; its policy says {least}")


def first_come_first_served(history: History) -> Iterator[Violation]:
    """I20: no job is overtaken by one that came to its queue, at its priority, a while later. (Where there were no
    faults: an entry that a dead worker has read waits for as long as it holds it.)
    """
    if history.settings.faults:
        return
    came: dict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
    for record in history.store.records.values():
        if [step.state for step in record.steps[:2]] == ["QUEUED", "PROCESSING"]:
            times = record.steps[0].at_ms, record.steps[1].at_ms
            came[record.queue, record.priority].append((*times, record.job_id))
    for jobs in came.values():
        latest = sys.maxsize
        for queued, claimed, job_id in sorted(jobs, reverse=True):
            if claimed > latest + OVERTAKEN_MS:
                yield Violation("I20", job_id, f"queued at {queued}; one that came later was claimed before {claimed}")
            latest = min(latest, claimed)
