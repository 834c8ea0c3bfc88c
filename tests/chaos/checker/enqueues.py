"""What producers were promised: no job lost (I1), none made up (I2), one job for one request_id (I3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from chaos.checker.history import TERMINAL, History, Record
from chaos.checker.verdict import Violation

CRASHED = ("FAILED", "CRASH_LOOP")
SUCCEEDED = ("SUCCEEDED", "")
_ENDS: dict[str, set[tuple[str, str]]] = {
    "doomed": {("FAILED", "HANDLER_ERROR")},
    "fatal": {("FAILED", "HANDLER_ERROR")},
    "overruns": {("FAILED", "TIMEOUT")},
    "discards": {("CANCELLED", "DISCARDED")},
    "poison": set(),
}
"""How jobs of a type may end, beside CRASH_LOOP: as SUCCEEDED where nothing else is said."""


def no_loss(history: History) -> Iterator[Violation]:
    """I1: every acknowledged job has a record, and every job ends."""
    records = history.store.records
    for call in history.calls:
        if call.answer == "ok" and call.job_id not in records:
            yield Violation(
                "I1", call.job_id, f"lost: call {call.number} was told that it is stored; there is no record"
            )
    for record in records.values():
        if record.state not in TERMINAL:
            yield Violation("I1", record.job_id, f"never ended: {record.state} at the end of the run")


def ends_as_it_should(history: History) -> Iterator[Violation]:
    """I1: a job ends in a state that its handler, its crashes or its expire_time can have brought it to."""
    asked = {cancel.job_id for cancel in history.cancels}
    for record in history.store.records.values():
        if record.state not in TERMINAL:
            continue
        end = (record.state, record.steps[-1].reason)
        if end not in _possible_ends(record, cancelled=record.job_id in asked):
            yield Violation("I1", record.job_id, f"a {record.type} job ended as {' '.join(end).strip()}")


def _possible_ends(record: Record, *, cancelled: bool) -> set[tuple[str, str]]:
    ends = _ENDS.get(record.type, {SUCCEEDED}) | {CRASHED}
    if cancelled:
        ends = ends | {("CANCELLED", "REQUESTED")}
    if record.expires_ms is not None:
        ends = ends | {("EXPIRED", ""), ("FAILED", "EXPIRED")}
    return ends


def no_phantom(history: History) -> Iterator[Violation]:
    """I2: every job was asked for, and none is there whose every call was told that nothing was stored."""
    for record in history.store.records.values():
        calls = history.calls_of.get(record.labels.get("rid", ""), [])
        if not calls:
            yield Violation("I2", record.job_id, "nobody asked for this job")
        elif all(call.answer in {"fail", "reused"} for call in calls):
            told = ", ".join(f"call {call.number}: {call.error}" for call in calls)
            yield Violation("I2", record.job_id, f"stored, though its producer was told that nothing was ({told})")


def idempotent(history: History) -> Iterator[Violation]:
    """I3: one request_id is one job, however often it is sent; another request under it is refused."""
    stored: dict[str, list[Record]] = defaultdict(list)
    for record in history.store.records.values():
        stored[record.labels.get("rid", "")].append(record)
    for request_id, records in stored.items():
        if len(records) > 1:
            ids = ", ".join(record.job_id for record in records)
            yield Violation("I3", records[0].job_id, f"request_id {request_id} is {len(records)} jobs: {ids}")
    for request_id, calls in history.calls_of.items():
        told = [call for call in calls if call.answer == "ok"]
        if len({call.job_id for call in told}) > 1:
            yield Violation("I3", told[0].job_id, f"request_id {request_id} was answered with several job ids")
        if sum(not call.deduplicated for call in told) > 1:
            yield Violation("I3", told[0].job_id, f"request_id {request_id} was said to be new more than once")
        for record in stored.get(request_id, []):
            yield from _variants(history, record)


def _variants(history: History, record: Record) -> Iterator[Violation]:
    mine = record.labels.get("variant", "")
    calls = history.calls_of[record.labels["rid"]]
    for call in calls:
        if call.answer == "ok" and call.variant != mine:
            yield Violation("I3", record.job_id, f"call {call.number} asked for another job, and was given this one")
        if call.answer == "reused" and call.variant == mine:
            yield Violation("I3", record.job_id, f"call {call.number} repeated the request, and was refused")
