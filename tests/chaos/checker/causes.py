"""Claims of a job and why they ended: ties a lost lease to the fault that explains it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise

from chaos.checker.history import STALL, History, Record

AFTERMATH_MS = 3_000
"""How long after its end a fault of the store or of a connection may still cost a lease: reconnects, held reclaims."""
_PID = re.compile(r"-(\d+)-[0-9a-f]+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim, and the transition that ended it ("" and 0 where it has not ended)."""

    claimed_ms: int
    attempt: int
    end_ms: int = 0
    end_state: str = ""
    end_reason: str = ""
    worker: str = ""
    """The worker that lost it, where that is what ended it."""

    @property
    def pid(self) -> int:
        """The process of the worker that lost it; 0 where the record does not say."""
        found = _PID.search(self.worker)
        return int(found[1]) if found else 0


def claims_of(record: Record) -> list[Claim]:
    """Returns the claims of a job in their order."""
    claims = []
    for step, after in pairwise((*record.steps, None)):
        if step is None or step.state != "PROCESSING":
            continue
        if after is None:
            claims.append(Claim(claimed_ms=step.at_ms, attempt=step.attempt))
            continue
        worker = after.detail if after.reason in {"LEASE_LOST", "CRASH_LOOP"} else ""
        claims.append(
            Claim(
                claimed_ms=step.at_ms,
                attempt=step.attempt,
                end_ms=after.at_ms,
                end_state=after.state,
                end_reason=after.reason,
                worker=worker,
            )
        )
    return claims


class Causes:
    """All that can have cost a lease in one run: faults, and handlers that ended their process."""

    def __init__(self, history: History) -> None:
        self._by_pid: dict[int, list[tuple[str, float, float]]] = defaultdict(list)
        for fault in history.faults:
            self._by_pid[fault.pid].append((fault.kind, fault.start_ms, fault.end_ms + AFTERMATH_MS))
        for run in history.runs:
            if run.how == "exits":
                self._by_pid[run.pid].append(("poison job", run.began_ms, run.began_ms + AFTERMATH_MS))
            elif run.type == "blocks" and run.ended_ms is not None:  # claims under way meanwhile are not heard of
                self._by_pid[run.pid].append(("blocked loop", run.began_ms, run.ended_ms + AFTERMATH_MS))
        self._pid_of = {(run.job_id, run.claimed_ms): run.pid for run in history.runs}

    def of(self, claim: Claim) -> str:
        """Names the fault that explains the end of a claim; "" where there is none. A fault of its own process comes
        before one of all, what the nemesis did before a slow machine, and a later one before an earlier one.
        """
        pids = [claim.pid, 0] if claim.pid else list(self._by_pid)
        found = [
            (pid != 0, kind != STALL, start, kind)
            for pid in pids
            for kind, start, end in self._by_pid[pid]
            if start <= claim.end_ms and end >= claim.claimed_ms
        ]
        return max(found)[3] if found else ""


def duplicates(history: History) -> Counter[str]:
    """Counts claims that were lost or given back and so ran, or may have run, once more: by their cause."""
    causes = Causes(history)
    return Counter(
        causes.of(claim) or "unexplained"
        for record in history.store.records.values()
        for claim in claims_of(record)
        if claim.end_reason in {"LEASE_LOST", "CRASH_LOOP"}
    )
