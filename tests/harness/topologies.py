"""Stores that are several processes: a cluster of primaries, and a primary with a replica under three Sentinels.

For tests of what happens when a shard gets another primary; the nemesis of the chaos suite may use them too.
"""

import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from harness.processes import Process, start
from harness.stores import Store

SERVICE = "queue"
_PORTS = range(15_000, 29_000)  # below those that the kernel hands out to outgoing connections
_FORMED = 15.0  # seconds


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on now."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


class Cluster:
    """A cluster of primaries without replicas, its slots spread evenly. Nodes are numbered from 0."""

    def __init__(self, *, directory: Path, primaries: int, server: str = "", options: tuple[str, ...] = ()) -> None:
        """Returns when every node knows every other one and takes writes: after some two seconds."""
        ports = free_ports(2 * primaries)
        self.ports = ports[:primaries]
        self.nodes = [
            Store(
                data=directory / f"node-{n}",
                server=server,
                port=port,
                options=(
                    "--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "1000",
                    "--cluster-require-full-coverage", "no", "--latency-tracking", "no", *options,
                ),
            )
            for n, (port, bus) in enumerate(zip(self.ports, ports[primaries:], strict=True))
        ]  # fmt: skip
        try:
            self._form(ports[primaries:])
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """What Broker takes. Names the first two nodes, as a user would not name all of them either."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.ports[:2])

    def client(self, node: int) -> redis.asyncio.Redis:
        """Returns a new client of one node."""
        return redis.asyncio.Redis(port=self.ports[node])

    async def owner(self, slot: int) -> int:
        """The node that serves a slot, as the first node that answers says."""
        for node in range(len(self.nodes)):
            try:
                async with self.client(node) as client:
                    slots: Any = await client.execute_command("CLUSTER", "SLOTS")
            except (redis.ConnectionError, OSError):
                continue
            return next(self.ports.index(at[1]) for first, last, at, *_ in slots if first <= slot <= last)
        raise AssertionError("no node answers")

    async def move_slot(
        self, slot: int, *, to: int, keys_at_a_time: int = 10, pause: Callable[[], Any] | None = None
    ) -> int:
        """Moves a slot to another node, key by key as `valkey-cli --cluster reshard` does; returns how many keys.
        `pause()` is awaited after each MIGRATE.
        """
        source = await self.begin_to_move(slot, to=to)
        moved = 0
        async with self.client(source) as old, self.client(to) as new:
            while keys := await old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, keys_at_a_time):
                await self.migrate(source, to, *keys)
                moved += len(keys)
                if pause is not None:
                    await pause()
            new_id = await new.execute_command("CLUSTER", "MYID")
            for client in (new, old):
                await client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)
        return moved

    async def begin_to_move(self, slot: int, *, to: int) -> int:
        """Tells both nodes that a slot is about to move; returns the one that serves it now."""
        source = await self.owner(slot)
        async with self.client(source) as old, self.client(to) as new:
            old_id, new_id = await old.execute_command("CLUSTER", "MYID"), await new.execute_command("CLUSTER", "MYID")
            await new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
            await old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
        return source

    async def migrate(self, source: int, target: int, *keys: bytes) -> None:
        """Moves some keys of a slot that is about to move."""
        async with self.client(source) as old:
            await old.execute_command("MIGRATE", "127.0.0.1", self.ports[target], "", 0, 5_000, "KEYS", *keys)

    def close(self) -> None:
        """Kill all nodes."""
        for node in self.nodes:
            node.close()

    def _form(self, bus_ports: list[int]) -> None:
        clients = [redis.Redis(port=port) for port in self.ports]
        step = 16_384 // len(clients)
        for n, client in enumerate(clients):
            last = 16_383 if n == len(clients) - 1 else (n + 1) * step - 1
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", n * step, last)
            if n:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.ports[0], bus_ports[0])
        deadline = time.monotonic() + _FORMED
        while not all(self._is_formed(client) for client in clients):
            assert time.monotonic() < deadline, "the cluster does not form"
            time.sleep(0.02)
        for client in clients:
            client.close()

    def _is_formed(self, client: redis.Redis) -> bool:
        info: Any = client.execute_command("CLUSTER", "INFO")
        ranges: Any = client.execute_command("CLUSTER", "SLOTS")
        return b"cluster_state:ok" in _bytes(info) and len(ranges) == len(self.nodes)


def _bytes(told: Any) -> bytes:
    return told if isinstance(told, bytes) else repr(told).replace("': '", ":").encode()


class Watched:
    """A primary and its replica, with three Sentinels that promote the replica when the primary is gone."""

    def __init__(self, *, directory: Path, options: tuple[str, ...] = ()) -> None:
        """Returns when the Sentinels know the replica and each other."""
        ports = free_ports(5)
        self._directory = directory
        self.ports, self.sentinel_ports = ports[:2], ports[2:]
        self.sentinels: list[Process] = []
        self.stores = [
            Store(data=directory / f"store-{n}", port=port, options=("--repl-diskless-sync-delay", "0", *options))
            for n, port in enumerate(self.ports)
        ]
        try:
            with redis.Redis(port=self.ports[1]) as replica:
                replica.execute_command("REPLICAOF", "127.0.0.1", self.ports[0])
            self._start_sentinels()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """What Broker takes."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def client(self, store: int) -> redis.asyncio.Redis:
        """Returns a new client of one store."""
        return redis.asyncio.Redis(port=self.ports[store])

    def primary(self) -> int:
        """Which store the Sentinels call the primary."""
        with redis.Redis(port=self.sentinel_ports[0]) as sentinel:
            told: Any = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return self.ports.index(int(told[1]))

    def ready(self) -> bool:
        """Whether the other store is a replica in step, so that a failover has somewhere to go."""
        primary = self.primary()
        with redis.Redis(port=self.ports[primary]) as one, redis.Redis(port=self.sentinel_ports[0]) as sentinel:
            role: Any = one.execute_command("ROLE")
            known: Any = sentinel.execute_command("SENTINEL", "REPLICAS", SERVICE)
        facts = [dict(zip(words[::2], words[1::2], strict=True)) for words in map(_flat, known)]
        in_step = role[0] in {b"master", "master"} and len(role[2]) == 1
        return in_step and any(fact.get(b"flags") == b"slave" for fact in facts)

    def fail_over(self, *, coordinated: bool = False) -> None:
        """Ask a Sentinel for a failover, as an operator would: the replica is promoted, the primary demoted.
        `coordinated`: only when the replica has all that the primary has written.
        """
        with redis.Redis(port=self.sentinel_ports[0]) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE, *(["COORDINATED"] if coordinated else []))

    @asynccontextmanager
    async def cut_off(self, store: int) -> AsyncIterator[None]:
        """Keep a store from answering and obeying the Sentinels, and nobody else: they alone use these commands."""
        commands = ("ping", "replicaof", "slaveof")
        async with self.client(store) as client:
            await client.execute_command("ACL", "SETUSER", "default", *(f"-{name}" for name in commands))
            try:
                yield
            finally:
                await client.execute_command("ACL", "SETUSER", "default", *(f"+{name}" for name in commands))

    def close(self) -> None:
        """Kill them all."""
        for sentinel in self.sentinels:
            sentinel.close()
        for store in self.stores:
            store.close()

    def _start_sentinels(self) -> None:
        binary = self.stores[0].process.wait_for_line(r" server=(\S+) ")[1]
        for n, port in enumerate(self.sentinel_ports):
            home = self._directory / f"sentinel-{n}"
            home.mkdir()
            configuration = home / "sentinel.conf"
            configuration.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {home}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self.ports[0]} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} 600\n"
                f"sentinel failover-timeout {SERVICE} 2000\n"
            )
            self.sentinels.append(start(binary, str(configuration), "--sentinel"))
        deadline = time.monotonic() + _FORMED
        while not self._is_formed():
            assert time.monotonic() < deadline, "the Sentinels do not find each other"
            time.sleep(0.02)

    def _is_formed(self) -> bool:
        for port in self.sentinel_ports:
            try:
                with redis.Redis(port=port) as sentinel:
                    told: Any = sentinel.execute_command("SENTINEL", "MASTER", SERVICE)
            except redis.ConnectionError:
                return False
            words = _flat(told)
            facts = dict(zip(words[::2], words[1::2], strict=True))
            if (facts[b"num-slaves"], facts[b"num-other-sentinels"]) != (b"1", b"2"):
                return False
        return self.ready()


def _flat(told: Any) -> list[bytes]:
    return [word for pair in told.items() for word in pair] if isinstance(told, dict) else told


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the cluster of one node that the whole run shares. No test may stop it."""
    one = Cluster(directory=tmp_path_factory.mktemp("cluster"), primaries=1, options=("--appendonly", "no"))
    yield one.url
    one.close()


@pytest.fixture(scope="session")
def cluster_of_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three primaries, for tests that move slots and pause nodes and leave the cluster whole."""
    one = Cluster(directory=tmp_path_factory.mktemp("cluster-of-three"), primaries=3)
    yield one
    one.close()


@pytest.fixture
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A primary, its replica and three Sentinels, for one test."""
    one = Watched(directory=tmp_path_factory.mktemp("watched"))
    yield one
    one.close()
