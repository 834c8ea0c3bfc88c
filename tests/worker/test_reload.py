"""--reload: the worker is restarted when the code changes."""

import os
import signal
import time

import pytest

from headrace_broker import State

APP = "from headrace_worker import Worker\nworker = Worker()\nworker.handler('version')(lambda: VERSION)\n"


@pytest.fixture
def app(tmp_path):
    """`app("VERSION = 1")`: the code of the worker."""

    def write(line):
        (tmp_path / "app.py").write_text(f"{line}\n{APP}")

    write("VERSION = 1")
    return write


async def test_a_change_of_the_code_restarts_the_worker(launch, jobs, tmp_path, app):
    """The next job runs the new code; a broken version waits for the next change."""
    watcher = launch("app:worker", "--reload", directory=tmp_path)
    watcher.wait_for_line("reloading on changes")
    assert (await jobs.ended(await jobs.put("version"))).result == b"1"
    for line, sign in (("VERSION = 2", "worker ready"), ("VERSION = ", "SyntaxError"), ("VERSION = 3", "worker ready")):
        seen = len(watcher.lines)
        app(line)
        watcher.wait_for_line("code changed, restarting the worker", after=seen)
        watcher.wait_for_line(sign, after=seen)
    job = await jobs.ended(await jobs.put("version"))
    assert (job.state, job.result) == (State.SUCCEEDED, b"3")
    assert watcher.stop() == 0
    assert not watcher.family()


async def test_a_signal_drains_the_worker_and_ends_both(launch, tmp_path, app):
    """With the worker's exit code; nothing stays behind."""
    watcher = launch("app:worker", "--reload", directory=tmp_path)
    watcher.wait_for_line("reloading on changes")
    watcher.signal(signal.SIGINT)
    assert watcher.wait() == 0
    assert "worker stopped" in watcher.output
    assert not watcher.family()


async def test_a_ctrl_c_in_the_terminal_is_one_signal_to_the_worker_not_two(launch, jobs, tmp_path, app):
    """It reaches the whole process group; the worker must drain, not leave at once."""
    app("import threading\nVERSION = 1")
    with (tmp_path / "app.py").open("a") as code:
        code.write("worker.handler('short')(lambda: threading.Event().wait(0.5))\n")
    watcher = launch("app:worker", "--reload", directory=tmp_path)
    job_id = await jobs.put("short")
    await jobs.reach(job_id, State.PROCESSING)
    os.killpg(watcher.pid, signal.SIGINT)
    assert watcher.wait() == 0
    assert (await jobs.get(job_id)).state is State.SUCCEEDED


async def test_the_worker_does_not_outlive_a_watcher_that_is_killed(launch, tmp_path, app, eventually_sync):
    """It drains by itself."""
    watcher = launch("app:worker", "--reload", directory=tmp_path)
    started = time.monotonic()
    watcher.kill()
    eventually_sync(lambda: not watcher.family(), within=10)
    assert time.monotonic() - started < 10
