"""docker-compose.yml, for real: images built, containers run, workers scaled, stopped and killed in mid-job."""

import json
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.waiting import EventuallySync
from headrace import Client, Job, JobHandle, JobState

pytestmark = [pytest.mark.compose, pytest.mark.timeout(420)]

ROOT = Path(__file__).parents[2]
_LEASE = 3  # seconds
_JOBS = '''
import asyncio

from headrace_worker.echo import worker


@worker.handler("nap")
async def nap(seconds: float) -> str:
    """Run for a while."""
    await asyncio.sleep(seconds)
    return "rested"
'''


class Compose:
    """One project of a Compose file, apart from any other on this machine."""

    def __init__(self, file: Path, *overrides: Path, **settings: str) -> None:
        """`settings` are what the file takes from the environment."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._environment = {**os.environ, **settings, "HEADRACE_PORT": str(self.port)}
        self._project = f"headrace-test-{uuid.uuid4().hex[:8]}"
        self._plain = ("-p", self._project, "-f", str(file))
        self._with_overrides = (*self._plain, *(word for one in overrides for word in ("-f", str(one))))

    def __call__(self, *words: str, plain: bool = False) -> str:
        """Run docker compose with these words, and return what it wrote. `plain`: without overrides."""
        return self._run([*_compose(), *(self._plain if plain else self._with_overrides), *words])

    def docker(self, *words: str) -> str:
        """Run docker with these words, and return what it wrote."""
        return self._run(["docker", *words])

    def containers(self, service: str) -> list[str]:
        """The short ids of a service's running containers; a container's host name is its short id."""
        all_ids = self("ps", "-q", service).split()
        running = self.docker("ps", "-q", "--no-trunc").split()
        return [one[:12] for one in all_ids if one in running]

    def inspect(self, container: str, template: str) -> str:
        """What docker knows of a container."""
        return self.docker("inspect", "--format", template, container).strip()

    def _run(self, command: Sequence[str]) -> str:
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False, timeout=400)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


def _compose() -> list[str]:
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    standalone = shutil.which("docker-compose")
    assert standalone, "neither `docker compose` nor docker-compose is installed"
    return [standalone]


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The project, its images built; removed in the end with its volume."""
    jobs = tmp_path_factory.mktemp("jobs")
    jobs.chmod(0o755)
    (jobs / "jobs.py").write_text(_JOBS)
    override = tmp_path_factory.mktemp("override") / "override.json"
    worker = {"volumes": [f"{jobs}:/app:ro"], "command": ["jobs:worker"], "environment": {"HEADRACE_GRACE": "5"}}
    override.write_text(json.dumps({"services": {"worker": worker}}))
    project = Compose(ROOT / "docker-compose.yml", override, HEADRACE_LEASE=str(_LEASE))
    try:
        project("build", plain=True)
        yield project
    finally:
        project("down", "--volumes", "--timeout", "1")


@pytest.fixture
def client(compose: Compose) -> Iterator[Client]:
    """A client on the host, of the server in its container, which runs with two workers that know the type `nap`."""
    compose("up", "--detach", "--scale", "worker=2")
    with Client(f"127.0.0.1:{compose.port}", timeout=60) as one:
        yield one


def _running_on(job: JobHandle, containers: Sequence[str], eventually_sync: EventuallySync) -> str:
    """The container that runs the job, as soon as one does."""

    def place() -> str:
        found = job.get()
        return found.worker if found.state is JobState.PROCESSING else ""

    worker = eventually_sync(place, within=30)
    (container,) = (one for one in containers if worker.startswith(one))
    return container


def _workers_of(job: Job) -> list[str]:
    """The containers that claimed the job, in order."""
    return [step.detail[:12] for step in job.history if step.state is JobState.PROCESSING]


def test_client_on_the_host_gets_a_result(compose: Compose, eventually_sync: EventuallySync) -> None:
    """docker-compose.yml as it is: `up` brings Valkey, a server that turns healthy, and two workers, none of them run
    as root; a job from the host comes back with its result.
    """
    compose("up", "--detach", plain=True)
    with Client(f"127.0.0.1:{compose.port}", timeout=60) as client:
        assert client.enqueue("echo.process", {"msg": "hello"}).result(timeout=60) == {"msg": "hello"}
    assert [len(compose.containers(name)) for name in ("valkey", "server", "worker")] == [1, 1, 2]
    for name in ("valkey", "server"):
        (container,) = compose.containers(name)
        eventually_sync(lambda one=container: compose.inspect(one, "{{.State.Health.Status}}") == "healthy", within=60)
    for container in (*compose.containers("server"), *compose.containers("worker")):
        assert compose.docker("exec", container, "id", "-u").strip() == "10001"


def test_three_workers_share_the_work(compose: Compose, client: Client) -> None:
    """Scaled to three, all three workers run jobs: 250 at a time are more than two of them take."""
    compose("up", "--detach", "--scale", "worker=3")
    workers = compose.containers("worker")
    jobs = [client.enqueue("nap", 3.0) for _ in range(250)]
    assert {job.result(timeout=60) for job in jobs} == {"rested"}
    assert {place for job in jobs for place in _workers_of(job.get())} == set(workers)


def test_stopped_worker_gives_its_job_back(compose: Compose, client: Client, eventually_sync: EventuallySync) -> None:
    """`docker stop` of a worker in mid-job: after its grace the job is given back and finishes on the other worker, as
    the same first attempt.
    """
    workers = compose.containers("worker")
    job = client.enqueue("nap", 8.0)
    first = _running_on(job, workers, eventually_sync)
    compose.docker("stop", "--time", "60", first)
    assert compose.inspect(first, "{{.State.ExitCode}}") == "0"
    assert job.result(timeout=60) == "rested"
    done = job.get()
    (other,) = (one for one in workers if one != first)
    assert _workers_of(done) == [first, other]
    assert (done.attempt, done.crash_count) == (1, 0)


def test_killed_worker_loses_its_job_to_another(
    compose: Compose, client: Client, eventually_sync: EventuallySync
) -> None:
    """`docker kill` of a worker in mid-job: once its lease is over the job is reclaimed and finishes elsewhere, with
    one crash counted and no attempt lost.
    """
    workers = compose.containers("worker")
    job = client.enqueue("nap", 4.0)
    first = _running_on(job, workers, eventually_sync)
    compose.docker("kill", first)
    assert job.result(timeout=60) == "rested"
    done = job.get()
    (other,) = (one for one in workers if one != first)
    assert _workers_of(done) == [first, other]
    assert (done.attempt, done.crash_count) == (1, 1)


def test_down_drains_and_keeps_the_data(compose: Compose, client: Client, eventually_sync: EventuallySync) -> None:
    """`down` lets the running job finish; after the next `up` it is there, done in its first attempt."""
    job = client.enqueue("nap", 3.0)
    _running_on(job, compose.containers("worker"), eventually_sync)
    compose("down")
    assert not any(compose.containers(name) for name in ("valkey", "server", "worker"))
    compose("up", "--detach")
    with Client(f"127.0.0.1:{compose.port}", timeout=60) as again:
        done = again.get(job.job_id)
    assert (done.state, done.attempt, done.crash_count) == (JobState.SUCCEEDED, 1, 0)
