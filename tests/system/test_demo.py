"""The demo, run as a newcomer runs it: real processes, real modules, real failures."""

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.processes import Process, Spawn
from harness.waiting import EventuallySync

_ROOT = Path(__file__).parents[2]
_RUNS = r" [1-9][\d,]* of [\d,]+ done"
_TITLE = "Try next"


@pytest.fixture
def start_demo(spawn: Spawn, tmp_path: Path) -> Callable[..., Process]:
    """`start_demo("--limit", "60")`: the demo, with its temporary files and its working directory in `tmp_path`."""
    environment = {"PYTHONPATH": str(_ROOT), "TMPDIR": str(tmp_path)}

    def start(*options: str, **more: str) -> Process:
        command = ("python", "-m", "examples.measure", *options)
        return spawn(*command, environment={**environment, **more}, directory=tmp_path)

    return start


def _count(process: Process, what: str) -> int:
    """A number of the summary."""
    return int(process.wait_for_line(rf"^ *([\d,]+)  {what}\b")[1].replace(",", ""))


def _dead_letters(process: Process) -> dict[str, str]:
    """The summary's dead letters: their errors, by module."""
    table = re.search(r"^Dead letters \(\d+\) *\nmodule .*\n((?:.*\S.*\n)+)", process.output, re.MULTILINE)
    assert table
    rows = re.findall(r"^(\S+) +3  (.+(?:\n .+)*)", table[1], re.MULTILINE)
    return {module: " ".join(error.split()) for module, error in rows}


def _commands(process: Process) -> list[str]:
    """The commands that the demo says to try next."""
    after = process.output.partition(_TITLE)[2].splitlines()[1:]
    return [line.strip() for line in after if line.startswith("  ")]


def _assert_gone(process: Process, tmp_path: Path) -> None:
    assert process.family() == {}
    assert list(tmp_path.iterdir()) == []


def test_demo_does_real_work_and_ends_by_itself(start_demo: Callable[..., Process], tmp_path: Path) -> None:
    """Every job is accounted for: most succeed, some wait for their time, broken modules fail three times and end as
    dead letters with their errors; then all is stopped, with exit code 0. A store that the environment names is left
    alone.
    """
    demo = start_demo("--limit", "60", REDIS_URL="redis://127.0.0.1:1/0", HEADRACE_QUEUES="mine")
    assert demo.wait(within=50) == 0
    assert _count(demo, "jobs") == 60
    dead = _count(demo, "dead-lettered")
    assert dead >= 3
    assert _count(demo, "succeeded") == 60 - dead
    assert _count(demo, "retried") == dead
    demo.wait_for_line(rf"^ *{dead}  retried +{2 * dead} more attempts")
    errors = _dead_letters(demo)
    assert len(errors) == dead
    assert all(re.match(r"(SyntaxError|ValueError): .+", error) for error in errors.values())
    demo.wait_for_line(r" [1-9]\d* scheduled, ")
    demo.wait_for_line(r" [1-9]\d* retrying, ")
    demo.wait_for_line(r"^argparse\.py +\d,\d{3} +\d+ +\d+ +\d+$")
    assert _commands(demo)[0] == "make demo KEEP=1"
    assert len(_commands(demo)) == 3
    _assert_gone(demo, tmp_path)


def test_binary_modules_stand_in_where_none_are_broken(start_demo: Callable[..., Process], tmp_path: Path) -> None:
    """Where no module is known to be broken, three binary extension modules take their part, and the demo says so."""
    demo = start_demo("--library", str(_ROOT / "examples"))
    assert demo.wait(within=50) == 0
    demo.wait_for_line("3 binary ones stand in")
    errors = _dead_letters(demo)
    assert len(errors) == _count(demo, "dead-lettered") == 3
    assert all(module.endswith(".so") and "null bytes" in error for module, error in errors.items())
    demo.wait_for_line(r"^measure/worker\.py +\d+ ")
    _assert_gone(demo, tmp_path)


def test_kept_stack_takes_the_commands_as_they_are_printed(
    start_demo: Callable[..., Process], spawn: Spawn, tmp_path: Path
) -> None:
    """With --keep the stack stays up, the three commands work when they are pasted, and Ctrl-C stops everything, with
    exit code 0; the data is kept.
    """
    demo = start_demo("--keep", "--limit", "12", "--listen", "127.0.0.1:0")
    demo.wait_for_line("Ctrl-C stops everything", within=50)
    outputs = []
    for command in _commands(demo):
        pasted = spawn("bash", "-c", command, directory=tmp_path)
        assert pasted.wait(within=20) == 0, pasted.output
        outputs.append(pasted.output)
    listed, shown, measured = outputs
    assert f"of {_count(demo, 'dead-lettered')} dead letters" in listed
    assert re.search(r"state +FAILED", shown)
    assert re.search(r"SCHEDULED[\s\S]*SUCCEEDED[\s\S]*\"lines\": \d+", measured)
    demo.signal(signal.SIGINT)
    assert demo.wait(within=20) == 0
    assert demo.family() == {}
    assert [path.name for path in tmp_path.iterdir()] == [".headrace"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signal_stops_everything(number: signal.Signals, start_demo: Callable[..., Process], tmp_path: Path) -> None:
    """Ctrl-C and a closed terminal in the middle of the work end it in order, and nothing is left behind."""
    demo = start_demo()
    demo.wait_for_line(_RUNS, within=30)
    demo.signal(number)
    assert demo.wait(within=20) == 130
    assert demo.lines[-1] == "demo: interrupted; everything is stopped"
    assert "Traceback" not in demo.output
    _assert_gone(demo, tmp_path)


def test_killed_demo_leaves_no_process(start_demo: Callable[..., Process], eventually_sync: EventuallySync) -> None:
    """After a SIGKILL of the demo itself the stack stops by itself."""
    demo = start_demo(HEADRACE_GRACE="1")
    demo.wait_for_line("are up after", within=30)
    demo.kill()
    eventually_sync(lambda: not demo.family(), within=20)


def test_stack_that_cannot_start_is_one_clear_line(start_demo: Callable[..., Process], tmp_path: Path) -> None:
    """A taken port ends the demo with exit code 1 and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        demo = start_demo("--limit", "12", "--listen", address)
        assert demo.wait(within=20) == 1
    assert demo.lines[-1].startswith(f"demo: the stack did not start: cannot listen on {address}: ")
    assert "Traceback" not in demo.output
    _assert_gone(demo, tmp_path)


def test_stack_that_dies_is_one_clear_line(
    start_demo: Callable[..., Process], tmp_path: Path, eventually_sync: EventuallySync
) -> None:
    """When the stack dies in the middle of the work the demo ends with exit code 1 and says so."""
    demo = start_demo(HEADRACE_GRACE="1")  # seconds that the worker waits for Valkey, to write what it has done
    demo.wait_for_line(_RUNS, within=30)
    (dev,) = (pid for pid, command in demo.family().items() if "headrace dev" in command)
    os.kill(dev, signal.SIGKILL)
    assert demo.wait(within=20) == 1
    assert demo.lines[-1] == "demo: the stack stopped: headrace dev was killed by SIGKILL"
    assert "Traceback" not in demo.output
    eventually_sync(lambda: not demo.family(), within=20)
    assert list(tmp_path.iterdir()) == []


def test_demo_survives_a_killed_server(start_demo: Callable[..., Process], tmp_path: Path) -> None:
    """A SIGKILL of the server in the middle of the work costs no job and no event: the counts come out the same."""
    demo = start_demo("--limit", "300")
    demo.wait_for_line(_RUNS, within=30)
    (server,) = (pid for pid, command in demo.family().items() if "-m headrace_server" in command)
    os.kill(server, signal.SIGKILL)
    assert demo.wait(within=50) == 0
    assert _count(demo, "succeeded") + _count(demo, "dead-lettered") == _count(demo, "jobs") == 300
    _assert_gone(demo, tmp_path)


_OUTCOMES = """
from collections import Counter
from examples.measure.run import DemoFailedError, check
from examples.measure.tally import Tally
from headrace import JobState

for states in ({JobState.SUCCEEDED: 9}, {JobState.SUCCEEDED: 9, JobState.CANCELLED: 1}, {JobState.FAILED: 10}):
    try:
        check(Tally(total=10, states=Counter(states)), {})
    except DemoFailedError as failure:
        print(failure)
"""


def test_lost_job_is_a_failure(spawn: Spawn) -> None:
    """Unless succeeded and dead-lettered jobs add up to all, and the DLQ holds the latter, the demo fails."""
    process = spawn("python", "-c", _OUTCOMES, directory=_ROOT)
    assert process.wait() == 0
    assert process.lines == [
        "of 10 jobs 9 succeeded and 0 failed: some got lost",
        "of 10 jobs 9 succeeded and 0 failed: some got lost",
        "10 jobs failed for good, but 0 are in the dead letter queue",
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--limit", "0"), "argument --limit: 0 is less than 1"),
        (("--limit", "many"), "argument --limit: invalid"),
        (("--library", "nowhere"), "argument --library: nowhere is not a directory"),
        (("--library", "."), "demo: there are no .py files below"),
    ],
)
def test_mistake_is_one_clear_line(options: tuple[str, str], reason: str, start_demo: Callable[..., Process]) -> None:
    """A wrong option is refused in words, before anything starts."""
    demo = start_demo(*options)
    assert demo.wait() in {1, 2}
    assert reason in demo.lines[-1]
    assert "Traceback" not in demo.output
