"""Breaks headrace on purpose, one fault at a time, and sees that a named test, or the checker, finds each.

A mutant is a change of a few words in a copy of the packages, which comes first on the path of every process. One that
survives is a hole in the tests. `python -m chaos.mutants [WORD …]` runs all of them, or those whose name has a word.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("broker/headrace_broker", "worker/headrace_worker", "server/headrace_server")
PATIENCE = 400
SEED = 20
SECONDS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One fault. `caught_by`: tests that must fail, or invariants of which a chaos run must find one violated."""

    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]
    faults: tuple[str, ...] = ()
    """The kinds of faults that a chaos run is to be of; all, where none are named."""

    @property
    def by_chaos(self) -> bool:
        """Whether a chaos run is to find it."""
        return all(re.fullmatch(r"I\d+", one) for one in self.caught_by)


LUA = "broker/headrace_broker/lua"
BROKER = "broker/headrace_broker/broker.py"
PRODUCER = "broker/headrace_broker/_producer.py"
_STORES = '            return [await self._run("enqueue", shard, *arguments) for arguments in scripts], ""\n'
_SWALLOWS = (
    f"            try:\n    {_STORES}"
    "            except Exception as error:\n"
    '                if type(error).__name__ != "StoreFull":\n'
    "                    raise\n"
    '                return [[b"new", b"QUEUED", 1, 0] * (len(arguments) // 9) for arguments in scripts], ""\n'
)
TESTS = "tests/broker"
MUTANTS = (
    Mutant(
        name="finish drops the token check",
        file=f"{LUA}/finish.lua",
        old="if not job or job.token ~= token then",
        new="if not job then",
        caught_by=(f"{TESTS}/test_finish.py::test_a_stale_token_changes_nothing",),
    ),
    Mutant(
        name="finish drops the token check, under faults",
        file=f"{LUA}/finish.lua",
        old="if not job or job.token ~= token then",
        new="if not job then",
        caught_by=("I4", "I5"),
        faults=("pause worker",),
    ),
    Mutant(
        name="renew drops the token check",
        file=f"{LUA}/renew.lua",
        old="and job.token == ARGV[i + 1] then",
        new="then",
        caught_by=(f"{TESTS}/test_renew.py",),
    ),
    Mutant(
        name="progress drops the token check",
        file=f"{LUA}/progress.lua",
        old="or job.token ~= ARGV[2] then",
        new="then",
        caught_by=(f"{TESTS}/test_progress.py",),
    ),
    Mutant(
        name="XACK before the outcome is written",
        file=f"{LUA}/claim.lua",
        old="    give(job)\n  end\nend",
        new="    drop(key, entry)\n    give(job)\n  end\nend",
        caught_by=(f"{TESTS}/test_reclaim.py::test_worker_death_does_not_strand_jobs",),
    ),
    Mutant(
        name="XACK before the outcome is written, under faults",
        file=f"{LUA}/claim.lua",
        old="    give(job)\n  end\nend",
        new="    drop(key, entry)\n    give(job)\n  end\nend",
        caught_by=("I1", "I14"),
        faults=("kill worker", "pause worker"),
    ),
    Mutant(
        name="finish leaves the entry pending",
        file=f"{LUA}/finish.lua",
        old="      drop(key, entry)\n",
        new="",
        caught_by=(f"{TESTS}/test_finish.py::test_finished_entries_leave_the_stream",),
    ),
    Mutant(
        name="promote leaves the job on the schedule",
        file=f"{LUA}/promote.lua",
        old="    redis.call('ZREM', due_key(queue), id)\n",
        new="",
        caught_by=(f"{TESTS}/test_promote.py::test_a_scheduled_job_is_queued_when_it_is_due",),
    ),
    Mutant(
        name="promote does not look at the state",
        file=f"{LUA}/promote.lua",
        old="if job and (job.state == 'SCHEDULED' or job.state == 'RETRYING') then",
        new="if job then",
        caught_by=(f"{TESTS}/test_promote.py::test_a_job_that_does_not_wait_for_its_time_is_not_moved",),
    ),
    Mutant(
        name="promote is early",
        file=f"{LUA}/promote.lua",
        old="'-inf', NOW, 'LIMIT'",
        new="'-inf', NOW + 200, 'LIMIT'",
        caught_by=("I12", "I13"),
    ),
    Mutant(
        name="groups begin at $",
        file=f"{LUA}/_prelude.lua",
        old="'XGROUP', 'CREATE', key, 'workers', '0', 'MKSTREAM'",
        new="'XGROUP', 'CREATE', key, 'workers', '$', 'MKSTREAM'",
        caught_by=(f"{TESTS}/test_enqueue.py::test_jobs_of_a_stream_without_a_group_are_claimed",),
    ),
    Mutant(
        name="groups begin at $, under faults",
        file=f"{LUA}/_prelude.lua",
        old="'XGROUP', 'CREATE', key, 'workers', '0', 'MKSTREAM'",
        new="'XGROUP', 'CREATE', key, 'workers', '$', 'MKSTREAM'",
        caught_by=("I1",),
        faults=("destroy groups",),
    ),
    Mutant(
        name="published before the write: with the version that was",
        file=f"{LUA}/_prelude.lua",
        old="  job.state = state\n  job.version = job.version + 1\n",
        new="  publish(job, state, reason, detail)\n  job.state = state\n  job.version = job.version + 1\n",
        caught_by=(f"{TESTS}/test_claim.py::test_what_is_published",),
    ),
    Mutant(
        name="out of memory is swallowed: enqueue says that it has stored",
        file=PRODUCER,
        old=_STORES,
        new=_SWALLOWS,
        caught_by=(f"{TESTS}/test_out_of_memory.py::test_new_work_is_refused_and_leaves_nothing_behind",),
    ),
    Mutant(
        name="out of memory is swallowed, under faults",
        file=PRODUCER,
        old=_STORES,
        new=_SWALLOWS,
        caught_by=("I1",),
        faults=("fill memory",),
    ),
    Mutant(
        name="running work may not complete when memory is out",
        file=f"{LUA}/finish.lua",
        old="#!lua flags=allow-oom",
        new="#!lua",
        caught_by=(f"{TESTS}/test_out_of_memory.py",),
    ),
    Mutant(
        name="another request under a known id is answered with the first job",
        file=f"{LUA}/enqueue.lua",
        old="elseif (seen[4] or '') ~= digest then",
        new="elseif false then",
        caught_by=("I3",),
    ),
    Mutant(
        name="a repeated request is stored again",
        file=f"{LUA}/enqueue.lua",
        old="  if not seen[1] then",
        new="  if true then",
        caught_by=(f"{TESTS}/test_enqueue.py::test_a_repeated_request_finds_the_first_job",),
    ),
    Mutant(
        name="a lease is taken away while it holds",
        file=f"{LUA}/reclaim.lua",
        old="    if idle < (job.lease or LEASE) then return end\n",
        new="",
        caught_by=(f"{TESTS}/test_reclaim.py::test_a_longer_lease_is_respected",),
    ),
    Mutant(
        name="leases are a twentieth as long for those who reclaim",
        file=BROKER,
        old='"reclaim", shard, self.lease_ms, DUTY_BATCH',
        new='"reclaim", shard, self.lease_ms // 20, DUTY_BATCH',
        caught_by=(f"{TESTS}/test_reclaim.py",),
    ),
    Mutant(
        name="an outage of the store looks like dead workers",
        file=f"{LUA}/reclaim.lua",
        old="if hold > NOW then return {0, 0, 0, hold - NOW} end\n",
        new="",
        caught_by=(f"{TESTS}/test_reclaim.py::test_a_real_outage_reclaims_nothing",),
    ),
    Mutant(
        name="a crash burns an attempt",
        file=f"{LUA}/reclaim.lua",
        old="  job.attempt = job.attempt - 1\n",
        new="",
        caught_by=("I9",),
        faults=("kill worker",),
    ),
    Mutant(
        name="crashes have no limit",
        file=f"{LUA}/reclaim.lua",
        old="if job.crashes > MAX_CRASHES then",
        new="if false then",
        caught_by=(f"{TESTS}/test_reclaim.py::test_a_crash_loop_ends_in_the_dead_letters",),
    ),
    Mutant(
        name="ended jobs stay for ever",
        file=f"{LUA}/_prelude.lua",
        old="    redis.call('PEXPIRE', job_key(job.id), math.max(job.retention, 1))\n",
        new="    local _ = job.retention\n",
        caught_by=("I16",),
    ),
    Mutant(
        name="a lost claim is not resumed",
        file="worker/headrace_worker/_consumer.py",
        old="                self._resume = True\n",
        new="                self._request = None\n",
        caught_by=("tests/worker/test_lost_replies.py",),
    ),
    Mutant(
        name="leases are not renewed",
        file="worker/headrace_worker/_lease.py",
        old="        runs = [run for run in self._held() if now < run.renew_until]\n",
        new="        runs: list[Run] = []\n",
        caught_by=("tests/worker/test_lease.py::test_a_job_five_leases_long_runs_once",),
    ),
    Mutant(
        name="a watcher is told of versions with a gap",
        file="server/headrace_server/_watch.py",
        old="if event.version > self._told.version + 1 or event.state.is_terminal:",
        new="if event.state.is_terminal:",
        caught_by=("tests/server/test_watch.py::test_a_word_in_the_middle_that_pubsub_lost",),
    ),
    Mutant(
        name="a confirmation without a write of its own",
        file="broker/headrace_broker/confirm.py",
        old='pipe.hset(tag.pulse(), "confirm", 1)',
        new='pipe.hget(tag.pulse(), "confirm")',
        caught_by=(f"{TESTS}/test_durability.py::test_f09_a_write_that_is_not_confirmed_is_not_taken_back",),
    ),
    Mutant(
        name="any number of replicas confirms",
        file="broker/headrace_broker/confirm.py",
        old="missing = told < wanted.replicas",
        new="missing = False",
        caught_by=(f"{TESTS}/test_durability.py::test_f08_a_failover_keeps_what_was_replicated",),
    ),
    Mutant(
        name="fsynced is believed with any policy",
        file="broker/headrace_broker/confirm.py",
        old="case dict() if told == ALWAYS:",
        new="case dict():",
        caught_by=(f"{TESTS}/test_durability.py::test_f05_fsynced_is_refused_with_everysec",),
    ),
)


def main(words: list[str]) -> int:
    """Runs the mutants, prints what caught each; the exit code is 1 where one survived."""
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    console = Console()
    table = Table(title="mutants", title_justify="left")
    for column in ("mutant", "caught by"):
        table.add_column(column, overflow="fold")
    survivors = 0
    for mutant in chosen:
        caught = hunt(mutant)
        survivors += not caught
        console.print(f"{'caught' if caught else 'SURVIVED'}: {mutant.name} {caught}", soft_wrap=True, highlight=False)
        table.add_row(mutant.name, caught or "NOTHING")
    console.print(table)
    console.print(f"{len(chosen)} mutants, {survivors} survived")
    return 1 if survivors else 0


def hunt(mutant: Mutant) -> str:
    """Returns what caught a mutant; "" where nothing did."""
    with tempfile.TemporaryDirectory(prefix="headrace-mutant-") as place:
        plant(mutant, Path(place))
        return _by_chaos(mutant, place) if mutant.by_chaos else _by_tests(mutant, place)


def plant(mutant: Mutant, place: Path) -> None:
    """Copies the packages, with the mutant in its place."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, place / Path(package).name, ignore=shutil.ignore_patterns("__pycache__"))
    target = place / Path(mutant.file).relative_to(Path(mutant.file).parts[0])
    text = target.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.name}: {mutant.file} has its text {text.count(mutant.old)} times"
    target.write_text(text.replace(mutant.old, mutant.new))


def _by_tests(mutant: Mutant, place: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.caught_by]
    told = _run(command, place)
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", told.stdout, re.MULTILINE)
    return found[1] if told.returncode == 1 and found else ""


def _by_chaos(mutant: Mutant, place: str) -> str:
    command = [sys.executable, "-m", "chaos", "--seed", str(SEED), "--seconds", str(SECONDS), "--discard"]
    command += [word for kind in mutant.faults for word in ("--only", kind)]
    told = _run(command, place)
    found = set(re.findall(r"^(I\d+) \S+: ", told.stdout, re.MULTILINE)) & set(mutant.caught_by)
    if not found:
        sys.stderr.write(f"{mutant.name}: the chaos run told\n{told.stdout[-3_000:]}{told.stderr[-3_000:]}\n")
    return f"the checker: {', '.join(sorted(found))} (chaos seed {SEED})" if found else ""


def _run(command: list[str], place: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([place, str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
