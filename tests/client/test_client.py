"""Client, for code without an event loop, against a real server on a real Valkey."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from client.rig import Hand, Server
from harness.processes import Process, Spawn
from harness.waiting import EventuallySync
from headrace import (
    Client,
    ClientClosed,
    EnqueueError,
    EventKind,
    InvalidRequest,
    JobFailed,
    JobHandle,
    JobNotFound,
    JobState,
    NewJob,
)
from headrace_broker import Broker

NO_JOB = "0" * 26


@pytest.fixture
def by_hand(server: Server) -> Callable[[Callable[[Hand], Awaitable[None]]], None]:
    """`by_hand(moves)`: let a worker by hand make these moves, and return when it has."""

    async def move(moves: Callable[[Hand], Awaitable[None]]) -> None:
        async with Broker(url=server.url, namespace=server.namespace) as broker:
            await moves(Hand(broker))

    return lambda moves: asyncio.run(move(moves))


def test_job_from_enqueue_to_result(sync_client: Client, by_hand: Callable[..., None], queue: str) -> None:
    """Enqueue, get, watch and result do what those of AsyncClient do, in plain calls."""
    handle = sync_client.enqueue("t", {"n": 2**70}, queue=queue, labels={"a": "b"})
    assert isinstance(handle, JobHandle)
    assert handle.get().payload == {"n": 2**70}
    assert sync_client.get(handle.job_id).labels == {"a": "b"}
    by_hand(lambda hand: hand.succeed(queue, {"n": 2**70}))
    assert handle.result(timeout=10) == {"n": 2**70}
    events = list(handle.watch(after_version=0))
    assert [(event.version, event.state) for event in events] == [
        (1, JobState.QUEUED),
        (2, JobState.PROCESSING),
        (3, JobState.SUCCEEDED),
    ]
    assert [event.kind for event in sync_client.watch(handle.job_id)] == [EventKind.SNAPSHOT]
    assert sync_client.ping() is None


def test_errors_are_raised_in_the_calling_thread(sync_client: Client, by_hand: Callable[..., None], queue: str) -> None:
    """What goes wrong in the background is raised where the call was made."""
    with pytest.raises(InvalidRequest):
        sync_client.enqueue("bad type", queue=queue)
    with pytest.raises(JobNotFound):
        sync_client.get(NO_JOB)
    with pytest.raises(JobNotFound):
        next(sync_client.watch(NO_JOB))
    handle = sync_client.enqueue("t", queue=queue)
    with pytest.raises(TimeoutError):
        handle.result(timeout=0.1)
    by_hand(lambda hand: hand.fail(queue))
    with pytest.raises(JobFailed):
        handle.result(timeout=10)


def test_many_jobs_and_dead_letters(sync_client: Client, by_hand: Callable[..., None], queue: str) -> None:
    """`enqueue_many` answers in order, its iterator runs in the calling thread, and `dlq` reads all pages."""
    threads: set[threading.Thread] = set()

    def jobs() -> object:
        for n in range(5):
            threads.add(threading.current_thread())
            yield NewJob("t" if n else "bad type", n, queue=queue)

    outcomes = sync_client.enqueue_many(jobs())
    assert [type(outcome) for outcome in outcomes] == [EnqueueError, *[JobHandle] * 4]
    assert threads == {threading.current_thread()}

    async def fail_all(hand: Hand) -> None:
        for _ in range(4):
            await hand.fail(queue)

    by_hand(fail_all)
    letters = [job.job_id for job in sync_client.dlq(queue, page_size=2)]
    assert sorted(letters) == sorted(handle.job_id for handle in outcomes[1:])
    assert [job.job_id for job in sync_client.dlq_page(queue, page_size=3).jobs] == letters[:3]


def test_many_threads_share_one_client(sync_client: Client, queue: str) -> None:
    """Enqueues from 20 threads are each answered with their own job."""

    def store(n: int) -> tuple[int, object]:
        return n, sync_client.enqueue("t", n, queue=queue).get().payload

    with ThreadPoolExecutor(20) as threads:
        assert all(n == payload for n, payload in threads.map(store, range(200)))


def test_clients_share_one_thread(server: Server, queue: str) -> None:
    """However many clients there are, there is one thread behind them: gRPC wants one event loop in a process."""
    clients = [Client(server.target) for _ in range(5)]
    for one in clients:
        one.enqueue("t", queue=queue)
    assert [thread.name for thread in threading.enumerate()].count("headrace-client") == 1
    for one in clients:
        one.close()


def test_watch_that_is_left_early_frees_its_stream(sync_client: Client, queue: str) -> None:
    """A loop over a watch may be left at any time, and the client goes on."""
    handle = sync_client.enqueue("t", queue=queue, delay=60)
    for event in handle.watch():
        assert event.state is JobState.SCHEDULED
        break
    watch = handle.watch()
    next(watch)
    watch.close()
    assert sync_client.get(handle.job_id).state is JobState.SCHEDULED


def test_closed_client_says_so(server: Server) -> None:
    """`close` is safe twice; a closed client refuses everything by name."""
    client = Client(server.target)
    client.close()
    client.close()
    calls: list[Callable[[], object]] = [
        lambda: client.enqueue("t"),
        lambda: client.get(NO_JOB),
        lambda: client.watch(NO_JOB),
        lambda: client.result(NO_JOB),
        lambda: list(client.dlq()),
        client.ping,
        client.__enter__,
    ]
    for call in calls:
        with pytest.raises(ClientClosed, match="was closed"):
            call()


def test_close_ends_waiting_threads(server: Server, queue: str, eventually_sync: EventuallySync) -> None:
    """Threads that wait for a result when the client is closed get ClientClosed."""
    client = Client(server.target)
    handle = client.enqueue("t", queue=queue, delay=60)
    with ThreadPoolExecutor(2) as threads:
        result = threads.submit(handle.result)
        watched: list[JobState] = []
        watching = threads.submit(lambda: [watched.append(event.state) for event in handle.watch()])
        eventually_sync(lambda: watched)
        client.close()
        for future in (result, watching):
            assert isinstance(future.exception(timeout=5), ClientClosed)


@pytest.fixture
def run_script(spawn: Spawn, tmp_path: Path) -> Callable[..., Process]:
    """`run_script(source, *arguments)`: a program of its own."""
    path = tmp_path / "program.py"

    def run(source: str, *arguments: str) -> Process:
        path.write_text(source)
        return spawn("python", str(path), *arguments)

    return run


FORGETFUL = """
import sys, threading
import headrace
client = headrace.Client(sys.argv[1])
job = client.enqueue("t", queue=sys.argv[2], delay=60)
watch = client.watch(job.job_id)
print("first", next(watch).state, flush=True)
if sys.argv[3] == "waiting":
    threading.Thread(target=lambda: client.result(job.job_id), daemon=True).start()
if sys.argv[3] == "error":
    raise SystemExit(5)
print("end", flush=True)
"""


@pytest.mark.parametrize(("how", "code"), [("idle", 0), ("waiting", 0), ("error", 5)])
def test_script_that_forgets_to_close_ends(
    run_script: Callable[..., Process], server: Server, queue: str, how: str, code: int
) -> None:
    """A program with an open client, a watch and a waiting daemon thread ends by itself, silently, with its code."""
    program = run_script(FORGETFUL, server.target, queue, how)
    assert program.wait(within=15) == code
    assert program.lines == ["first SCHEDULED", *(["end"] if code == 0 else [])]


INTERRUPTED = """
import sys
import headrace
with headrace.Client(sys.argv[1]) as client:
    job = client.enqueue("t", queue=sys.argv[2], delay=60)
    for wait in (job.result, lambda: list(job.watch())):
        try:
            print("waiting", flush=True)
            wait()
        except KeyboardInterrupt:
            print("interrupted,", client.get(job.job_id).state, flush=True)
"""


def test_interrupt_reaches_a_waiting_call(run_script: Callable[..., Process], server: Server, queue: str) -> None:
    """Ctrl-C interrupts a call that waits, or a watch, and the client still works."""
    program = run_script(INTERRUPTED, server.target, queue)
    for line in (0, 2):
        program.wait_for_line("waiting", after=line)
        program.signal(signal.SIGINT)
    assert program.wait(within=15) == 0
    assert program.lines == ["waiting", "interrupted, SCHEDULED"] * 2


FORKING = """
import os, sys
import headrace
target, queue, when = sys.argv[1:]
client = headrace.Client(target)
if when != "unused":
    client.enqueue("t", queue=queue)
if when == "closed":
    client.close()
sys.stdout.flush()
if os.fork():
    os.wait()
    if when != "closed":
        print("parent", client.enqueue("t", queue=queue).state)
    raise SystemExit
for name, one in (("old", client), ("new", headrace.Client(target, timeout=5))):
    try:
        print(name, one.enqueue("t", queue=queue).state)
    except headrace.ClientClosed as error:
        print(name, str(error).partition(":")[0].partition(";")[0])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    ("when", "lines"),
    [
        ("unused", ["old this client was made before a fork", "new QUEUED", "parent QUEUED"]),
        ("closed", ["old this client was closed", "new QUEUED"]),
        ("used", ["old this client was made before a fork", "new gRPC does not survive a fork", "parent QUEUED"]),
    ],
)
def test_fork_is_refused_by_name(
    run_script: Callable[..., Process], server: Server, queue: str, when: str, lines: list[str]
) -> None:
    """After a fork, what cannot work says so at once instead of hanging; what can work does."""
    program = run_script(FORKING, server.target, queue, when)
    assert program.wait(within=30) == 0
    assert [line for line in program.lines if "fork_posix" not in line] == lines
