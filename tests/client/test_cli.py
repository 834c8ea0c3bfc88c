"""The command `headrace`, as a person and as a program use it: real processes, a real server."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from client.rig import Hand, Server
from harness.processes import Process, Spawn
from harness.waiting import Eventually
from headrace_broker import Broker, Succeeded

COMMAND = str(Path(sys.executable).with_name("headrace"))
NO_JOB = "0" * 26
ESCAPE = "\x1b["


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its output as one JSON document."""
        return json.loads(self.out)

    @property
    def documents(self) -> list[Any]:
        """Its output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


@pytest.fixture
def run(server: Server) -> Run:
    """`run("get", "…", stdin=b"…", NO_COLOR="1")`: run the command to its end against the shared server."""

    def run_command(*arguments: str, stdin: bytes = b"", **environment: str) -> Done:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        settings = {"HEADRACE_ADDRESS": server.target, "COLUMNS": "200", "TZ": "UTC", **environment}
        done = subprocess.run(
            [COMMAND, *arguments], input=stdin, capture_output=True, env=inherited | settings, timeout=30, check=False
        )
        assert "Traceback" not in done.stderr.decode()
        return Done(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())

    return run_command


@pytest.fixture
def by_hand(server: Server) -> Callable[[Callable[[Hand], Awaitable[None]]], None]:
    """`by_hand(moves)`: let a worker by hand make these moves, and return when it has."""

    async def move(moves: Callable[[Hand], Awaitable[None]]) -> None:
        async with Broker(url=server.url, namespace=server.namespace) as broker:
            await moves(Hand(broker))

    return lambda moves: asyncio.run(move(moves))


def _id(run: Run, queue: str, *arguments: str) -> str:
    done = run("enqueue", "t", "--queue", queue, "--id-only", *arguments)
    assert re.fullmatch(r"[0-9A-Z]{26}\n", done.out)
    return done.out.strip()


def test_enqueue_answers_a_person(run: Run, queue: str) -> None:
    """`enqueue` says in a sentence what was stored, and how to follow it."""
    done = run("enqueue", "echo.process", "--json", '{"msg":"hello"}', "--queue", queue, "--delay", "1h")
    assert re.fullmatch(r"echo\.process enqueued as (\w{26}), SCHEDULED\. Follow it: headrace watch \1\n", done.out), (
        done
    )
    assert (done.code, done.err) == (0, "")


def test_enqueue_answers_a_program(run: Run, queue: str) -> None:
    """With the global --json the answer is one JSON document; a second request with the same id finds the first job."""
    first, again = [
        run("--json", "enqueue", "t", "--json", "[1]", "-q", queue, "--request-id", queue, *words).document
        for words in ([], ["--durability", "accepted"])
    ]
    assert {key: first[key] for key in ("state", "version", "deduplicated", "durability")} == {
        "state": "QUEUED",
        "version": 1,
        "deduplicated": False,
        "durability": "accepted",
    }
    assert again == first | {"deduplicated": True}


def test_every_option_of_enqueue_arrives(run: Run, queue: str) -> None:
    """What the options say is what the job is; JSON is stored as it was typed."""
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    words = ["--priority", "high", "-l", "team=blue", "--label", "eq=a=b", "--max-attempts", "3", "--timeout", "1m30s"]
    at = due.astimezone(timezone(timedelta(hours=1))).isoformat()
    job_id = _id(run, queue, "--json", '{"n": 123456789012345678901, "f": 1.10}', "--at", at, *words)
    job = run("get", "--json", job_id).document
    expected = {
        "job_id": job_id,
        "state": "SCHEDULED",
        "queue": queue,
        "payload": {"n": 123456789012345678901, "f": 1.1},
        "content_type": "application/json",
        "priority": "high",
        "schedule_time": f"{due:%Y-%m-%dT%H:%M:%SZ}",
        "labels": {"team": "blue", "eq": "a=b"},
        "attempt_timeout": 90.0,
        "result": None,
        "failure": None,
    }
    assert {key: job[key] for key in expected} == expected
    assert job["retry"]["max_attempts"] == 3
    assert [(step["version"], step["state"]) for step in job["history"]] == [(1, "SCHEDULED")]
    page = run("get", job_id).out
    assert "SCHEDULED (version 1)" in page
    assert '{"n": 123456789012345678901, "f": 1.1}' in page
    assert re.search(f"^due +{due:%Y-%m-%d %H:%M:%S}.000 *$", page, re.MULTILINE)
    assert re.search("^labels +eq=a=b team=blue *$", page, re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A payload as it is given, and as it is stored."""

    arguments: str
    stdin: bytes = b""
    content: dict[str, Any]
    content_type: str = "application/json"


@pytest.mark.parametrize(
    "given",
    [
        Given(arguments="--payload grün", content={"payload": "grün"}, content_type="text/plain"),
        Given(arguments="-", stdin=b'{"a": 1}', content={"payload": {"a": 1}}),
        Given(arguments="--file -", stdin=b"[2]", content={"payload": [2]}),
        Given(arguments="- --content-type text/csv", stdin=b"a,b", content={"payload": "a,b"}, content_type="text/csv"),
        Given(arguments="--file {dir}/a.json", content={"payload": {"file": 1}}),
        Given(
            arguments="--file {dir}/a.bin",
            content={"payload_base64": "AP8="},
            content_type="application/octet-stream",
        ),
        Given(arguments="", content={"payload": None}),
    ],
    ids=lambda given: given.arguments or "none",
)
def test_payload_comes_from_where_it_is_said(run: Run, queue: str, tmp_path: Path, given: Given) -> None:
    """Text, a file and standard input arrive as they are, with the content type that fits."""
    (tmp_path / "a.json").write_text('{"file": 1}')
    (tmp_path / "a.bin").write_bytes(b"\x00\xff")
    arguments = given.arguments.format(dir=tmp_path).split()
    job_id = run("enqueue", "t", "-q", queue, "--id-only", *arguments, stdin=given.stdin).out.strip()
    job = run("--json", "get", job_id).document
    assert {key: job.get(key) for key in given.content} == given.content
    assert job["content_type"] == given.content_type


def test_watch_tells_every_step(run: Run, by_hand: Callable[..., None], queue: str) -> None:
    """`watch` prints a line for each step and the result at the end; --json prints a document for each."""
    job_id = _id(run, queue)
    by_hand(lambda hand: hand.succeed(queue, {"msg": "grün"}))
    done = run("watch", job_id, "--after-version", "0")
    states = [re.search(r"v(\d+)\s+([A-Z]+)", line).groups() for line in done.out.splitlines()[:3]]
    assert states == [("1", "QUEUED"), ("2", "PROCESSING"), ("3", "SUCCEEDED")]
    assert done.out.splitlines()[3:] == ['{"msg": "grün"}']
    assert (done.code, done.err, ESCAPE in done.out) == (0, "", False)
    events = run("watch", job_id, "--after-version", "1", "--json").documents
    assert [(event["kind"], event["version"], event["state"]) for event in events] == [
        ("TRANSITION", 2, "PROCESSING"),
        ("TRANSITION", 3, "SUCCEEDED"),
    ]
    assert events[-1]["job"]["result"] == {"msg": "grün"}
    assert run("watch", job_id, "--after-version", "3").code == 0


def test_watch_is_live(server: Server, spawn: Spawn, run: Run, by_hand: Callable[..., None], queue: str) -> None:
    """`watch` prints each step when it happens, and ends with exit code 1 when the job fails."""
    job_id = _id(run, queue)
    watch = spawn(COMMAND, "-s", server.target, "watch", job_id)
    watch.wait_for_line("QUEUED")

    async def fail(hand: Hand) -> None:
        job = await hand.claim(queue)
        await asyncio.to_thread(watch.wait_for_line, "PROCESSING  attempt 1  hand-1")
        await hand.progress(job, 0.5, "half way")
        await asyncio.to_thread(watch.wait_for_line, "50%  half way")
        await hand.fail_claimed(job, "it broke")

    by_hand(fail)
    assert watch.wait() == 1
    assert watch.lines[-1] == "HANDLER_ERROR: ValueError: it broke"
    assert "v3   FAILED" in watch.lines[-2]


def test_interrupted_watch_is_quiet(server: Server, spawn: Spawn, run: Run, queue: str) -> None:
    """Ctrl-C ends `watch` with exit code 130 and without a word."""
    watch = spawn(COMMAND, "-s", server.target, "watch", _id(run, queue))
    watch.wait_for_line("QUEUED")
    watch.signal(signal.SIGINT)
    assert watch.wait() == 130
    assert len(watch.lines) == 1


def test_wait_prints_the_result(server: Server, spawn: Spawn, by_hand: Callable[..., None], queue: str) -> None:
    """`enqueue --wait` ends with the job: the result on standard output, or the failure and exit code 1."""
    waiting = _started(spawn, server, "enqueue", "t", "-q", queue, "--wait")
    waiting.wait_for_line("enqueued as")
    by_hand(lambda hand: hand.succeed(queue, {"n": 1}))
    assert waiting.wait() == 0
    assert waiting.lines[1:] == ['{"n": 1}']
    failing = _started(spawn, server, "enqueue", "t", "-q", queue, "--wait")
    failing.wait_for_line("enqueued as")
    by_hand(lambda hand: hand.fail(queue, "no"))
    assert failing.wait() == 1
    assert failing.lines[1:] == ["headrace: the job ended as FAILED: HANDLER_ERROR: ValueError: no"]
    discarding = _started(spawn, server, "enqueue", "t", "-q", queue, "--wait")
    discarding.wait_for_line("enqueued as")
    by_hand(lambda hand: hand.discard(queue))
    assert discarding.wait() == 1
    assert discarding.lines[1:] == ["headrace: the job ended as CANCELLED: DISCARDED: no need"]


def test_watch_and_wait_for_programs(
    server: Server, spawn: Spawn, by_hand: Callable[..., None], eventually: Eventually, queue: str
) -> None:
    """With the global --json, --watch prints JSON lines, the answer first and every step, --wait the job in the end."""
    watching = _started(spawn, server, "--json", "enqueue", "t", "-q", queue, "--watch")
    watching.wait_for_line("TRANSITION")
    by_hand(lambda hand: hand.discard(queue))
    assert watching.wait() == 1
    stored, *events = [json.loads(line) for line in watching.lines]
    assert (stored["version"], stored["state"]) == (1, "QUEUED")
    assert [(event["version"], event["state"]) for event in events] == [
        (1, "QUEUED"),
        (2, "PROCESSING"),
        (3, "CANCELLED"),
    ]
    waiting = _started(spawn, server, "--json", "enqueue", "t", "-q", queue, "--wait")

    async def succeed(hand: Hand) -> None:
        job = await eventually(lambda: hand.poll(queue))
        await hand.finish(job, Succeeded(result=b"[1]"))

    by_hand(succeed)
    assert waiting.wait() == 0
    assert json.loads("\n".join(waiting.lines))["result"] == [1]


def test_dead_letters_are_listed(run: Run, by_hand: Callable[..., None], queue: str) -> None:
    """`dlq list` shows a table, pages with its token, and --json has the same for programs."""
    ids = []
    for n in range(3):
        ids.append(_id(run, queue))
        by_hand(lambda hand, n=n: hand.fail(queue, f"broken {n}"))
    page = run("dlq", "list", "--queue", queue, "--limit", "2").out
    assert re.findall(r"^[0-9A-Z]{26}", page, re.MULTILINE) == [ids[2], ids[1]]
    assert "HANDLER_ERROR: ValueError: broken 2" in page
    assert "2 of 3 dead letters." in page
    next_page = re.search(r"^Next page: headrace (.+)$", page, re.MULTILINE)[1].split()
    assert re.findall(r"^[0-9A-Z]{26}", run(*next_page).out, re.MULTILINE) == [ids[0]]
    token = next_page[-1]
    document = run("dlq", "list", "-q", queue, "--page-token", token, "--limit", "2", "--json").document
    assert [job["job_id"] for job in document["jobs"]] == [ids[0]]
    assert (document["next_page_token"], document["total_size"]) == ("", 3)
    assert document["jobs"][0]["failure"]["message"] == "broken 0"
    assert run("dlq", "list", "-q", f"{queue}-none").out == "No dead letters.\n"
    refused = run("dlq", "list", "-q", "another", "--page-token", token)
    assert (refused.code, refused.out) == (67, "")
    assert refused.err.startswith("headrace: page_token: ")


def test_lines_for_a_pipe_are_not_broken(run: Run, by_hand: Callable[..., None], queue: str) -> None:
    """Regression: where no terminal says how wide it is, lines ended at column 80, within commands, ids and errors."""
    long = "x" * 150
    job_id = _id(run, queue)
    by_hand(lambda hand: hand.fail(queue, long))
    _id(run, queue)
    by_hand(lambda hand: hand.fail(queue, "again"))
    assert f"\nfailure   HANDLER_ERROR: ValueError: {long}" in run("get", job_id, COLUMNS="").out
    page = run("dlq", "list", "-q", queue, "--limit", "1", COLUMNS="").out
    assert re.search(rf"^Next page: headrace dlq list --queue {queue} --limit 1 --page-token \S+$", page, re.MULTILINE)


def test_control_characters_are_shown_not_sent(run: Run, by_hand: Callable[..., None], queue: str) -> None:
    """What a job carries cannot take over the terminal: its control characters are spelled out."""
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m"
    job_id = _id(run, queue, "--payload", evil)
    by_hand(lambda hand: hand.fail(queue, evil))
    shown = [run("get", job_id), run("watch", job_id, "--after-version", "0"), run("dlq", "list", "-q", queue)]
    for done in shown:
        assert r"\x1b]0;owned\x07\x1b[2J\x9b31m" in re.sub(r"\s", "", done.out)
        assert not set(evil) & {"\x1b", "\x07", "\x9b"} & set(done.out)


def test_version_names_what_runs(run: Run) -> None:
    """`version` needs no server and answers people and programs."""
    lines = run("version", HEADRACE_ADDRESS="nowhere:1").out.splitlines()
    assert [line.split()[0] for line in lines] == ["headrace", "python", "grpcio", "protobuf"]
    document = run("version", "--json").document
    assert lines == [f"{name:<9} {number}" for name, number in document.items()]
    assert document["python"] == ".".join(map(str, sys.version_info[:3]))
    assert run("--version").out.splitlines() == lines


def test_no_server_is_one_line_that_says_what_to_do(run: Run, unused_tcp_port: int) -> None:
    """Where no server is, each verb ends at once with 78 (UNAVAILABLE) and names the way out."""
    address = f"localhost:{unused_tcp_port}"
    for arguments in (["enqueue", "t"], ["get", NO_JOB], ["watch", NO_JOB], ["dlq", "list"]):
        done = run("--server", address, *arguments)
        assert (done.code, done.out) == (78, "")
        assert done.err == (
            f"headrace: no server answers at {address}. Start one with `headrace dev`, or name another with --server.\n"
        )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["get", NO_JOB], 69, f"headrace: there is no job {NO_JOB}"),
        (["watch", NO_JOB], 69, f"headrace: there is no job {NO_JOB}"),
        (["get", "no-id"], 67, "headrace: job_id: must be 26 characters"),
        (["enqueue", "bad type"], 67, "headrace: job.type: must be 1 to 128"),
        (["get", NO_JOB, "-s", "http://localhost:50051"], 2, "headrace: 'http://localhost:50051' is a URL"),
        (["enqueue", "t", "--json", '{"a":}'], 2, "--json is not JSON at line 1, column 6: Expecting value"),
        (["enqueue", "t", "--json", "NaN"], 2, "--json is not JSON: NaN is not a JSON number"),
        (["enqueue", "t", "-"], 2, "standard input is not JSON at line 1, column 1"),
        (["enqueue", "t", "--file", "/no/such/file"], 2, "cannot read /no/such/file: No such file or directory"),
        (["enqueue", "t", "--json", "1", "--payload", "x"], 2, "give one of --json, --payload, --file and -"),
        (["enqueue", "t", "x"], 2, "'x' follows the type"),
        (["enqueue", "t", "--label", "blue"], 2, "'blue' is not KEY=VALUE"),
        (["enqueue", "t", "-l", "a=1", "-l", "a=2"], 2, "'a' is given twice"),
        (["enqueue", "t", "--delay", "soon"], 2, "'--delay': 'soon' is not a duration such as 3s, 1m30s, 2h or"),
        (["enqueue", "t", "--timeout", "-3s"], 2, "'--timeout': '-3s' is not a duration"),
        (["enqueue", "t", "--at", "tomorrow"], 2, "'--at': 'tomorrow' is not a time in ISO 8601"),
        (["enqueue", "t", "--at", "2030-01-01", "--delay", "1s"], 2, "give either --delay or --at"),
        (["enqueue", "t", "--wait", "--watch"], 2, "give one of --wait, --watch and --id-only"),
        (["enqueue", "t", "--priority", "urgent"], 2, "'urgent' is not one of"),
        (["enqueue", "t", "--durability", "perfect"], 2, "'perfect' is not one of"),
        (["enqueue", "t", "--durability", "fsynced"], 73, "durability: FSYNCED cannot be had from this store"),
        (["enqueue", "t", "--max-attempts", "0"], 2, "Invalid value for '--max-attempts'"),
        (["enqueue"], 2, "Missing argument 'TYPE'"),
        (["qet", NO_JOB], 2, "No such command 'qet'"),
    ],
)
def test_mistakes_are_told_in_a_line(run: Run, arguments: list[str], code: int, told: str) -> None:
    """A beginner's mistake ends with its exit code and a line that says what was wrong, never with a traceback."""
    done = run(*arguments)
    assert (done.code, done.out) == (code, "")
    assert told in " ".join(done.err.split())


def test_help_says_what_there_is(run: Run) -> None:
    """`headrace` alone shows the verbs, and each verb explains its options."""
    verbs = ["dev", "enqueue", "get", "watch", "dlq", "version"]
    for arguments in ([], ["--help"]):
        done = run(*arguments)
        assert [verb for verb in verbs if f"  {verb} " in done.out + done.err] == verbs
    assert "--worker" in run("dev", "--help").out
    assert "--label" in run("enqueue", "--help").out
    assert "list" in run("dlq").out + run("dlq").err


def test_completion_offers_the_verbs(run: Run) -> None:
    """Shell completion knows the verbs, and `dev` among them."""
    done = run(_HEADRACE_COMPLETE="complete_bash", COMP_WORDS="headrace ", COMP_CWORD="1")
    assert set(done.out.split()) == {"dev", "enqueue", "get", "watch", "dlq", "version"}


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}])
def test_colours_are_for_terminals(server: Server, run: Run, queue: str, environment: dict[str, str]) -> None:
    """On a terminal states have colours, unless NO_COLOR says otherwise; in a pipe they never do."""
    job_id = _id(run, queue)
    assert ESCAPE not in run("get", job_id).out
    shown = b"".join(_on_terminal([COMMAND, "-s", server.target, "get", job_id], environment)).decode()
    assert "QUEUED" in shown
    assert (f"{ESCAPE}34m" in shown) == (not environment)


def _on_terminal(command: list[str], environment: dict[str, str]) -> Iterator[bytes]:
    """What a command writes to a terminal."""
    master, slave = pty.openpty()
    settings = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "TERM"}}
    with subprocess.Popen(
        command, stdout=slave, stderr=slave, stdin=slave, env=settings | {"TERM": "xterm"} | environment
    ) as process:
        os.close(slave)
        while True:
            try:
                written = os.read(master, 4_096)
            except OSError:  # how Linux tells that the other side has closed
                break
            if not written:
                break
            yield written
        assert process.wait() == 0
    os.close(master)


def _started(spawn: Spawn, server: Server, *arguments: str) -> Process:
    return spawn(COMMAND, "-s", server.target, *arguments)
