"""SIGTERM: stop claiming, give the unstarted back, let the running ones finish, cancel the rest and give them back."""

import asyncio
import signal
import threading

import pytest

from headrace_broker import Reason, State
from headrace_worker import JobCancelled, Worker


def work(**files: object) -> bytes:
    """The payload of the sample app's handlers."""
    return ("{" + ",".join(f'"{name}":"{path}"' for name, path in files.items()) + "}").encode()


@pytest.fixture
def log(tmp_path):
    """A file for the effects of handlers."""
    path = tmp_path / "log"
    path.touch()
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["wait.thread", "wait.process"])
async def test_running_jobs_finish_within_the_grace(  # noqa: PLR0917  fixtures
    launch, jobs, tmp_path, log, eventually, number, kind
):
    """The signal does not disturb them, and the worker ends with exit code 0 when they are done."""
    worker = launch("sample_app:worker", grace="20")
    job_id = await jobs.put(kind, work(log=log, until=tmp_path / "until"))
    await eventually(log.read_text)
    worker.signal(number)
    worker.wait_for_line("draining")
    (tmp_path / "until").touch()
    assert worker.wait() == 0
    job = await jobs.get(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
    worker.wait_for_line("worker stopped")


@pytest.mark.parametrize("kind", ["wait.thread", "wait.process"])
async def test_what_does_not_finish_is_given_back_and_another_worker_completes_it(  # noqa: PLR0917  fixtures
    launch, jobs, tmp_path, log, eventually, kind
):
    """The attempt is not burned, nothing counts as a crash, and the job is at the front of its queue again."""
    worker = launch("sample_app:worker", grace="0.2")
    job_id = await jobs.put(kind, work(log=log, until=tmp_path / "until"))
    await eventually(log.read_text)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    job = await jobs.get(job_id)
    assert (job.state, job.attempt, job.crashes) == (State.QUEUED, 0, 0)
    assert job.history[-1].reason == Reason.RELEASED
    (tmp_path / "until").touch()
    launch("sample_app:worker")
    job = await jobs.ended(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)


async def test_coroutines_are_cancelled_after_the_grace(serve, jobs):
    """They see CancelledError, and their job is given back."""
    cancelled = []
    worker = Worker()

    @worker.handler("hangs")
    async def hangs():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    serving = await serve(worker, grace=0.1)
    job_id = await jobs.put("hangs")
    await jobs.reach(job_id, State.PROCESSING)
    await serving.stop()
    job = await jobs.get(job_id)
    assert (job.state, job.attempt, cancelled) == (State.QUEUED, 0, [1])


async def test_a_thread_sees_the_shutdown(serve, jobs):
    """As JobCancelled; a result that it returns all the same counts."""
    worker = Worker()

    @worker.handler("hangs")
    def hangs():
        try:
            while True:
                threading.Event().wait(0.005)
        except JobCancelled:
            return "in the end"

    serving = await serve(worker, grace=0.1)
    job_id = await jobs.put("hangs")
    await jobs.reach(job_id, State.PROCESSING)
    await serving.stop()
    job = await jobs.get(job_id)
    assert (job.state, job.result) == (State.SUCCEEDED, b'"in the end"')


async def test_jobs_that_wait_for_a_process_are_given_back_at_once(launch, jobs, tmp_path, log, eventually):
    """They have not begun, so the grace is not for them: others may run them meanwhile."""
    worker = launch("sample_app:worker", grace="20")
    ids = [await jobs.put("wait.process", work(log=log, until=tmp_path / "until")) for _ in range(3)]
    await eventually(lambda: log.read_text().count("begin") == 2)
    [waiting] = [job_id for job_id in ids if (await jobs.get(job_id)).state is State.PROCESSING][2:] or [None]
    worker.signal(signal.SIGTERM)

    async def given_back():
        return [job_id for job_id in ids if (await jobs.get(job_id)).state is State.QUEUED]

    assert await eventually(given_back) == [waiting]
    assert worker.running
    (tmp_path / "until").touch()
    assert worker.wait() == 0
    assert (await jobs.get(waiting)).attempt == 0


async def test_a_draining_worker_takes_no_more_jobs(serve, jobs, release):
    """What is enqueued after the signal is left to others."""
    worker = Worker()

    @worker.handler("waits")
    async def waits():
        await release.wait()

    worker.handler("other")(lambda: None)
    serving = await serve(worker)
    first = await jobs.put("waits")
    await jobs.reach(first, State.PROCESSING)
    serving.drain()
    await asyncio.wait([serving.task], timeout=0.2)
    second = await jobs.put("other")
    await asyncio.wait([serving.task], timeout=0.2)
    release.set()
    await serving.task
    assert (await jobs.get(first)).state is State.SUCCEEDED
    assert (await jobs.get(second)).state is State.QUEUED


async def test_twenty_rolling_restarts_under_load_burn_no_attempt(serve, jobs):
    """Every job is done in its first attempt, none is dead, none crashed."""
    worker = Worker(concurrency=5)

    @worker.handler("short")
    async def short():
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.01)

    ids = [await jobs.put("short") for _ in range(300)]
    serving = await serve(worker, grace=0)
    for _ in range(20):
        await asyncio.wait([serving.task], timeout=0.03)
        await serving.stop()
        serving = await serve(worker, grace=0)
    for job_id in ids:
        job = await jobs.ended(job_id)
        assert (job.state, job.attempt, job.crashes) == (State.SUCCEEDED, 1, 0)


async def test_cancelling_serve_gives_running_jobs_back(serve, jobs):
    """For those who embed a worker: no grace, and the cancellation goes on upwards."""
    worker = Worker()

    @worker.handler("hangs")
    async def hangs():
        await asyncio.get_running_loop().create_future()

    serving = await serve(worker)
    job_id = await jobs.put("hangs")
    await jobs.reach(job_id, State.PROCESSING)
    serving.task.cancel()
    await asyncio.wait([serving.task], timeout=2)
    assert serving.task.cancelled()
    assert (await jobs.get(job_id)).state is State.QUEUED


async def test_a_drained_worker_leaves_nothing_behind(serve, jobs, broker):
    """No tasks, no threads but idle ones, no connections, no entry among the living."""
    worker = Worker()
    worker.handler("quick")(lambda: None)
    before = {task.get_name() for task in asyncio.all_tasks()}
    clients = len(await broker.redis.client_list())
    serving = await serve(worker)
    await jobs.ended(await jobs.put("quick"))
    await serving.stop()
    assert {task.get_name() for task in asyncio.all_tasks()} <= before | {serving.task.get_name()}
    assert not [thread for thread in threading.enumerate() if thread.name == "lease-keeper"]
    assert len(await broker.redis.client_list()) <= clients
    assert await broker.redis.zcard(broker.shard(0).workers()) == 0


async def test_a_second_signal_ends_the_worker_at_once(launch, jobs, tmp_path, log):
    """However long the grace; the job runs again when its lease has ended."""
    worker = launch("sample_app:worker", grace="3600")
    await jobs.reach(await jobs.put("wait.thread", work(log=log, until=tmp_path / "never")), State.PROCESSING)
    worker.signal(signal.SIGTERM)
    worker.wait_for_line("draining")
    worker.signal(signal.SIGTERM)
    assert worker.wait(within=2) == 128 + signal.SIGTERM
    assert "second signal, leaving at once" in worker.output


async def test_a_second_signal_works_even_while_a_handler_blocks_the_loop(launch, jobs, log, eventually):
    """Signals do not wait for the event loop."""
    worker = launch("sample_app:worker")
    await jobs.put("block.loop", f'{{"log":"{log}","seconds":30}}'.encode())
    await eventually(log.read_text)
    worker.signal(signal.SIGINT)
    worker.signal(signal.SIGTERM)
    assert worker.wait(within=2) in {128 + signal.SIGTERM, 128 + signal.SIGINT}


async def test_a_handler_that_never_stops_does_not_keep_the_worker_from_ending(launch, jobs, tmp_path):
    """A thread stuck in C code and a coroutine that swallows every cancellation: given back, and the process ends."""
    (tmp_path / "stuck.py").write_text(
        "import asyncio, threading\n"
        "from headrace_worker import Worker\n"
        "worker = Worker()\n"
        "@worker.handler('thread')\n"
        "def thread(): threading.Event().wait()\n"
        "@worker.handler('loop')\n"
        "async def loop():\n"
        "    while True:\n"
        "        try: await asyncio.get_running_loop().create_future()\n"
        "        except asyncio.CancelledError: pass\n"
    )
    worker = launch("stuck:worker", grace="0", directory=tmp_path)
    ids = [await jobs.put(kind) for kind in ("thread", "loop")]
    for job_id in ids:
        await jobs.reach(job_id, State.PROCESSING)
    worker.signal(signal.SIGTERM)
    assert worker.wait(within=15) == 0
    for job_id in ids:
        job = await jobs.get(job_id)
        assert (job.state, job.attempt) == (State.QUEUED, 0)
