"""Where a client finds its server."""

import asyncio

import pytest

from headrace import AsyncClient, Client, ClientClosed, InvalidAddress, InvalidRequest, Unavailable
from headrace._channel import resolve_target


def test_address_comes_from_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument wins over HEADRACE_ADDRESS, which wins over localhost:50051."""
    monkeypatch.setenv("HEADRACE_ADDRESS", "there:2")
    assert Client("here:1").target == "here:1"
    assert AsyncClient().target == "there:2"
    monkeypatch.delenv("HEADRACE_ADDRESS")
    assert AsyncClient().target == "localhost:50051"


@pytest.mark.parametrize(
    "address", ["h:1", "10.0.0.1:65535", "[::1]:50051", "dns:///headrace:50051", "unix:/run/h.sock", "ipv4:10.0.0.1:5"]
)
def test_addresses_of_grpc_are_taken(address: str) -> None:
    """HOST:PORT and the schemes that gRPC knows are addresses."""
    assert resolve_target(f" {address} ") == address


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("http://localhost:50051", "is a URL"),
        ("https://example.org", "is a URL"),
        ("grpc://localhost:1", "is a URL"),
        ("localhost", "HOST:PORT"),
        (":50051", "HOST:PORT"),
        ("localhost:http", "HOST:PORT"),
        ("localhost:0", "HOST:PORT"),
        ("localhost:65536", "HOST:PORT"),
    ],
)
def test_what_is_no_address_is_refused_with_an_example(address: str, problem: str) -> None:
    """A URL, or an address without a port, is refused at once: gRPC would take it and fail later, obscurely."""
    with pytest.raises(InvalidAddress, match=problem):
        AsyncClient(address)


@pytest.mark.parametrize("timeout", [float("nan"), "5", True])
def test_timeouts_are_durations(timeout: object) -> None:
    """A timeout that is none is refused by name."""
    with pytest.raises(InvalidRequest, match=r"^timeout: "):
        AsyncClient(timeout=timeout)  # type: ignore[arg-type] # the mistake under test


async def test_ping_fails_at_once_where_nobody_listens(unused_tcp_port: int) -> None:
    """`ping` does not wait for a server to come up."""
    async with AsyncClient(f"127.0.0.1:{unused_tcp_port}") as client, asyncio.timeout(2):
        with pytest.raises(Unavailable, match=r"no connection to the server at 127\.0\.0\.1") as caught:
            await client.ping()
    assert type(caught.value.__cause__).__name__ == "AioRpcError"


def test_client_belongs_to_one_event_loop(unused_tcp_port: int) -> None:
    """A client that is carried over to another event loop says so, instead of hanging."""
    client = AsyncClient(f"127.0.0.1:{unused_tcp_port}")

    async def ping() -> None:
        await client.ping()

    with pytest.raises(Unavailable):
        asyncio.run(ping())
    with pytest.raises(ClientClosed, match="belongs to another event loop"):
        asyncio.run(ping())
