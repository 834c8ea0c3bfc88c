"""deploy/compose.cluster.yml, for real: a cluster of three made by its one-shot, and jobs on all of it."""

from collections.abc import Iterator

import pytest

from headrace import Client
from headrace_broker import keys

from .test_compose import ROOT, Compose

pytestmark = [pytest.mark.compose, pytest.mark.timeout(420)]

SHARDS = 6


@pytest.fixture
def project() -> Iterator[Compose]:
    """The project, its images built; removed in the end with its volumes."""
    one = Compose(ROOT / "deploy" / "compose.cluster.yml", HEADRACE_SHARDS=str(SHARDS))
    try:
        one("build")
        yield one
    finally:
        one("down", "--volumes", "--timeout", "1")


def test_jobs_run_on_a_cluster_in_containers(project: Compose) -> None:
    """`up` makes a cluster of three, then starts a server and two workers: jobs of every shard come back with their
    results. A primary that was killed is started again, and so are its shards; a second `up` finds the cluster made.
    """
    project("up", "--detach")
    with Client(f"127.0.0.1:{project.port}", timeout=60) as client:
        jobs = [client.enqueue("echo.process", {"n": n}) for n in range(60)]
        assert [job.result(timeout=60) for job in jobs] == [{"n": n} for n in range(60)]
        assert {keys.shard_of(job.job_id) for job in jobs} == set(range(SHARDS))
        assert len(project.containers("worker")) == 2

        (primary,) = project.containers("valkey-2")
        project.docker("kill", primary)
        project("up", "--detach")

        again = [client.enqueue("echo.process", {"n": n}) for n in range(60)]
        assert [job.result(timeout=60) for job in again] == [{"n": n} for n in range(60)]
