"""Handlers in processes of their own, in a real worker process."""

import os
import signal

from headrace_broker import Reason, State
from worker.conftest import environment


async def test_a_process_is_used_again(launch, jobs):
    """Ten jobs do not start ten processes, and none of them is the worker."""
    worker = launch("sample_app:worker")
    pids = {int((await jobs.ended(await jobs.put("pid.process"))).result) for _ in range(10)}
    assert len(pids) == 1
    assert worker.pid not in pids


async def test_a_process_that_dies_is_a_failed_attempt_and_is_replaced(launch, jobs):
    """The failure names the exit code; it is retried by the policy; the worker goes on."""
    launch("sample_app:worker")
    job = await jobs.ended(await jobs.put("die.process"), within=15)
    assert (job.state, job.attempt, job.failure.reason) == (State.FAILED, 2, Reason.HANDLER_ERROR)
    assert job.failure.message == "the handler's process died with exit code 7"
    assert (await jobs.ended(await jobs.put("pid.process"))).state is State.SUCCEEDED


async def test_a_process_that_is_killed_from_outside_is_a_failed_attempt(launch, jobs, tmp_path, eventually):
    """By the kernel, say, when memory runs out: the failure names the signal."""
    log = tmp_path / "log"
    log.touch()
    launch("sample_app:worker")
    job_id = await jobs.put("wait.process", f'{{"log":"{log}","until":"/nowhere"}}'.encode())
    first = int((await eventually(log.read_text)).split()[1])
    os.kill(first, signal.SIGKILL)
    job = await jobs.reach(job_id, State.RETRYING, State.QUEUED, State.PROCESSING)
    await eventually(lambda: log.read_text().count("begin") == 2)
    job = await jobs.get(job_id)
    assert (job.state, job.attempt) == (State.PROCESSING, 2)
    assert job.failure.message == "the handler's process was killed by SIGKILL"


async def test_processes_do_not_outlive_a_worker_that_is_killed(launch, jobs, tmp_path, eventually):
    """SIGKILL of the worker takes the busy process and the idle one with it, within moments."""
    log = tmp_path / "log"
    log.touch()
    worker = launch("sample_app:worker")
    await jobs.put("wait.process", f'{{"log":"{log}","until":"/nowhere"}}'.encode())
    await jobs.ended(await jobs.put("pid.process"))
    await eventually(log.read_text)
    assert len(worker.family()) >= 3
    worker.kill()
    await eventually(lambda: not worker.family(), within=5)


async def test_a_process_logs_like_its_worker(launch, jobs):
    """Its lines name the job, and come out in the worker's format."""
    worker = launch("sample_app:worker")
    job_id = await jobs.put("log.process")
    await jobs.ended(job_id)
    line = worker.wait_for_line("seen")
    for word in ('"colour": "blue"', f'"job_id": "{job_id}"', '"level": "info"'):
        assert word in line.string


def test_a_process_handler_that_cannot_be_imported_is_refused_at_the_start(spawn, tmp_path, valkey):
    """Hidden by another decorator, it would fail in every process: so the worker does not start."""
    (tmp_path / "hidden.py").write_text(
        "import functools\n"
        "from headrace_worker import Worker\n"
        "worker = Worker()\n"
        "def hide(function):\n"
        "    return functools.wraps(function)(lambda *words: function(*words))\n"
        "@hide\n"
        "@worker.handler('a.type', process=True)\n"
        "def work(payload): ...\n"
    )
    process = spawn(
        "python", "-m", "headrace_worker", "hidden:worker",
        directory=tmp_path, environment=environment(redis_url=valkey),
    )  # fmt: skip
    assert process.wait() == 1
    assert "handler 'a.type' (work, " in process.output
    assert "with @worker.handler as its outermost decorator" in process.output
