"""The checker finds what it is there to find: a good history passes, each bad one is told by its invariant's name.

A checker that cannot fail proves nothing; so every bad history is the good one with one thing wrong.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.bad_histories import BAD, with_steps
from chaos.checker import CHECKS, check
from chaos.checker.causes import duplicates
from chaos.checker.history import Call, Hold, read
from chaos.checker.story import story
from chaos.good_history import GOOD, LOST, LOST_STEPS, PLAIN, T, run


def test_a_good_history_passes() -> None:
    """Three jobs, one of which lost its worker to a fault: nothing to find."""
    assert check(GOOD) == []


@pytest.mark.parametrize("what", BAD)
def test_a_bad_history_is_found(what: str) -> None:
    """Each thing that can go wrong is told under the name of its invariant."""
    invariant, history = BAD[what]

    assert invariant in {violation.invariant for violation in check(history)}


def test_every_check_can_fail() -> None:
    """No check passes everything that these tests know to be wrong."""
    never = [one.__name__ for one in CHECKS if not any(list(one(history)) for _, history in BAD.values())]

    assert never == []


def test_the_story_of_a_job_has_all_that_is_known_of_it_in_order() -> None:
    """Producer, record, handlers, watchers and the faults of its time, by the clock."""
    told = story(GOOD, LOST).splitlines()

    assert told[0] == "the story of job LOST:"
    assert [line.split() for line in told[1:]] == sorted(
        (line.split() for line in told[1:]), key=lambda words: words[0]
    )
    text = "\n".join(told)
    assert "LEASE_LOST" in text
    assert "kill worker of worker-0" in text
    assert "pid 12 token t3: returned" in text
    assert "watch 1" in story(GOOD, PLAIN)
    assert "(deduplicated)" in story(GOOD, PLAIN)


def test_a_duplicate_is_laid_at_the_door_of_its_fault() -> None:
    """The table names what made jobs run again, and says where nothing did."""
    assert duplicates(GOOD) == {"kill worker": 1}
    assert duplicates(replace(GOOD, faults=())) == {"unexplained": 1}


def test_a_fault_of_a_link_is_one_of_the_process_behind_it() -> None:
    """Whichever pid that has; of two faults, the one of the lease's own worker is named."""
    link = replace(GOOD.faults[0], kind="cut", target="worker-0 to store", pid=-1)
    store = replace(GOOD.faults[0], kind="pause store", target="store", pid=0)

    assert duplicates(replace(GOOD, faults=(link,))) == {"cut": 1}
    assert duplicates(replace(GOOD, faults=(link, store))) == {"cut": 1}


def test_while_nobody_took_leases_away_one_may_be_lost_later() -> None:
    """A dead worker's jobs wait for the end of a hold, and as long as it takes to look; not longer."""
    late = tuple(replace(step, at_ms=step.at_ms + 1_500) for step in LOST_STEPS[2:])
    history = with_steps(LOST, *LOST_STEPS[:2], *late)

    assert duplicates(history) == {"unexplained": 1}
    assert duplicates(replace(history, holds=(Hold(start_ms=T + 900, end_ms=T + 2_500),))) == {"kill worker": 1}
    assert duplicates(replace(history, holds=(Hold(start_ms=T + 100, end_ms=T + 1_500),))) == {"unexplained": 1}


def test_a_worker_that_a_poison_job_ended_is_no_mystery() -> None:
    """The worker's end, and the leases that it cost, are the poison's."""
    poison = run("POISON", "t9", 15, 18, 18, how="exits", type="poison")
    history = replace(GOOD, faults=(), runs=(*GOOD.runs, poison))

    assert duplicates(history) == {"poison job": 1}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The smallest run, as files."""
    (tmp_path / "run.json").write_text(json.dumps({"seed": 5, "lease_ms": 1_000, "healed_ms": 3.0}))
    client = [
        {"row": "invoke", "number": 1, "request_id": "r", "variant": "", "at": 1.0},
        {"row": "answer", "number": 1, "answer": "ok", "job_id": "J", "deduplicated": False, "at": 2.0},
        {"row": "watch", "number": 2, "job_id": "J", "after": 0, "at": 3.0},
        {"row": "event", "number": 2, "kind": "TRANSITION", "version": 1, "state": "QUEUED", "at": 4.0},
        {"row": "watched", "number": 2, "error": "", "at": 5.0},
    ]
    effects = [
        {"row": "start", "run": "a", "job_id": "J", "type": "quick", "attempt": 1, "token": "t", "claimed_ms": 3,
         "pid": 7, "at": 4.0},
        {"row": "stall", "pid": 7, "ms": 500.0, "at": 900.0},
        {"row": "end", "run": "a", "how": "returned", "at": 5.0},
    ]  # fmt: skip
    faults = [{"kind": "reset", "target": "x", "pid": 7, "start_ms": 1.0, "end_ms": 2.0}]
    for name, rows in {"client": client, "effects": effects, "faults": faults}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lists = dict.fromkeys(("records", "entries", "lost_pending"), ())
    final: dict[str, object] = {**lists, **{name: {} for name in ("keys", "due", "dead", "expiring", "counters")}}
    (tmp_path / "final.json").write_text(json.dumps(final))
    (tmp_path / "processes.json").write_text("[]")
    return tmp_path


def test_files_become_a_history(files: Path) -> None:
    """What the processes wrote line by line is what the checker judges."""
    history = read(files)

    assert history.calls == (Call(number=1, request_id="r", invoked_ms=1.0, ended_ms=2.0, answer="ok", job_id="J"),)
    assert [(watch.number, watch.ended, len(watch.events)) for watch in history.watches] == [(2, True, 1)]
    assert [(one.token, one.began_ms, one.ended_ms, one.how) for one in history.runs] == [("t", 4.0, 5.0, "returned")]
    assert [(fault.kind, fault.start_ms, fault.end_ms) for fault in history.faults] == [
        ("reset", 1.0, 2.0),
        ("slow machine", 400.0, 900.0),
    ]
    assert {violation.invariant for violation in check(history)} == {"I1", "I7"}
