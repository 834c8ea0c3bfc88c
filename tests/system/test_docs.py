"""The documentation tells the truth: its programs run, and its commands do what they say."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.processes import Process, Spawn
from headrace import Client, JobState

_ROOT = Path(__file__).parents[2]
_BIN = Path(sys.executable).parent
_BLOCK = re.compile(r"<!-- test: (?P<what>[^>]+?) -->\n```python\n(?P<code>.*?)```", re.DOTALL)
_COMMAND = re.compile(r"^\$ ((?:grpcurl|headrace) .+)$", re.MULTILINE)
_JOB = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b")


def programs(document: str, what: str) -> list[str]:
    """The Python programs of a document with this mark above them."""
    text = (_ROOT / document).read_text()
    return [found["code"] for found in _BLOCK.finditer(text) if found["what"] == what]


def commands(document: str, first: str) -> list[str]:
    """The commands of a document that begin with these words."""
    return [one for one in _COMMAND.findall((_ROOT / document).read_text()) if one.startswith(first)]


class Stack:
    """A `headrace dev` with the README's worker in a directory of its own."""

    def __init__(self, process: Process, directory: Path) -> None:
        self.directory = directory
        process.wait_for_line(r"headrace is ready", within=20)
        self.address = process.wait_for_line(r"^  server  (\S+)")[1]

    def here(self, text: str) -> str:
        """A text of the documentation with the address of this server."""
        return text.replace("localhost:50051", self.address)


StartStack = Callable[..., Stack]


@pytest.fixture
def start_stack(spawn: Spawn, tmp_path: Path) -> Iterator[StartStack]:
    """`start_stack("--worker", "tasks:worker")`: a reader's stack, beside the programs to save."""
    (tmp_path / "tasks.py").write_text(programs("README.md", "save as tasks.py")[0])
    (tmp_path / "handlers.py").write_text(programs("docs/workers.md", "save as handlers.py")[0])
    started: list[Process] = []

    def start(*options: str) -> Stack:
        command = (str(_BIN / "headrace"), "dev", "--listen", "127.0.0.1:0", *options)
        started.append(spawn(*command, directory=tmp_path))
        return Stack(started[-1], tmp_path)

    yield start
    assert [process.stop(within=30) for process in started] == [0] * len(started)


def test_the_python_programs_of_the_readme_run(spawn: Spawn, start_stack: StartStack, tmp_path: Path) -> None:
    """The two client programs of the README, word for word, print what became of their jobs."""
    stack = start_stack()
    outputs = []
    for number, code in enumerate(programs("README.md", "run")):
        program = tmp_path / f"program{number}.py"
        program.write_text(stack.here(code))
        process = spawn("python", str(program), directory=tmp_path)
        assert process.wait(within=20) == 0, process.output
        outputs.append(process.output)

    assert "SUCCEEDED" in outputs[0]
    assert outputs[0].endswith("{'msg': 'hello'}")
    assert outputs[1] == str(sum(range(100)))


def test_the_program_of_the_queues_page_runs(spawn: Spawn, start_stack: StartStack, tmp_path: Path) -> None:
    """The client program of docs/queues.md, word for word, pauses a queue and sees it; its grpcurl commands work."""
    stack = start_stack()
    (code,) = programs("docs/queues.md", "run")
    program = tmp_path / "queues.py"
    program.write_text(stack.here(code))
    process = spawn("python", str(program), directory=tmp_path)
    assert process.wait(within=20) == 0, process.output
    assert "1 True the mail server moves" in process.lines
    assert "mail 0 0" in process.lines

    for command in commands("docs/queues.md", "grpcurl"):
        call = spawn(str(_BIN / "grpcurl"), *shlex.split(stack.here(command))[1:])
        assert call.wait(within=20) == 0, call.output
        assert '"name": "mail"' in call.output


def test_the_handlers_of_the_readme_do_what_their_comments_say(start_stack: StartStack) -> None:
    """A busy mail server is retried, a bad address is a dead letter at once, a number is factored in a process."""
    stack = start_stack("--worker", "tasks:worker")
    with Client(stack.address) as client:
        assert client.enqueue("number.factor", 91).result(timeout=20) == [7, 13]

        sent = client.enqueue("mail.send", {"to": "a@example.org"})
        assert sent.result(timeout=20) == {"sent_to": "a@example.org"}
        assert sent.get().attempt == 2

        bad = client.enqueue("mail.send", {"to": "nobody"})
        ended = list(bad.watch())[-1]
        assert (ended.state, ended.attempt) == (JobState.FAILED, 1)
        assert [job.job_id for job in client.dlq()] == [bad.job_id]


def test_the_handlers_of_the_workers_page_do_what_its_table_says(spawn: Spawn, start_stack: StartStack) -> None:
    """Results, Discard and Snooze of docs/workers.md end as the page says, and its command starts the worker."""
    stack = start_stack()
    (command,) = [line for line in _workers_commands() if line.endswith("handlers:worker")]
    program, *options = command.split()
    store = {"HEADRACE_REDIS_URL": f"unix://{stack.directory}/.headrace/valkey.sock"}
    worker = spawn(str(_BIN / program), *options, "--queues", "reports", directory=stack.directory, environment=store)
    worker.wait_for_line("worker ready")
    with Client(stack.address) as client:
        fetched = client.enqueue("page.fetch", {"url": "u"}, queue="reports")
        assert fetched.result(timeout=20) == {"url": "u", "status": 200}
        assert client.enqueue("image.scale", "a", queue="reports").result(timeout=20) == "A"
        copied = client.enqueue("table.copy", queue="reports")
        assert copied.result(timeout=20) is None
        gone = client.enqueue("report.send", {"unsubscribed": True}, queue="reports")
        assert list(gone.watch())[-1].state is JobState.CANCELLED
        later = client.enqueue("report.send", {}, queue="reports")
        snoozed = next(event for event in later.watch(after_version=0) if event.version == 3)
        assert (snoozed.state, snoozed.reason, snoozed.attempt) == (JobState.SCHEDULED, "SNOOZED", 0)


def _workers_commands() -> list[str]:
    text = (_ROOT / "docs/workers.md").read_text()
    return re.findall(r"^\$ (headrace-worker .+)$", text, re.MULTILINE)


@pytest.mark.skipif(not (_BIN / "grpcurl").exists(), reason="the package with grpcurl is for Linux on x86-64 alone")
def test_the_grpcurl_commands_of_the_readme_tell_a_jobs_whole_story(spawn: Spawn, start_stack: StartStack) -> None:
    """Enqueue answers with a jobId, and StreamStatus shows four states with versions 1 to 4, and ends."""
    stack = start_stack()
    enqueue, watch = (shlex.split(stack.here(one)) for one in commands("README.md", "grpcurl"))

    answered = spawn(str(_BIN / "grpcurl"), *enqueue[1:])
    assert answered.wait() == 0, answered.output
    job_id = json.loads(answered.output)["jobId"]
    watched = spawn(str(_BIN / "grpcurl"), *(_JOB.sub(job_id, word) for word in watch[1:]))
    assert watched.wait(within=20) == 0, watched.output

    messages = [json.loads(text + "}") for text in re.split(r"^}$", watched.output, flags=re.MULTILINE) if text.strip()]
    told = [(m["version"], m["state"]) for m in messages if m["kind"] in {"KIND_SNAPSHOT", "KIND_TRANSITION"}]
    assert told == [(1, "STATE_SCHEDULED"), (2, "STATE_QUEUED"), (3, "STATE_PROCESSING"), (4, "STATE_SUCCEEDED")]


def test_the_headrace_commands_of_the_readme_work(spawn: Spawn, start_stack: StartStack) -> None:
    """The commands for people, word for word but for the job's id, end well."""
    stack = start_stack()
    job_id = ""
    ran = 0
    for command in commands("README.md", "headrace"):
        words = shlex.split(command)
        if words[1] == "dev":
            continue
        process = spawn(
            str(_BIN / "headrace"), *(_JOB.sub(job_id, word) for word in words[1:]),
            environment={"HEADRACE_ADDRESS": stack.address},
        )  # fmt: skip
        assert process.wait(within=20) == 0, process.output
        job_id = (_JOB.search(process.output) or [job_id])[0]
        ran += 1
    assert ran == 3


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "SECURITY.md", *(
    str(path.relative_to(_ROOT)) for path in sorted((_ROOT / "docs").glob("*.md"))
)])  # fmt: skip
def test_every_link_of_a_document_leads_somewhere(document: str) -> None:
    """Relative links name files that exist."""
    path = _ROOT / document
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_test_that_a_document_names_exists() -> None:
    """A promise with a test beside it has that test: `room/test_x.py`, with or without the name of a function."""
    documents = ("docs/internals.md", "docs/guarantees.md", "docs/failures.md")
    text = "".join((_ROOT / document).read_text() for document in documents)
    named = re.findall(r"`(\w+/test_\w+\.py)(?:::(test_\w+))?`", text)
    assert len(named) >= 80
    missing = [
        (path, name)
        for path, name in named
        if not (_ROOT / "tests" / path).exists() or f"def {name or 'test_'}" not in (_ROOT / "tests" / path).read_text()
    ]
    assert missing == []


_DROPPED = {7, 12, 19, 20, 29, 45, 54, 59}
_FAILURES = [f"F{number:02}" for number in range(1, 71) if number not in _DROPPED]


def test_every_failure_of_the_page_has_a_proof() -> None:
    """Each row of docs/failures.md has a number of its own, in order, and names a test or says why there is none; no
    failure that we know of is left out.
    """
    text = (_ROOT / "docs/failures.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] == "| F"]
    numbers = [row[0] for row in rows]
    assert numbers == sorted(set(numbers))
    assert [number for number in _FAILURES if number not in numbers] == []
    assert [row for row in rows if len(row) != 4 or not all(row)] == []
    unproved = [row[0] for row in rows if "::test_" not in row[3] and not row[3].startswith("does not apply: ")]
    assert unproved == []
