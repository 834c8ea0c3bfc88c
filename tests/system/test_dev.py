"""`headrace dev`: Valkey, server and worker as real processes, started, kept up and stopped as one."""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.processes import Process, Spawn
from harness.stores import Store
from harness.waiting import EventuallySync
from headrace import Client, JobState

_HEADRACE = str(Path(sys.executable).with_name("headrace"))
_READY = r"headrace is ready \(([\d.]+) s\)"
_JOBS = """
import asyncio
import os
from pathlib import Path
from headrace_worker import Worker

worker = Worker()

@worker.handler("gate")
async def gate():
    Path("entered").touch()
    while not Path("open").exists():
        await asyncio.sleep(0.01)
    return os.getpid()

@worker.handler("value")
async def value():
    return "first"
"""


class Dev:
    """One `headrace dev` on a port of its own; `client` talks to its server."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._clients: list[Client] = []

    def until_ready(self, *, within: float = 20.0) -> "Dev":
        """Itself, once the banner is there."""
        self.process.wait_for_line(_READY, within=within)
        return self

    @property
    def address(self) -> str:
        """Where its server listens, by the banner."""
        return self.process.wait_for_line(r"^  server  (\S+)")[1]

    @property
    def client(self) -> Client:
        """A client of its server."""
        if not self._clients:
            self._clients.append(Client(self.address))
        return self._clients[0]

    def pid_of(self, part: str) -> int:
        """The pid of the process whose command line holds `part`."""
        (pid,) = (pid for pid, command in self.process.family().items() if part in command)
        return pid

    def close(self) -> None:
        """Close the client; the process belongs to `spawn`."""
        for client in self._clients:
            client.close()


@pytest.fixture
def start_dev(spawn: Spawn, tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    """`start_dev("--worker", "jobs:worker", environment={…})`: on a free port, in the test's own directory."""
    started: list[Dev] = []
    (tmp_path / "jobs.py").write_text(_JOBS)

    def start(*options: str, environment: dict[str, str] | None = None) -> Dev:
        command = (_HEADRACE, "dev", "--listen", "127.0.0.1:0", *options)
        started.append(Dev(spawn(*command, environment=environment, directory=tmp_path)))
        return started[-1]

    yield start
    for dev in started:
        dev.close()


_VALKEY, _SERVER, _WORKER = "valkey-server", "-m headrace_server", "-m headrace_worker"


def test_ready_in_under_two_seconds(start_dev: Callable[..., Dev]) -> None:
    """From the command to the ready banner it takes less than 2 s (the best of three, the machine being shared)."""
    taken = []
    for _ in range(3):
        begun = time.monotonic()
        dev = start_dev().until_ready()
        taken.append(time.monotonic() - begun)
        assert dev.process.stop(within=20) == 0
    assert min(taken) < 2.0


def test_runs_three_processes_that_do_a_job(start_dev: Callable[..., Dev], tmp_path: Path) -> None:
    """A real Valkey, the server and a worker run beside the command itself, and together they run a job."""
    dev = start_dev().until_ready()
    commands = list(dev.process.family().values())
    assert len(commands) == 4
    assert [sum(part in command for command in commands) for part in (_VALKEY, _SERVER, _WORKER)] == [1, 1, 1]
    assert dev.client.enqueue("echo.process", {"msg": "hello"}).result(timeout=10) == {"msg": "hello"}
    assert (tmp_path / ".headrace" / "appendonlydir").is_dir()


def test_banner_names_what_runs_and_what_to_try(start_dev: Callable[..., Dev], tmp_path: Path) -> None:
    """The banner shows address, worker, store, data directory, and three commands to try."""
    output = start_dev().until_ready().process
    output.wait_for_line("Ctrl-C stops everything")
    assert re.search(r"^  server  127\.0\.0\.1:\d+$", output.output, re.MULTILINE)
    assert re.search(r"^  worker  headrace_worker\.echo:worker$", output.output, re.MULTILINE)
    assert re.search(rf"^  store   embedded Valkey, unix://{tmp_path}/\.headrace/", output.output, re.MULTILINE)
    assert re.search(rf"^  data    {tmp_path}/\.headrace, kept", output.output, re.MULTILINE)
    for command in ("enqueue echo.process", "grpcurl -plaintext -d", "dlq list"):
        assert command in output.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_all_in_order(number: signal.Signals, start_dev: Callable[..., Dev], tmp_path: Path) -> None:
    """Ctrl-C, SIGTERM and a closed terminal stop the worker, then the server, then Valkey; nothing is left behind."""
    process = start_dev().until_ready().process
    process.signal(number)
    assert process.wait(within=20) == 0
    ends = [line for line in process.lines if "ended" in line]
    assert [line.split("│")[1].split()[0] for line in ends] == ["worker", "server", "valkey"]
    assert process.family() == {}
    assert not (tmp_path / ".headrace" / "valkey.sock").exists()


def test_running_job_may_finish_at_a_stop(
    start_dev: Callable[..., Dev], tmp_path: Path, eventually_sync: EventuallySync
) -> None:
    """A job that runs when Ctrl-C comes is finished, not lost and not run again."""
    dev = start_dev("--worker", "jobs:worker").until_ready()
    job = dev.client.enqueue("gate")
    eventually_sync((tmp_path / "entered").exists)
    dev.process.signal(signal.SIGINT)
    dev.process.wait_for_line("stopping")
    (tmp_path / "open").touch()
    assert dev.process.wait(within=20) == 0
    again = start_dev("--worker", "jobs:worker").until_ready()
    found = again.client.get(job.job_id)
    assert (found.state, found.attempt) == (JobState.SUCCEEDED, 1)


@pytest.mark.parametrize("options", [(), ("--reload",)])
def test_second_interrupt_kills(
    options: tuple[str, ...], start_dev: Callable[..., Dev], tmp_path: Path, eventually_sync: EventuallySync
) -> None:
    """With a job that never ends, a second Ctrl-C ends everything at once, with exit code 130."""
    dev = start_dev("--worker", "jobs:worker", *options).until_ready()
    dev.client.enqueue("gate")
    eventually_sync((tmp_path / "entered").exists)
    dev.process.signal(signal.SIGINT)
    dev.process.wait_for_line("stopping")
    dev.process.signal(signal.SIGINT)  # at once: the same press, as some wrappers pass it on twice
    eventually_sync(lambda: dev.process.signal(signal.SIGINT) or "killing everything" in dev.process.output)
    assert dev.process.wait(within=5) == 130
    eventually_sync(lambda: not dev.process.family(), within=2)


def test_kill_of_the_parent_leaves_no_orphan(
    start_dev: Callable[..., Dev], tmp_path: Path, eventually_sync: EventuallySync
) -> None:
    """After a SIGKILL of the command itself, Valkey, server and worker end by themselves, a running job or not."""
    dev = start_dev("--worker", "jobs:worker").until_ready()
    dev.client.enqueue("gate")
    eventually_sync((tmp_path / "entered").exists)
    dev.process.kill()
    eventually_sync(lambda: not dev.process.family(), within=5)


def test_data_is_there_at_the_next_start(start_dev: Callable[..., Dev]) -> None:
    """A job that was enqueued before a stop runs after the next start."""
    first = start_dev().until_ready()
    job = first.client.enqueue("echo.process", "kept", delay=2)
    assert first.process.stop(within=20) == 0
    second = start_dev().until_ready()
    assert second.client.result(job.job_id, timeout=15) == "kept"


def test_second_instance_on_the_same_data_is_refused(start_dev: Callable[..., Dev], tmp_path: Path) -> None:
    """A second `headrace dev` on the same directory ends with exit code 3 and one line that says who holds it."""
    first = start_dev().until_ready()
    second = start_dev().process
    assert second.wait() == 3
    (line,) = second.lines
    assert line.startswith(f"headrace: {tmp_path}/.headrace is in use by another Valkey (pid {first.pid_of(_VALKEY)})")


def test_port_in_use_is_one_clear_line(spawn: Spawn, tmp_path: Path) -> None:
    """A taken port is refused before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = spawn(_HEADRACE, "dev", "--listen", address, directory=tmp_path)
        assert process.wait() == 1
    assert process.lines == [
        f"headrace: cannot listen on {address}: Address already in use. Stop what listens there, or change --listen"
    ]
    assert not (tmp_path / ".headrace").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--worker", "nowhere.jobs:worker"), "nowhere"),
        (("--worker", "jobs:nobody"), "nobody"),
        (("--worker", "jobs"), "expected MODULE:ATTRIBUTE"),
        (("--listen", "nonsense"), "expected HOST:PORT"),
        (("--listen", "no.such.host.invalid:1"), "cannot listen on no.such.host.invalid:1"),
        (("--data", "jobs.py"), "cannot make the data directory"),
        (("--redis-url", "http://x"), "HEADRACE_REDIS_URL"),
    ],
)
def test_mistake_is_one_clear_line_and_stops_the_rest(
    options: tuple[str, ...], reason: str, start_dev: Callable[..., Dev]
) -> None:
    """The last line says what is wrong, without a traceback; the exit code is not 0, and nothing keeps running."""
    process = start_dev(*options).process
    assert process.wait(within=20) != 0
    last = process.lines[-1]
    assert last.startswith("headrace: ")
    assert reason in last
    assert "Traceback" not in process.output
    assert process.family() == {}


def test_killed_valkey_comes_back_with_its_data(start_dev: Callable[..., Dev]) -> None:
    """After a SIGKILL of Valkey it runs again on the same data: what was enqueued is done, and new jobs run."""
    dev = start_dev().until_ready()
    job = dev.client.enqueue("echo.process", "kept", delay=2)
    os.kill(dev.pid_of(_VALKEY), signal.SIGKILL)
    dev.process.wait_for_line("valkey is up again")
    assert dev.client.result(job.job_id, timeout=20) == "kept"
    assert dev.client.enqueue("echo.process", "new", timeout=20).result(timeout=20) == "new"


@pytest.mark.parametrize(("name", "part"), [("server", _SERVER), ("worker", _WORKER)])
def test_killed_program_is_started_again(name: str, part: str, start_dev: Callable[..., Dev]) -> None:
    """After a SIGKILL of the server or the worker it is started again, says why, and jobs run."""
    dev = start_dev().until_ready()
    assert dev.client.enqueue("echo.process", 1).result(timeout=10) == 1
    os.kill(dev.pid_of(part), signal.SIGKILL)
    dev.process.wait_for_line(f"{name} was killed by SIGKILL; starting it again")
    dev.process.wait_for_line(f"{name} is up again")
    assert dev.client.enqueue("echo.process", 2, timeout=20).result(timeout=20) == 2


def test_program_that_keeps_dying_stops_the_rest(start_dev: Callable[..., Dev]) -> None:
    """After the fifth death within a minute everything stops, with its last lines and an exit code that is not 0."""
    dev = start_dev().until_ready()
    for death in range(5):
        seen = len(dev.process.lines)
        os.kill(dev.pid_of(_VALKEY), signal.SIGKILL)
        if death < 4:
            dev.process.wait_for_line("valkey is up again", after=seen)
    assert dev.process.wait(within=30) == 1
    assert "valkey was killed by SIGKILL, the 5th time in a minute; its last lines:" in dev.process.output
    assert dev.process.family() == {}


@pytest.mark.parametrize("variable", ["REDIS_URL", "HEADRACE_REDIS_URL"])
def test_store_of_the_user_replaces_the_embedded_one(
    variable: str, start_dev: Callable[..., Dev], valkey: str, namespace: str, tmp_path: Path
) -> None:
    """With REDIS_URL or HEADRACE_REDIS_URL no Valkey is started, the banner says so, and jobs live in that store."""
    dev = start_dev(environment={variable: valkey, "HEADRACE_NAMESPACE": namespace}).until_ready()
    assert len(dev.process.family()) == 3
    assert dev.process.wait_for_line(r"^  store   (.*)$")[1] == f"{valkey} (yours)"
    assert dev.client.enqueue("echo.process", "there").result(timeout=10) == "there"
    assert not (tmp_path / ".headrace").exists()
    assert dev.process.stop(within=20) == 0


def test_password_of_the_store_is_never_shown(
    start_dev: Callable[..., Dev], own_valkey: Callable[..., Store], unused_tcp_port: int
) -> None:
    """The banner shows a store's URL without its password."""
    own_valkey("--port", str(unused_tcp_port), "--requirepass", "s3cret")
    dev = start_dev("--redis-url", f"redis://:s3cret@127.0.0.1:{unused_tcp_port}/0").until_ready()
    assert "s3cret" not in dev.process.output
    assert f"redis://:***@127.0.0.1:{unused_tcp_port}/0 (yours)" in dev.process.output


def test_redis_port_opens_the_embedded_valkey(start_dev: Callable[..., Dev], unused_tcp_port: int) -> None:
    """--redis-port lets redis-cli and other workers of this machine in."""
    start_dev("--redis-port", str(unused_tcp_port)).until_ready()
    with socket.create_connection(("127.0.0.1", unused_tcp_port), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(16) == b"+PONG\r\n"


def test_reload_takes_changed_source(
    start_dev: Callable[..., Dev], tmp_path: Path, eventually_sync: EventuallySync
) -> None:
    """With --reload a change of the worker's source is in force for the next job."""
    dev = start_dev("--worker", "jobs:worker", "--reload").until_ready()
    assert dev.client.enqueue("value").result(timeout=10) == "first"
    (tmp_path / "jobs.py").write_text(_JOBS.replace('"first"', '"second"'))
    eventually_sync(lambda: dev.client.enqueue("value").result(timeout=10) == "second", within=20)
    assert dev.process.stop(within=20) == 0
    assert dev.process.family() == {}


def test_concurrency_reaches_the_worker(start_dev: Callable[..., Dev]) -> None:
    """--concurrency N is the worker's."""
    dev = start_dev("--concurrency", "3").until_ready()
    dev.process.wait_for_line(r"worker\s+│.*concurrency=3\b")


def test_lines_carry_their_program_and_colour_only_where_wanted(start_dev: Callable[..., Dev]) -> None:
    """Each line follows its program's name; colours are for terminals (or FORCE_COLOR), and never with NO_COLOR."""
    plain = start_dev("--data", "plain").until_ready().process
    assert re.search(r"^server   │ .*serving", plain.output, re.MULTILINE)
    assert "\x1b[" not in plain.output
    coloured = start_dev("--data", "coloured", environment={"FORCE_COLOR": "1"}).process
    coloured.wait_for_line("\x1b\\[36mserver   │ ", within=20)
    both = start_dev("--data", "both", environment={"FORCE_COLOR": "1", "NO_COLOR": "1"}).until_ready().process
    assert not re.search(r"\x1b\[[\d;]*3\d", both.output)


def test_reader_that_leaves_stops_everything(spawn: Spawn, tmp_path: Path, eventually_sync: EventuallySync) -> None:
    """`headrace dev | head` ends when head does, and leaves nothing behind."""
    command = f"{_HEADRACE} dev --listen 127.0.0.1:0 | head -n 3"
    process = spawn("bash", "-c", command, directory=tmp_path)
    process.wait(within=20)
    assert "Traceback" not in process.output
    eventually_sync(lambda: not process.family(), within=10)


def test_reader_that_leaves_a_quiet_dev_stops_it(spawn: Spawn, tmp_path: Path, eventually_sync: EventuallySync) -> None:
    """Regression: a reader that left after the last line was not missed, and `headrace dev | head` hung."""
    command = f"{_HEADRACE} dev --listen 127.0.0.1:0 | sed '/Ctrl-C stops everything/q'"
    process = spawn("bash", "-c", command, directory=tmp_path)
    process.wait(within=20)
    assert "Ctrl-C stops everything" in process.output
    eventually_sync(lambda: not process.family(), within=10)
