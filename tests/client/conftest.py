"""The client's fixtures: real servers on the shared Valkey, clients of them, and a worker moved by hand."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from client.rig import Hand, Server
from headrace import AsyncClient, Client
from headrace_broker import Broker


@pytest.fixture(scope="session")
def server(valkey: str) -> Iterator[Server]:
    """The server that the client's tests share. No test may stop it; each works in a queue of its own."""
    one = Server(url=valkey, namespace=f"client-{uuid.uuid4().hex[:12]}")
    yield one
    one.close()


@pytest.fixture
def own_server(valkey: str, namespace: str) -> Iterator[Callable[..., Server]]:
    """`own_server(HEADRACE_…="…")`: a server of the test's own, to kill and start again."""
    servers: list[Server] = []

    def start_one(**settings: str) -> Server:
        servers.append(Server(url=valkey, namespace=namespace, **settings))
        return servers[-1]

    yield start_one
    for one in servers:
        one.close()


@pytest.fixture
def queue() -> str:
    """A queue that no other test uses."""
    return f"q-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    """An async client of the shared server."""
    async with AsyncClient(server.target) as one:
        yield one


@pytest.fixture
def sync_client(server: Server) -> Iterator[Client]:
    """A sync client of the shared server."""
    with Client(server.target) as one:
        yield one


@pytest.fixture
async def hand(server: Server) -> AsyncIterator[Hand]:
    """A worker by hand on the store of the shared server."""
    async with Broker(url=server.url, namespace=server.namespace) as broker:
        yield Hand(broker)
