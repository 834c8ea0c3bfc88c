"""What a run leaves behind, as values. Read from its files once, then judged; nothing here knows a process or a store.

The files of a run's directory, JSON or one JSON object a line, times in wall-clock milliseconds of the one machine:

    run.json        what was asked for: seed, lease, seconds, whether faults were injected, and how the end went
    client.jsonl    what producers and watchers asked, and what they were told
    effects.jsonl   what handlers did, written by them outside the store
    faults.jsonl    what the nemesis did, and when the machine was too slow
    holds.jsonl     when nobody took leases away, as the store itself notes it
    final.json      everything that is in the store after the end
    reloaded.json   the same after a kill -9 and a restart of the store
    processes.json  how each process ended, and what it said
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

STALL = "slow machine"
"""Not the nemesis's work: a process got no turn for a while."""
TERMINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the run was."""

    seed: int = 0
    lease_ms: int = 1_000
    max_crashes: int = 3
    faults: bool = True
    """Whether a nemesis was at work. Without one, nothing may run twice."""
    rolling: int = 0
    """How often each process was restarted in its turn, in place of faults: then no caller may notice."""
    quiet: bool = True
    """Whether the backlog was gone in time after the last fault had been healed."""
    healed_ms: float = 0.0
    burst_ms: float = float("inf")
    """From here on jobs were run of which nothing may be left: no run of theirs is judged, but what is `held`."""
    held: dict[str, dict[str, int]] = field(default_factory=dict)
    """Keys, connections, files and so on, `before` and `after` the burst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of enqueue."""

    number: int
    request_id: str
    variant: str = ""
    invoked_ms: float = 0.0
    ended_ms: float | None = None
    answer: str = "unknown"
    """ok; fail: nothing was stored; reused: refused, the request_id belongs to another request; unknown."""
    job_id: str = ""
    deduplicated: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """One call of cancel. `state` is the job's state in the answer."""

    number: int
    job_id: str
    invoked_ms: float = 0.0
    ended_ms: float | None = None
    answer: str = "unknown"
    """ok; ended: refused, the job had ended; fail; unknown."""
    state: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a watcher was told."""

    kind: str
    version: int
    state: str
    at_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One watch of one job. `after` is None where it began with a snapshot."""

    number: int
    job_id: str
    after: int | None
    events: tuple[Event, ...]
    begun_ms: float = 0.0
    ended: bool = True
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a handler, as it told itself. `how` is None where it never came to its end."""

    job_id: str
    type: str
    attempt: int
    token: str
    claimed_ms: int
    pid: int
    began_ms: float
    ended_ms: float | None
    how: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that the nemesis did. `pid` 0: to all processes, through the store."""

    kind: str
    target: str
    pid: int
    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A time in which no lease was taken away, because nobody could renew: from the last look before it to its end."""

    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One transition of a record's history."""

    version: int
    state: str
    at_ms: int
    attempt: int = 0
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A job as the store has it at the end."""

    job_id: str
    type: str
    queue: str
    priority: str
    labels: dict[str, str]
    state: str
    version: int
    created_ms: int
    attempt: int
    crashes: int
    max_attempts: int
    token: str
    steps: tuple[Step, ...]
    due_ms: int | None = None
    finished_ms: int | None = None
    expires_ms: int | None = None
    failure: str = ""
    result: Any = None
    entry: str = ""
    ttl_ms: int = -1
    """-1: kept for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of the store that is no record."""

    type: str
    ttl_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of a stream of queued jobs. `consumer` is "" while nobody has read it."""

    queue: str
    priority: str
    entry: str
    job_id: str
    consumer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Everything that is in the store."""

    records: dict[str, Record]
    keys: dict[str, Key] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    lost_pending: tuple[str, ...] = ()
    """Pending entries that are not in their stream any more."""
    due: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    expiring: dict[str, int] = field(default_factory=dict)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One life of a process. `exit_code` -9: killed."""

    name: str
    pid: int
    start_ms: float
    end_ms: float | None
    exit_code: int | None
    expected_end: bool
    """It was killed on purpose, or was told to stop and ended well."""
    to_the_end: bool = False
    """It was there when the run ended."""
    busiest_second: int = 0
    """Lines that it logged in the second in which it logged most."""
    errors: tuple[str, ...] = ()
    """Lines that tell of a fault in headrace itself."""
    leaks: tuple[str, ...] = ()
    """Lines that hold what must not be logged."""


@dataclass(frozen=True, kw_only=True)
class History:
    """A whole run."""

    settings: Settings
    store: Store
    calls: tuple[Call, ...] = ()
    cancels: tuple[Cancel, ...] = ()
    watches: tuple[Watch, ...] = ()
    runs: tuple[Run, ...] = ()
    faults: tuple[Fault, ...] = ()
    holds: tuple[Hold, ...] = ()
    processes: tuple[Process, ...] = ()
    reloaded: Store | None = None

    @cached_property
    def runs_of(self) -> dict[str, list[Run]]:
        """Runs by job, in the order in which they began."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs, key=lambda run: run.began_ms):
            found[run.job_id].append(run)
        return found

    @cached_property
    def calls_of(self) -> dict[str, list[Call]]:
        """Calls by request_id."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            found[call.request_id].append(call)
        return found


def read(directory: Path) -> History:
    """Reads the files of a run."""
    ran = json.loads((directory / "run.json").read_text())
    calls, cancels, watches = _client(_rows(directory / "client.jsonl"))
    reloaded = directory / "reloaded.json"
    effects = _rows(directory / "effects.jsonl")
    processes = json.loads((directory / "processes.json").read_text())
    return History(
        settings=Settings(**{name: ran[name] for name in Settings.__slots__ if name in ran}),
        store=_store(json.loads((directory / "final.json").read_text())),
        calls=calls,
        cancels=cancels,
        watches=watches,
        runs=tuple(run for run in _runs(effects) if run.began_ms < ran.get("burst_ms", run.began_ms + 1)),
        faults=tuple(Fault(**row) for row in _rows(directory / "faults.jsonl")) + _stalls(effects),
        holds=tuple(Hold(**row) for row in _rows(directory / "holds.jsonl")),
        processes=tuple(
            Process(**{**row, "errors": tuple(row["errors"]), "leaks": tuple(row["leaks"])}) for row in processes
        ),
        reloaded=_store(json.loads(reloaded.read_text())) if reloaded.exists() else None,
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _client(rows: list[dict[str, Any]]) -> tuple[tuple[Call, ...], tuple[Cancel, ...], tuple[Watch, ...]]:
    asked: dict[int, dict[str, Any]] = {}
    cancelled: dict[int, dict[str, Any]] = {}
    watched: dict[int, dict[str, Any]] = {}
    for row in rows:
        kind, at = row.pop("row"), row.pop("at")
        match kind:
            case "invoke":
                asked[row["number"]] = {**row, "invoked_ms": at}
            case "answer":
                asked[row["number"]] |= {**row, "ended_ms": at}
            case "cancel":
                cancelled[row["number"]] = {**row, "invoked_ms": at}
            case "cancelled":
                cancelled[row["number"]] |= {**row, "ended_ms": at}
            case "watch":
                watched[row["number"]] = {**row, "begun_ms": at, "events": [], "ended": False}
            case "event":
                watched[row.pop("number")]["events"].append(Event(**row, at_ms=at))
            case "watched":
                watched[row["number"]] |= {"ended": True, "error": row["error"]}
    watches = (Watch(**{**row, "events": tuple(row["events"])}) for row in watched.values())
    calls, cancels = (Call(**row) for row in asked.values()), (Cancel(**row) for row in cancelled.values())
    return tuple(calls), tuple(cancels), tuple(watches)


def _stalls(rows: list[dict[str, Any]]) -> tuple[Fault, ...]:
    stalls = [row for row in rows if row["row"] == "stall"]
    return tuple(
        Fault(kind=STALL, target="worker", pid=row["pid"], start_ms=row["at"] - row["ms"], end_ms=row["at"])
        for row in stalls
    )


def _runs(rows: list[dict[str, Any]]) -> tuple[Run, ...]:
    begun: dict[str, dict[str, Any]] = {}
    for row in rows:
        kind, run, at = row["row"], str(row.get("run")), row["at"]
        if kind == "start":
            facts = {name: row[name] for name in ("job_id", "type", "attempt", "token", "claimed_ms", "pid")}
            begun[run] = {**facts, "began_ms": at, "ended_ms": None, "how": None}
        elif kind == "end":
            begun[run] |= {"ended_ms": at, "how": row["how"]}
    return tuple(Run(**row) for row in begun.values())


def _store(found: dict[str, Any]) -> Store:
    records = {
        row["job_id"]: Record(**{**row, "steps": tuple(Step(**step) for step in row["steps"])})
        for row in found["records"]
    }
    return Store(
        records=records,
        keys={name: Key(**key) for name, key in found["keys"].items()},
        entries=tuple(Entry(**entry) for entry in found["entries"]),
        lost_pending=tuple(found["lost_pending"]),
        **{name: found[name] for name in ("due", "dead", "expiring", "counters")},
    )
