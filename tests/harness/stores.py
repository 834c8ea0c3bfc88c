"""Real Valkey and Redis processes for the tests, each on a Unix socket in a directory of its own."""

import re
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from harness.processes import Process, start
from headrace_broker import Broker

_READY = "Ready to accept connections unix|ready to accept connections at"
_REDIS = shutil.which("redis-server") or ""


def redis_version() -> str:
    """The version of the redis-server on PATH, "" where there is none."""
    if not _REDIS:
        return ""
    told = subprocess.run([_REDIS, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\d+\.\d+\.\d+)", told)
    return found[1] if found else ""


ALONE = ["valkey9", *(["redis7"] if redis_version().startswith("7.") else [])]
STORES = [*ALONE, "cluster"]
"""Kinds of stores that tests run on: each alone, and a Valkey 9 that is a cluster of one, where F39 would show."""


class Store:
    """One Valkey or Redis that a test may kill and start again on the same data. `url` stays the same."""

    def __init__(
        self,
        *,
        data: Path,
        options: tuple[str, ...] = (),
        server: str = "",
        port: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`port`: where it listens besides its Unix socket; 0: nowhere."""
        self.data = data
        self._options = options
        self._server = server
        self._port = port
        self._environment = environment
        self.process = self._start()

    @property
    def url(self) -> str:
        """What redis.from_url and Broker take."""
        return self.process.wait_for_line(r" url=(\S+) ")[1]

    @property
    def version(self) -> str:
        """The version it logs at its start."""
        return self.process.wait_for_line(r"version=(\d+\.\d+\.\d+)")[1]

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()

    def start_again(self) -> None:
        """A new process on the same data and URL; returns when it answers."""
        self.process.close()
        self.process = self._start()

    def close(self) -> None:
        """Kill it for good."""
        self.process.close()

    def _start(self) -> Process:
        wanted = ("--port", str(self._port), *(("--server", self._server) if self._server else ()))
        command = ("python", "-m", "headrace_broker.embedded", "--data", str(self.data), *wanted, "--", *self._options)
        process = start(*command, environment=self._environment)
        try:
            process.wait_for_line(_READY, within=20)
        except AssertionError:
            process.close()
            raise
        return process


@pytest.fixture(scope="session")
def valkey_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The Valkey 9 that the whole run shares. No test may stop it."""
    store = Store(data=tmp_path_factory.mktemp("valkey9"), options=("--appendonly", "no"))
    yield store
    store.close()


@pytest.fixture(scope="session")
def redis7_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The Redis 7 that the whole run shares, from the redis-server on PATH. No test may stop it."""
    store = Store(data=tmp_path_factory.mktemp("redis7"), options=("--appendonly", "no"), server=_REDIS)
    yield store
    store.close()


@pytest.fixture(scope="session")
def valkey(valkey_store: Store) -> str:
    """The URL of the shared Valkey 9."""
    return valkey_store.url


@pytest.fixture(scope="session")
def redis7(redis7_store: Store) -> str:
    """The URL of the shared Redis 7; for tests of what only Redis does. Others take `store`."""
    return redis7_store.url


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """The URL of a shared store: the test runs once on Valkey 9, once on a cluster of one node, and, where one is
    installed, once on Redis 7.
    """
    url: str = request.getfixturevalue({"valkey9": "valkey"}.get(request.param, request.param))
    return url


@pytest.fixture
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Store]]:
    """`own_valkey("--maxmemory", "20mb", …)`: a Valkey of the test's own, append-only file on, to kill and restart."""
    stores: list[Store] = []

    def start_one(*options: str) -> Store:
        stores.append(Store(data=tmp_path_factory.mktemp("own-valkey"), options=options))
        return stores[-1]

    yield start_one
    for one in stores:
        one.close()


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses, so that tests can share a store."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def broker(valkey: str, namespace: str) -> AsyncIterator[Broker]:
    """A Broker on a fresh namespace of the shared Valkey 9."""
    async with Broker(url=valkey, namespace=namespace) as one:
        yield one


@pytest.fixture
async def store_broker(store: str, namespace: str) -> AsyncIterator[Broker]:
    """A Broker on a fresh namespace of Valkey 9 and, in further runs of the test, of Redis 7 and of a cluster."""
    async with Broker(url=store, namespace=namespace) as one:
        await one.ping()  # so that `redis` is known
        yield one
