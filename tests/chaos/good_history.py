"""A small history in which all is as it should be: three jobs, one of which lost its worker to a fault."""

from chaos.checker.history import (
    Call,
    Cancel,
    Event,
    Fault,
    History,
    Key,
    Process,
    Record,
    Run,
    Settings,
    Step,
    Store,
    Watch,
)

PLAIN, LOST, SOON = "PLAIN", "LOST", "SOON"
"""Three jobs: one that just succeeds; one whose worker is killed; one that is scheduled, fails and is tried again."""
T = 1_000_000


def steps(*told: tuple[str, int, int, str, str]) -> tuple[Step, ...]:
    """Makes a history from (state, ms, attempt, reason, detail)."""
    return tuple(
        Step(version=n, state=state, at_ms=T + ms, attempt=attempt, reason=reason, detail=detail)
        for n, (state, ms, attempt, reason, detail) in enumerate(told, 1)
    )


def record(job_id: str, token: str, told: tuple[Step, ...], **more: object) -> Record:
    """Makes the record of a job that has succeeded."""
    values: dict[str, object] = {
        "job_id": job_id, "type": "flaky" if job_id == SOON else "quick", "queue": "alpha", "priority": "normal",
        "labels": {"rid": f"r-{job_id}"}, "state": told[-1].state, "version": len(told), "created_ms": T,
        "attempt": told[-1].attempt, "crashes": 0, "max_attempts": 4, "token": token, "steps": told,
        "finished_ms": told[-1].at_ms, "result": {"token": token}, "ttl_ms": 60_000, **more,
    }  # fmt: skip
    return Record(**values)  # type: ignore[arg-type]


def run(job_id: str, token: str, claimed: int, began: int, ended: int | None, **more: object) -> Run:
    """Makes a run that returned, or (ended None) was cut off."""
    values: dict[str, object] = {
        "job_id": job_id, "type": "quick", "attempt": 1, "token": token, "claimed_ms": T + claimed, "pid": 11,
        "began_ms": T + began, "ended_ms": None if ended is None else T + ended,
        "how": None if ended is None else "returned", **more,
    }  # fmt: skip
    return Run(**values)  # type: ignore[arg-type]


PLAIN_STEPS = steps(("QUEUED", 0, 0, "", ""), ("PROCESSING", 10, 1, "", "w-11-ab"), ("SUCCEEDED", 30, 1, "", ""))
LOST_STEPS = steps(
    ("QUEUED", 0, 0, "", ""),
    ("PROCESSING", 10, 1, "", "w-11-ab"),
    ("QUEUED", 1_100, 0, "LEASE_LOST", "w-11-ab"),
    ("PROCESSING", 1_110, 1, "", "w-12-cd"),
    ("SUCCEEDED", 1_200, 1, "", ""),
)
SOON_STEPS = steps(
    ("SCHEDULED", 0, 0, "", ""),
    ("QUEUED", 501, 0, "", ""),
    ("PROCESSING", 510, 1, "", "w-12-cd"),
    ("RETRYING", 520, 1, "HANDLER_ERROR", "Broken"),
    ("QUEUED", 721, 1, "", ""),
    ("PROCESSING", 730, 2, "", "w-12-cd"),
    ("SUCCEEDED", 740, 2, "", ""),
)
RECORDS = {
    PLAIN: record(PLAIN, "t1", PLAIN_STEPS),
    LOST: record(LOST, "t3", LOST_STEPS, crashes=1),
    SOON: record(SOON, "t5", SOON_STEPS, labels={"rid": "r-SOON", "delay_ms": "500", "backoff_ms": "200"}),
}
STORE = Store(
    records=RECORDS,
    keys={"{headrace:0}:queues": Key(type="set", ttl_ms=-1), "{headrace:0}:worker:w-12-cd": Key(type="hash", ttl_ms=9)},
    counters={"alpha": {"SUCCEEDED": 3, "QUEUED": 0}},
)
HELD = {"keys": 9, "bytes": 2_000_000, "connections": 12, "consumers": 2, "files of worker-1": 20}
GOOD = History(
    settings=Settings(healed_ms=T, held={"before": HELD, "after": {**HELD, "files of worker-1": 22}}),
    store=STORE,
    reloaded=STORE,
    calls=(
        Call(number=1, request_id="r-PLAIN", answer="ok", job_id=PLAIN, ended_ms=T),
        Call(number=2, request_id="r-PLAIN", answer="ok", job_id=PLAIN, deduplicated=True, ended_ms=T),
        Call(number=3, request_id="r-PLAIN", variant="b", answer="reused", ended_ms=T),
        Call(number=4, request_id="r-LOST"),
        Call(number=5, request_id="r-SOON", answer="ok", job_id=SOON, ended_ms=T),
        Call(number=6, request_id="r-never", answer="fail", error="ResourceExhausted"),
        Call(number=7, request_id="r-unknown"),
    ),
    cancels=(
        Cancel(number=8, job_id=PLAIN, ended_ms=T + 15, answer="ok", state="PROCESSING"),
        Cancel(number=9, job_id=SOON, ended_ms=T + 800, answer="ok", state="SUCCEEDED"),
        Cancel(number=10, job_id=LOST),
        Cancel(number=11, job_id=PLAIN, ended_ms=T + 32, answer="ended", error="PreconditionFailed"),
    ),
    runs=(
        run(PLAIN, "t1", 10, 12, 25),
        run(LOST, "t2", 10, 12, None),
        run(LOST, "t3", 1_110, 1_112, 1_150, pid=12),
        run(SOON, "t4", 510, 511, 515, pid=12, how="Broken"),
        run(SOON, "t5", 730, 731, 735, pid=12, attempt=2),
    ),
    watches=(
        Watch(
            number=1,
            job_id=PLAIN,
            after=None,
            events=(
                Event(kind="SNAPSHOT", version=1, state="QUEUED"),
                Event(kind="TRANSITION", version=2, state="PROCESSING"),
                Event(kind="PROGRESS", version=2, state="PROCESSING"),
                Event(kind="TRANSITION", version=3, state="SUCCEEDED"),
            ),
        ),
        Watch(
            number=2,
            job_id=PLAIN,
            after=0,
            events=tuple(Event(kind="TRANSITION", version=one.version, state=one.state) for one in PLAIN_STEPS),
        ),
    ),
    faults=(Fault(kind="kill worker", target="worker-0", pid=11, start_ms=T + 20, end_ms=T + 30),),
    processes=(
        Process(name="worker-0", pid=11, start_ms=T, end_ms=T + 20, exit_code=-9, expected_end=True),
        Process(name="worker-1", pid=12, start_ms=T, end_ms=T + 9_000, exit_code=0, expected_end=True, to_the_end=True),
    ),
)
