"""A worker is killed with a hundred jobs in its hands."""

import json
import time
from collections import Counter

import pytest

from headrace_broker import Broker, JobSpec, NewJob, State


@pytest.mark.parametrize(
    "lease",
    [5, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(120)])],
    ids=lambda lease: f"lease {lease} s",
)
async def test_a_hundred_running_jobs_run_again_within_a_lease_and_two_seconds(
    launch, broker: Broker, eventually, tmp_path, lease: int
) -> None:
    """After kill -9 all of them have begun elsewhere, each once, no later than one lease and 2 s; and all end well."""
    log = tmp_path / "log"
    log.touch()
    payload = json.dumps({"log": str(log), "until": str(tmp_path / "until")}).encode()
    spec = JobSpec(type="begin.and.wait", payload=payload)
    ids = [one.job_id for one in await broker.enqueue([NewJob(spec=spec) for _ in range(100)])]

    def begun_by(pid: int) -> list[str]:
        return [job for job, who in map(str.split, log.read_text().splitlines()) if who == str(pid)]

    first = launch("hundred_app:worker", lease=str(lease))
    await eventually(lambda: len(begun_by(first.pid)) == 100, within=10)
    second = launch("hundred_app:worker", lease=str(lease))
    killed_at = time.monotonic()
    first.kill()
    await eventually(lambda: len(begun_by(second.pid)) >= 100, within=lease + 10)
    took = time.monotonic() - killed_at

    print(  # noqa: T201  for those who run it alone, with -s
        f"100 jobs ran again {took:.2f} s after the kill, with a lease of {lease} s"
    )
    assert took <= lease + 2
    assert Counter(begun_by(second.pid)) == Counter(ids)
    (tmp_path / "until").touch()

    async def all_ended() -> bool:
        return all([(await broker.get(job_id)).state.is_terminal for job_id in ids])

    await eventually(all_ended, within=10)
    ended = [await broker.get(job_id) for job_id in ids]
    assert {(job.state, job.attempt, job.crashes) for job in ended} == {(State.SUCCEEDED, 1, 1)}
