"""Claims of a job and why they ended: ties each lost lease to the fault that made its renewals fail.

A worker renews at a third of the lease. A lease that was lost was renewed last one lease before, or a little earlier:
whoever takes leases away looks every tenth of a lease, and is noticed where nobody looked for over a third of one, or
where looking was held. So the renewal that was missed first was due in a span of time that the record and the store's
own notes give to the millisecond; a fault of that worker, of its link, or of the store must have hit this span.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from chaos.checker.history import STALL, Fault, History, Record

MARGIN_MS = 250
"""Stalls that are too short to be noted: 150 ms of a worker and 100 ms of the proxy before it."""
UNHEARD_MS = 6_000
"""How long ago a claim may have been sent that arrives now: a call is given up after 5 s, and repeated after 1."""
DRAINING = frozenset({"stop worker", "rolling restart"})
"""What makes a worker give jobs back, and may cost no lease."""
DEADLY = frozenset({"kill worker", "poison job"})
"""What ends a worker at once: it gives nothing back any more."""
HARMLESS = frozenset({"flush scripts", "fill memory", "shift clock"})
"""Faults that may cost no lease."""
UNREADING = frozenset({"destroy groups"})
"""Faults that make a running job's entry one that nobody has read: its lease is counted anew from the next reading."""
LOST = frozenset({"LEASE_LOST", "CRASH_LOOP"})
_PID = re.compile(r"-(\d+)-[0-9a-f]+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim, and the transition that ended it ("" and 0 where it has not ended)."""

    job_id: str
    claimed_ms: int
    attempt: int
    end_ms: int = 0
    end_state: str = ""
    end_reason: str = ""
    worker: str = ""
    """Who claimed it."""

    @property
    def pid(self) -> int:
        """The worker's process; 0 where the record does not say."""
        found = _PID.search(self.worker)
        return int(found[1]) if found else 0


def claims_of(record: Record) -> list[Claim]:
    """Returns the claims of a job in their order."""
    claims = []
    for step, after in pairwise((*record.steps, None)):
        if step is None or step.state != "PROCESSING":
            continue
        end = {} if after is None else {"end_ms": after.at_ms, "end_state": after.state, "end_reason": after.reason}
        claims.append(
            Claim(job_id=record.job_id, claimed_ms=step.at_ms, attempt=step.attempt, worker=step.detail, **end)
        )  # type: ignore[arg-type]
    return claims


class Causes:
    """All that can have cost a lease in one run: faults, and handlers that ended or blocked their process."""

    def __init__(self, history: History) -> None:
        self._lease = history.settings.lease_ms
        self._name = {process.pid: process.name for process in history.processes}
        self._begun = {(run.job_id, run.claimed_ms) for run in history.runs}
        self._faults = [*history.faults, *_by_handlers(history)]
        self._unwatched = sorted(self._spans_without_reclaim(history), key=lambda span: -span[1])

    def of(self, claim: Claim) -> str:
        """Names the fault that explains the end of a claim; "" where there is none. A fault of its own process comes
        before one of all, what the nemesis did before a slow machine, and a later one before an earlier one.
        """
        first, last = self.window(claim)
        released = claim.end_reason == "RELEASED"
        found = [
            (fault.pid != 0, fault.kind != STALL, fault.start_ms, fault.kind)
            for fault in self._faults
            if self._concerns(fault, claim, released=released)
            if fault.start_ms <= last and fault.end_ms + self._aftermath >= first
        ]
        return max(found)[3] if found else ""

    def window(self, claim: Claim) -> tuple[float, float]:
        """Returns from when until when the first renewal was due that was missed. For a job that was given back: the
        time in which its worker can have lost sight of the store, or been told to stop; where it was not even begun,
        that of its claim, which was sent again and again until it was too late.
        """
        seen = claim.end_ms - self._lease / 3 - MARGIN_MS
        for start, end in self._unwatched:
            if start <= claim.end_ms and end >= seen:
                seen = min(seen, start - self._lease / 3 - MARGIN_MS)
        first = max(claim.claimed_ms - MARGIN_MS, seen - self._lease)
        if claim.end_reason == "RELEASED" and (claim.job_id, claim.claimed_ms) not in self._begun:
            return claim.claimed_ms - UNHEARD_MS - MARGIN_MS, claim.end_ms
        if claim.end_reason == "RELEASED":
            return first, claim.end_ms
        return first, claim.end_ms - self._lease * 2 / 3 + MARGIN_MS

    @property
    def _aftermath(self) -> float:
        """How long a fault that is over still keeps renewals away: one that hangs is given up after a quarter of the
        lease, and tried again after a twelfth.
        """
        return self._lease / 3 + MARGIN_MS

    def _concerns(self, fault: Fault, claim: Claim, *, released: bool) -> bool:
        if fault.kind in HARMLESS or fault.kind in (DEADLY if released else DRAINING):
            return False
        if fault.pid == 0:
            return True
        name = self._name.get(claim.pid, "")
        return fault.pid == claim.pid or (name != "" and fault.target == f"{name} to store")

    def _spans_without_reclaim(self, history: History) -> Iterator[tuple[float, float]]:
        for hold in history.holds:
            yield hold.start_ms, hold.end_ms
        for fault in history.faults:
            if fault.kind in UNREADING:
                yield fault.start_ms, fault.end_ms + self._lease


def _by_handlers(history: History) -> Iterator[Fault]:
    for run in history.runs:
        if run.how == "exits":
            kind, end = "poison job", run.began_ms
        elif run.type == "blocks" and run.ended_ms is not None:  # claims under way meanwhile are not heard of
            kind, end = "blocked loop", run.ended_ms
        else:
            continue
        yield Fault(kind=kind, target="worker", pid=run.pid, start_ms=run.began_ms, end_ms=end)


def duplicates(history: History) -> Counter[str]:
    """Counts claims that were lost and so ran, or may have run, once more: by their cause."""
    causes = Causes(history)
    return Counter(
        causes.of(claim) or "unexplained"
        for record in history.store.records.values()
        for claim in claims_of(record)
        if claim.end_reason in LOST
    )
