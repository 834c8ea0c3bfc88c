"""Hosts whose clocks are wrong: only the store's clock says what is due."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.clocks import WrongClock
from harness.processes import Process, Spawn
from headrace import Client, Job, JobHandle, JobState, RetryPolicy

APP = Path(__file__).parents[1] / "worker"
MINUTES_10 = 600


class Skewed:
    """A server and a worker whose clocks are twenty minutes apart, neither of them right."""

    def __init__(self, *, spawn: Spawn, wrong_clock: WrongClock, settings: dict[str, str]) -> None:
        self._spawn = spawn
        fast, slow = wrong_clock(MINUTES_10), wrong_clock(-MINUTES_10)
        self.server = spawn("python", "-m", "headrace_server", environment={**settings, **fast})
        self.worker = spawn(
            "python", "-m", "headrace_worker", "sample_app:worker", "--queues", "default",
            environment={**settings, **slow}, directory=APP,
        )  # fmt: skip
        self.port = int(self.server.wait_for_line(r'"port": (\d+)', within=20)[1])
        self.worker.wait_for_line("worker ready", within=20)

    def error_of(self, process: Process) -> float:
        """How many seconds its clock is fast, by the time in its latest log line."""
        said = datetime.fromisoformat(json.loads(process.lines[-1])["timestamp"])
        return (said - datetime.now(UTC)).total_seconds()


def test_wrong_clocks_start_nothing_early_and_take_no_job_away(
    spawn: Spawn, wrong_clock: WrongClock, valkey: str, namespace: str, tmp_path: Path
) -> None:
    """F53: the server's clock is 10 minutes fast, the worker's as much slow. A delay, a schedule_time, a backoff
    and an expire_time are kept to the moment, and a job that runs for three leases runs once.
    """
    settings = {
        "HEADRACE_REDIS_URL": valkey, "HEADRACE_NAMESPACE": namespace, "HEADRACE_LISTEN": "127.0.0.1:0",
        "HEADRACE_LEASE": "0.5", "HEADRACE_LOG_FORMAT": "json",
    }  # fmt: skip
    stack = Skewed(spawn=spawn, wrong_clock=wrong_clock, settings=settings)
    work, quick = {"log": str(tmp_path / "effects"), "seconds": 1.5}, {"log": os.devnull}
    soon = datetime.now(UTC) + timedelta(seconds=1)
    with Client(f"127.0.0.1:{stack.port}") as client:
        long = client.enqueue("block.loop", work)
        delayed = client.enqueue("block.loop", quick, delay=1)
        timed = client.enqueue("block.loop", quick, schedule_time=soon)
        retried = client.enqueue("nobody", retry=RetryPolicy(max_attempts=2, initial_backoff=0.7, jitter=0))
        expiring = client.enqueue("t", queue="other", expire_time=soon)
        jobs = {one: _ended(one) for one in (long, delayed, timed, retried, expiring)}

    assert abs(stack.error_of(stack.server) - MINUTES_10) < 60, "the server's clock was not wrong"
    assert abs(stack.error_of(stack.worker) + MINUTES_10) < 60, "the worker's clock was not wrong"
    assert (jobs[long].state, jobs[long].attempt, jobs[long].crash_count) == (JobState.SUCCEEDED, 1, 0)
    assert len((tmp_path / "effects").read_text().splitlines()) == 2, "it ran more than once"
    assert 1 <= _seconds(jobs[delayed], JobState.SCHEDULED, JobState.PROCESSING) < 3
    assert soon <= jobs[timed].start_time < soon + timedelta(seconds=2)
    assert 0.7 <= _seconds(jobs[retried], JobState.RETRYING, JobState.QUEUED) < 2
    assert (jobs[expiring].state, jobs[retried].state) == (JobState.EXPIRED, JobState.FAILED)
    assert soon <= jobs[expiring].finish_time < soon + timedelta(seconds=3)


def _ended(handle: JobHandle) -> Job:
    *_, last = handle.watch()
    assert last.job is not None
    return last.job


def _seconds(job: Job, start: JobState, end: JobState) -> float:
    """From the first step to one state to the first one to another, by the store's clock."""
    first = next(step.time for step in job.history if step.state is start)
    then = next(step.time for step in job.history if step.state is end and step.time >= first)
    return (then - first).total_seconds()
