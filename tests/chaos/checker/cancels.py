"""What somebody who cancels a job is promised (I21): it starts no more, and it ends as cancelled unless it succeeds."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator

from chaos.checker.causes import claims_of
from chaos.checker.history import TERMINAL, Cancel, History, Record
from chaos.checker.verdict import Violation

_ENDS = {("CANCELLED", "REQUESTED"), ("CANCELLED", "DISCARDED"), ("SUCCEEDED", "")}


def cancelled_jobs_stay_so(history: History) -> Iterator[Violation]:
    """I21: after the answer to a cancel nobody claims or begins the job; none is cancelled that nobody cancelled."""
    asked: dict[str, list[Cancel]] = defaultdict(list)
    for cancel in history.cancels:
        asked[cancel.job_id].append(cancel)
        if cancel.answer == "fail":
            yield Violation("I21", cancel.job_id, f"cancel {cancel.number} of a stored job failed: {cancel.error}")
    for record in history.store.records.values():
        if record.steps[-1].reason == "REQUESTED" and record.job_id not in asked:
            yield Violation("I21", record.job_id, "was cancelled, and nobody had asked for it")
        for cancel in asked[record.job_id]:
            if cancel.answer == "ok":
                yield from _held_to(history, record, cancel)
            elif cancel.answer == "ended" and (record.finished_ms or sys.maxsize) > (cancel.ended_ms or 0):
                yield Violation("I21", record.job_id, f"cancel {cancel.number} was told that it had ended; it had not")


def _held_to(history: History, record: Record, cancel: Cancel) -> Iterator[Violation]:
    assert cancel.ended_ms is not None
    end = (record.state, record.steps[-1].reason)
    if cancel.state in TERMINAL and record.state != cancel.state:
        yield Violation("I21", record.job_id, f"cancel {cancel.number} was told {cancel.state}; it is {record.state}")
    if cancel.state not in TERMINAL and end not in _ENDS:
        yield Violation("I21", record.job_id, f"cancel {cancel.number} was accepted; it ended as {' '.join(end)}")
    for claim in claims_of(record):
        if claim.claimed_ms > cancel.ended_ms:
            yield Violation("I21", record.job_id, f"claimed at {claim.claimed_ms}, after cancel {cancel.number}")
    for run in history.runs_of.get(record.job_id, []):
        if cancel.state in TERMINAL and run.began_ms > cancel.ended_ms:
            yield Violation("I21", record.job_id, f"begun at {run.began_ms:.0f}, after cancel {cancel.number}")
