"""What a rolling restart may cost: nothing. No call fails (R1), no attempt is burned, no job dies (R2)."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.checker.history import History
from chaos.checker.verdict import Violation


def no_call_fails(history: History) -> Iterator[Violation]:
    """R1: every call gets its answer: what a restart interrupts, the client's own retries hide."""
    if not history.settings.rolling:
        return
    for call in history.calls:
        if call.answer not in {"ok", "reused"}:
            yield Violation("R1", call.job_id, f"call {call.number} of {call.request_id} failed: {call.error}")


def no_attempt_burns(history: History) -> Iterator[Violation]:
    """R2: every job succeeds in its first attempt, and no lease is lost."""
    if not history.settings.rolling:
        return
    for record in history.store.records.values():
        if (record.state, record.attempt, record.crashes) != ("SUCCEEDED", 1, 0):
            end = f"{record.state} in attempt {record.attempt} after {record.crashes} crashes"
            yield Violation("R2", record.job_id, f"a restart cost it something: {end}")
