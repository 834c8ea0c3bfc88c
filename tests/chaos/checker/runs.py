"""What handlers did: done before told (I4), one winner (I5), no overlap under a lease (I6), a cause for all (I7)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from chaos.checker.causes import LOST, Causes, Claim, claims_of
from chaos.checker.history import History, Record, Run
from chaos.checker.verdict import Violation


def done_before_told(history: History) -> Iterator[Violation]:
    """I4: a job that succeeded has a run that came to its end, under the token that the record names."""
    for record in history.store.records.values():
        if record.state != "SUCCEEDED":
            continue
        runs = history.runs_of.get(record.job_id, [])
        if not any(run.how == "returned" and run.token == record.token for run in runs):
            done = [run.token for run in runs if run.how == "returned"]
            yield Violation("I4", record.job_id, f"SUCCEEDED under token {record.token}; runs that returned: {done}")


def one_winner(history: History) -> Iterator[Violation]:
    """I5: what is stored at the end comes from the holder of the last claim, from no other."""
    for record in history.store.records.values():
        if record.state == "SUCCEEDED" and isinstance(record.result, dict):
            by = record.result.get("token")
            if by != record.token:
                yield Violation(
                    "I5", record.job_id, f"stale winner: the result is of token {by}, the claim of {record.token}"
                )
        claims = claims_of(record)
        if not claims or not record.token:
            continue
        last = [run for run in history.runs_of.get(record.job_id, []) if run.claimed_ms == claims[-1].claimed_ms]
        for run in last:
            if run.token != record.token:
                yield Violation(
                    "I5", record.job_id, f"the last claim ran as {run.token}, the record says {record.token}"
                )


def leases_hold(history: History) -> Iterator[Violation]:
    """I6: a lease is not taken away too early, and a job runs twice at once only where a lease was lost between."""
    lease = history.settings.lease_ms
    for record in history.store.records.values():
        claims = claims_of(record)
        for claim in claims:
            if claim.end_reason in LOST and claim.end_ms - claim.claimed_ms < lease:
                held = claim.end_ms - claim.claimed_ms
                yield Violation("I6", record.job_id, f"claim of {claim.claimed_ms} was lost after {held} ms of {lease}")
        yield from _overlaps(record, claims, history.runs_of.get(record.job_id, []))


def _overlaps(record: Record, claims: list[Claim], runs: list[Run]) -> Iterator[Violation]:
    ends = {claim.claimed_ms: claim.end_reason for claim in claims}
    for earlier, later in combinations(sorted(runs, key=lambda run: (run.claimed_ms, run.began_ms)), 2):
        at_once = earlier.ended_ms is not None and earlier.ended_ms > later.began_ms
        if at_once and ends.get(earlier.claimed_ms) not in LOST:
            how = ends.get(earlier.claimed_ms) or "nothing"
            yield Violation("I6", record.job_id, f"ran in pid {earlier.pid} and {later.pid} at once; between: {how}")


def each_run_has_a_claim(history: History) -> Iterator[Violation]:
    """I7: every run belongs to a claim in the record, and no claim is run twice."""
    for job_id, runs in history.runs_of.items():
        record = history.store.records.get(job_id)
        if record is None:
            yield Violation("I7", job_id, "ran, but has no record")
            continue
        yield from _claims_and_runs(record, runs)


def _claims_and_runs(record: Record, runs: list[Run]) -> Iterator[Violation]:
    claims = {(claim.claimed_ms, claim.attempt) for claim in claims_of(record)}
    by_token: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_token[run.token].append(run)
        if (run.claimed_ms, run.attempt) not in claims:
            what = f"attempt {run.attempt} claimed at {run.claimed_ms}"
            yield Violation("I7", record.job_id, f"ran as {what}, which its record does not know")
    for token, twice in by_token.items():
        if len(twice) > 1:
            yield Violation("I7", record.job_id, f"the one claim {token} ran {len(twice)} times")


def each_loss_has_a_cause(history: History) -> Iterator[Violation]:
    """I7: a lease that was lost, or a job that was given back, has a fault as its cause."""
    causes = Causes(history)
    for record in history.store.records.values():
        for claim in claims_of(record):
            if claim.end_reason in {*LOST, "RELEASED"} and not causes.of(claim):
                first, last = causes.window(claim)
                what = f"{claim.end_reason} at {claim.end_ms}, claimed at {claim.claimed_ms} by {claim.worker}"
                yield Violation(
                    "I7", record.job_id, f"{what}: no fault of it or of the store between {first:.0f} and {last:.0f}"
                )
