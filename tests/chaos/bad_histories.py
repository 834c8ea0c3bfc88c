"""Everything that the checker must find: the good history with one thing wrong, by what is wrong."""

from dataclasses import replace

from chaos.checker.history import Entry, Event, History, Key, Step
from chaos.good_history import (
    GOOD,
    HELD,
    LOST,
    LOST_STEPS,
    PLAIN,
    PLAIN_STEPS,
    RECORDS,
    SOON,
    SOON_STEPS,
    STORE,
    T,
    run,
    steps,
)


def with_record(name: str, **changes: object) -> History:
    """Returns the good history with one record changed, in the store and after its restart."""
    changed = replace(RECORDS[name], **changes)  # type: ignore[arg-type]
    return with_store(records={**RECORDS, name: changed})


def with_store(**changes: object) -> History:
    """Returns the good history with another store."""
    store = replace(STORE, **changes)  # type: ignore[arg-type]
    return replace(GOOD, store=store, reloaded=store)


def with_steps(name: str, *told: Step) -> History:
    """Returns the good history with another life of one job."""
    return with_record(name, steps=told, version=told[-1].version, state=told[-1].state)


def with_watch(*events: tuple[str, int, str], **changes: object) -> History:
    """Returns the good history with another first watch."""
    told = tuple(Event(kind=kind, version=version, state=state) for kind, version, state in events)
    watch = replace(GOOD.watches[0], events=told, **changes)  # type: ignore[arg-type]
    return replace(GOOD, watches=(watch,))


def with_call(number: int, **changes: object) -> History:
    """Returns the good history with one call changed."""
    calls = tuple(
        replace(call, **changes) if call.number == number else call  # type: ignore[arg-type]
        for call in GOOD.calls
    )
    return replace(GOOD, calls=calls)


def with_run(index: int, **changes: object) -> History:
    """Returns the good history with one run changed."""
    runs = list(GOOD.runs)
    runs[index] = replace(runs[index], **changes)  # type: ignore[arg-type]
    return replace(GOOD, runs=tuple(runs))


def with_process(index: int, **changes: object) -> History:
    """Returns the good history with one process changed."""
    processes = list(GOOD.processes)
    processes[index] = replace(processes[index], **changes)  # type: ignore[arg-type]
    return replace(GOOD, processes=tuple(processes))


def silent() -> History:
    """Returns the good history with a hundred more runs, of which the last worker had none."""
    runs = (run(PLAIN, f"x{n}", 10, 5_000 + n, 5_000 + n) for n in range(100))
    return replace(GOOD, runs=(*GOOD.runs, *runs))


def holding(**changes: int) -> History:
    """Returns the good history with more held after the burst."""
    held = {"before": HELD, "after": {**HELD, **changes}}
    return replace(GOOD, settings=replace(GOOD.settings, held=held))


def without(name: str) -> History:
    """Returns the good history without the record of one job."""
    return with_store(records={key: value for key, value in RECORDS.items() if key != name})


def with_link(worker: str) -> History:
    """Returns the good history with a fault of a worker's link, in place of the killed worker."""
    return replace(GOOD, faults=(replace(GOOD.faults[0], kind="cut", target=f"{worker} to store", pid=-1),))


def with_cancel(**changes: object) -> History:
    """Returns the good history with one cancel: of the plain job, which was told to be CANCELLED then."""
    cancel = replace(GOOD.cancels[0], state="CANCELLED", **changes)  # type: ignore[arg-type]
    return replace(GOOD, cancels=(cancel,))


def overtaken() -> History:
    """Returns the good history without faults, with a job that came before another, and was claimed seconds after."""
    first = steps(("QUEUED", -5, 0, "", ""), ("PROCESSING", 3_000, 1, "", "w-11-ab"), ("SUCCEEDED", 3_001, 1, "", ""))
    history = with_store(records={**RECORDS, "EARLY": replace(RECORDS[PLAIN], job_id="EARLY", steps=first)})
    return replace(history, settings=replace(history.settings, faults=False))


def rolled(history: History = GOOD) -> History:
    """Returns a history as one of rolling restarts."""
    return replace(history, settings=replace(history.settings, rolling=1))


def twin() -> History:
    """Returns the good history with one job stored twice."""
    double = replace(RECORDS[PLAIN], job_id="DOUBLE")
    return with_store(records={**RECORDS, "DOUBLE": double}, counters={"alpha": {"SUCCEEDED": 4}})


def shifted(told: tuple[Step, ...], version: int, **changes: object) -> tuple[Step, ...]:
    """Returns steps with one of them changed."""
    return tuple(
        replace(step, **changes) if step.version == version else step  # type: ignore[arg-type]
        for step in told
    )


CANCELLED = replace(PLAIN_STEPS[2], state="CANCELLED", reason="REQUESTED", detail="chaos")
CRASHED_TWICE = steps(
    ("QUEUED", 0, 0, "", ""),
    ("PROCESSING", 10, 1, "", "w-11-ab"),
    ("QUEUED", 1_100, 0, "LEASE_LOST", "w-11-ab"),
    ("PROCESSING", 1_110, 1, "", "w-12-cd"),
    ("QUEUED", 2_200, 0, "LEASE_LOST", "w-12-cd"),
    ("PROCESSING", 2_210, 1, "", "w-12-cd"),
    ("SUCCEEDED", 2_220, 1, "", ""),
)
SNAPSHOT, SECOND, LAST = ("SNAPSHOT", 1, "QUEUED"), ("TRANSITION", 2, "PROCESSING"), ("TRANSITION", 3, "SUCCEEDED")
PENDING = Entry(queue="alpha", priority="normal", entry="1-1", job_id=PLAIN, consumer="w-11-ab")
BAD: dict[str, tuple[str, History]] = {
    "an acknowledged job without a record": ("I1", without(PLAIN)),
    "a job that never ended": ("I1", with_steps(PLAIN, *PLAIN_STEPS[:2])),
    "a quick job among the dead letters": (
        "I1",
        with_steps(PLAIN, *PLAIN_STEPS[:2], replace(PLAIN_STEPS[2], state="FAILED", reason="HANDLER_ERROR")),
    ),
    "an expired job that had no expire_time": (
        "I1",
        with_steps(PLAIN, PLAIN_STEPS[0], replace(PLAIN_STEPS[1], state="EXPIRED", attempt=0)),
    ),
    "a job that nobody asked for": ("I2", with_record(PLAIN, labels={"rid": "r-other"})),
    "a job whose producer was told that it is not stored": ("I2", with_call(4, answer="fail")),
    "one request stored as two jobs": ("I3", twin()),
    "one request answered with two ids": ("I3", with_call(2, job_id=LOST)),
    "one request said to be new twice": ("I3", with_call(2, deduplicated=False)),
    "another job's request answered with this job": ("I3", with_call(3, answer="ok", job_id=PLAIN, deduplicated=True)),
    "a repeated request refused": ("I3", with_call(2, answer="reused", job_id="")),
    "a success that no handler had": ("I4", replace(GOOD, runs=GOOD.runs[1:])),
    "a success of a run that raised": ("I4", with_run(0, how="Broken")),
    "a success told before the handler's end": ("I4", with_run(0, how=None, ended_ms=None)),
    "the result of a stale worker": ("I5", with_record(LOST, result={"token": "t2"})),
    "a record under the token of a lost claim": ("I5", with_record(LOST, token="t2", result={"token": "t2"})),
    "a lease taken away too early": ("I6", with_steps(LOST, *shifted(LOST_STEPS, 3, at_ms=T + 900))),
    "two runs at once under a valid lease": (
        "I6",
        replace(with_run(3, ended_ms=T + 800), faults=(*GOOD.faults,)),
    ),
    "a run without a claim": ("I7", with_run(0, claimed_ms=T + 11)),
    "a run of another attempt than was claimed": ("I7", with_run(0, attempt=2)),
    "one claim run twice": ("I7", replace(GOOD, runs=(*GOOD.runs, run(PLAIN, "t1", 10, 26, 28)))),
    "a run of a job without a record": ("I7", without(LOST)),
    "a lease lost without a fault": ("I7", replace(GOOD, faults=())),
    "a lease lost through the fault of another process": (
        "I7",
        replace(GOOD, faults=(replace(GOOD.faults[0], pid=12),)),
    ),
    "a lease lost while its worker drained": (
        "I7",
        replace(GOOD, faults=(replace(GOOD.faults[0], kind="stop worker"),)),
    ),
    "a lease lost through a fault that may cost none": (
        "I7",
        replace(GOOD, faults=(replace(GOOD.faults[0], kind="flush scripts", target="store", pid=0),)),
    ),
    "a lease lost through a fault that began after the renewal that was missed": (
        "I7",
        replace(GOOD, faults=(replace(GOOD.faults[0], start_ms=T + 700, end_ms=T + 1_090),)),
    ),
    "a lease lost through a fault of another worker's link": ("I7", with_link("worker-1")),
    "a dead worker's job that was taken from it too late": (
        "I7",
        with_steps(LOST, *LOST_STEPS[:2], *(replace(step, at_ms=step.at_ms + 1_000) for step in LOST_STEPS[2:])),
    ),
    "a job given back by a worker that nobody stopped": (
        "I7",
        with_steps(LOST, *shifted(LOST_STEPS, 3, reason="RELEASED", at_ms=T + 1_000)),
    ),
    "a lease lost long after the fault": (
        "I7",
        replace(GOOD, faults=(replace(GOOD.faults[0], start_ms=T - 9_000, end_ms=T - 8_000),)),
    ),
    "a life that goes on after its end": (
        "I8",
        with_steps(PLAIN, *PLAIN_STEPS, Step(version=4, state="QUEUED", at_ms=T + 40)),
    ),
    "a job that ran without being queued": ("I8", with_steps(PLAIN, *shifted(PLAIN_STEPS, 1, state="SCHEDULED"))),
    "a job that waited after its first crash": ("I8", with_steps(LOST, *shifted(LOST_STEPS, 3, state="SCHEDULED"))),
    "a job that crashed twice and did not wait": ("I8", with_steps(LOST, *CRASHED_TWICE)),
    "a state that its history does not end with": ("I8", with_record(PLAIN, state="CANCELLED")),
    "a life that began in the middle": ("I8", with_steps(PLAIN, *shifted(PLAIN_STEPS, 1, state="RETRYING"))),
    "an attempt burned by a crash": ("I9", with_record(LOST, attempt=2)),
    "an attempt too many": ("I9", with_record(SOON, max_attempts=1)),
    "a crash not counted": ("I9", with_record(LOST, crashes=0)),
    "a crash loop after one crash": (
        "I9",
        with_steps(LOST, *LOST_STEPS[:2], replace(LOST_STEPS[2], state="FAILED", reason="CRASH_LOOP")),
    ),
    "a dead letter with attempts left": (
        "I9",
        with_steps(SOON, *SOON_STEPS[:3], replace(SOON_STEPS[3], state="FAILED")),
    ),
    "a version left out": ("I10", with_steps(PLAIN, *PLAIN_STEPS[:2], replace(PLAIN_STEPS[2], version=4))),
    "a version that the history does not have": ("I10", with_record(PLAIN, version=4)),
    "a time that goes back": ("I10", with_steps(PLAIN, *shifted(PLAIN_STEPS, 2, at_ms=T + 31))),
    "an end at another time than told": ("I10", with_record(PLAIN, finished_ms=T + 29)),
    "a watch without a snapshot": ("I11", with_watch(("TRANSITION", 1, "QUEUED"), SECOND, LAST)),
    "a watch with a gap": ("I11", with_watch(SNAPSHOT, LAST)),
    "a watch that tells a version twice": ("I11", with_watch(SNAPSHOT, SECOND, SECOND, LAST)),
    "a watch from the start that begins later": ("I11", with_watch(SECOND, LAST, after=0)),
    "a watch that goes on after the end": ("I11", with_watch(SNAPSHOT, SECOND, LAST, ("TRANSITION", 4, "QUEUED"))),
    "a watch that ends before the job": ("I11", with_watch(SNAPSHOT, SECOND)),
    "a watch that hangs": ("I11", with_watch(SNAPSHOT, SECOND, ended=False)),
    "a watch that fails": ("I11", with_watch(SNAPSHOT, SECOND, error="HistoryGap: gone")),
    "a watch that is told what is not so": ("I11", with_watch(SNAPSHOT, ("TRANSITION", 2, "RETRYING"), LAST)),
    "a watch that is told of an end that was never stored": (
        "I11",
        with_watch(SNAPSHOT, SECOND, ("TRANSITION", 3, "FAILED")),
    ),
    "a job started before it was due": ("I12", with_steps(SOON, *shifted(SOON_STEPS, 2, at_ms=T + 499))),
    "a job scheduled that was due at once": ("I12", with_record(SOON, labels={"rid": "r-SOON"})),
    "a retry that did not wait": ("I13", with_steps(SOON, *shifted(SOON_STEPS, 5, at_ms=T + 700))),
    "an ended job that is still on the schedule": ("I14", with_store(due={PLAIN: T})),
    "a dead letter that is not among them": ("I14", with_steps(PLAIN, *shifted(PLAIN_STEPS, 3, state="FAILED"))),
    "a success among the dead letters": ("I14", with_store(dead={PLAIN: T})),
    "a scheduled job that is on no schedule": ("I14", with_steps(SOON, *SOON_STEPS[:1])),
    "a queued job without an entry": ("I14", with_steps(PLAIN, *PLAIN_STEPS[:1])),
    "a queued job with two entries": (
        "I14",
        replace(
            with_steps(PLAIN, *PLAIN_STEPS[:1]),
            store=replace(
                with_steps(PLAIN, *PLAIN_STEPS[:1]).store, entries=(PENDING, replace(PENDING, entry="1-2", consumer=""))
            ),
        ),
    ),
    "a running job without a pending entry": ("I14", with_steps(PLAIN, *PLAIN_STEPS[:2])),
    "an index that names no record": ("I14", with_store(dead={"GHOST": T})),
    "a pending entry that has left its stream": ("I14", with_store(lost_pending=("alpha:normal 1-1",))),
    "counters that do not add up": ("I14", with_store(counters={"alpha": {"SUCCEEDED": 3, "QUEUED": 1}})),
    "an entry left behind": ("I15", with_store(entries=(PENDING,))),
    "an expiry left behind": ("I15", with_store(expiring={PLAIN: T})),
    "an orphan key": ("I16", with_store(keys={"{headrace:0}:lock:x": Key(type="string", ttl_ms=-1)})),
    "a key of another type": ("I16", with_store(keys={"{headrace:0}:queues": Key(type="zset", ttl_ms=-1)})),
    "a worker's entry that stays for ever": (
        "I16",
        with_store(keys={"{headrace:0}:worker:w": Key(type="hash", ttl_ms=-1)}),
    ),
    "an ended job that stays for ever": ("I16", with_record(PLAIN, ttl_ms=-1)),
    "a record that a crash of the store took": (
        "I17",
        replace(GOOD, reloaded=replace(STORE, records={PLAIN: RECORDS[PLAIN]})),
    ),
    "a record that a crash of the store changed": (
        "I17",
        replace(GOOD, reloaded=with_record(PLAIN, token="t9").store),
    ),
    "an index that a crash of the store changed": ("I17", replace(GOOD, reloaded=replace(STORE, dead={PLAIN: T}))),
    "a process that died by itself": ("I18", with_process(0, expected_end=False)),
    "a process that tells of a fault of its own": ("I18", with_process(1, errors=("Traceback …",))),
    "a backlog that does not drain": ("I19", replace(GOOD, settings=replace(GOOD.settings, quiet=False))),
    "a worker that went silent": ("I19", silent()),
    "a log that floods": ("I19", with_process(1, busiest_second=5_000)),
    "a key left by jobs that were to leave none": ("I15", holding(keys=10)),
    "memory that does not come back": ("I15", holding(bytes=2_900_000)),
    "a consumer more than before": ("I15", holding(consumers=3)),
    "connections that pile up": ("I18", holding(connections=40)),
    "files that pile up": ("I18", holding(**{"files of worker-1": 60})),
    "a job that ran after it had been cancelled": ("I21", with_cancel(ended_ms=T + 11)),
    "a job that was claimed after its cancellation was accepted": ("I21", with_cancel(ended_ms=T + 9)),
    "a cancelled job that came back": ("I21", with_cancel(ended_ms=T + 40)),
    "a cancellation that was accepted and forgotten": (
        "I21",
        with_steps(PLAIN, *PLAIN_STEPS[:2], replace(PLAIN_STEPS[2], state="FAILED", reason="HANDLER_ERROR")),
    ),
    "a cancellation that nobody asked for": (
        "I21",
        replace(with_steps(PLAIN, *PLAIN_STEPS[:2], CANCELLED), cancels=()),
    ),
    "a cancel that was refused before the job's end": ("I21", with_cancel(answer="ended", ended_ms=T + 29)),
    "a cancel that failed": ("I21", with_cancel(answer="fail")),
    "a job that was overtaken": ("I20", overtaken()),
    "a call that a rolling restart made fail": ("R1", rolled()),
    "an attempt that a rolling restart burned": ("R2", rolled()),
    "a payload in a log": ("I22", with_process(1, leaks=("canary",))),
}
