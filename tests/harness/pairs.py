"""A primary and its replica, on TCP, with a proxy between them that a test may close."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from harness.proxy import Proxy
from harness.stores import Store
from harness.waiting import wait_until

QUICK = ("--repl-diskless-sync-delay", "0")
"""A primary waits five seconds for further replicas before it sends its data to the first one."""


class Pair:
    """A primary with append-only file, and one replica. `link` is what lies between them."""

    def __init__(self, *, directory: Path, options: tuple[str, ...] = ()) -> None:
        self.link: Proxy
        self.primary: Store
        self.replica: Store
        self._directory = directory
        self._options = options

    async def begin(self, stack: AsyncExitStack) -> None:
        """Starts both, the primary with the options; returns when the replica is in step."""
        port = _free_port()
        self.primary = await self._store("primary", stack, "--port", str(port), *QUICK, *self._options)
        self.link = await stack.enter_async_context(Proxy(f"127.0.0.1:{port}"))
        self.replica = await self._store("replica", stack, "--replicaof", f"127.0.0.1 {self.link.port}")
        await self.in_step()

    async def in_step(self) -> None:
        """Returns when the replica has all that the primary has written."""

        async def there() -> bool:
            async with redis.Redis.from_url(self.primary.url) as one:
                info: dict[str, Any] = await one.info("replication")
            first = info.get("slave0", {})
            return bool(first) and first["state"] == "online" and first["offset"] == info["master_repl_offset"]

        await wait_until(there, within=10)

    async def fail_over(self) -> str:
        """Kills the primary, and makes the replica the primary; returns its URL."""
        self.primary.kill()
        async with redis.Redis.from_url(self.replica.url) as one:
            await one.replicaof("NO", "ONE")
        return self.replica.url

    async def _store(self, name: str, stack: AsyncExitStack, *options: str) -> Store:
        place = self._directory / name
        store = await asyncio.to_thread(lambda: Store(data=place, options=options))
        stack.callback(store.close)
        return store


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """See Pair."""
    async with AsyncExitStack() as stack:
        one = Pair(directory=tmp_path)
        await one.begin(stack)
        yield one
