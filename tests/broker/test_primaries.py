"""_primaries.py and _discovery.py: who is asked for the primary, how often, and whose word counts.

Failovers and migrations of real stores: tests/system/test_sentinel.py and test_cluster.py.
"""

import asyncio
import time
from collections.abc import Callable

import pytest
from redis.exceptions import AuthenticationError

from broker.answering import answering
from broker.state import A, new, wipe
from harness.proxy import target_of
from headrace_broker import Broker, StoreUnavailable, StoreUnfit


def master(port: int, *, epoch: int) -> bytes:
    """What a Sentinel answers to SENTINEL MASTER, as far as it concerns us."""
    words = ["name", "main", "ip", "127.0.0.1", "port", str(port), "config-epoch", str(epoch)]
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words)


async def test_the_latest_failover_counts(cluster: str, namespace: str) -> None:
    """A Sentinel that was cut off still names the old primary: the one that knows of the later failover is believed."""
    port = int(target_of(cluster).rpartition(":")[2])
    told = {"old": master(1, epoch=3), "new": master(port, epoch=4)}
    async with (
        answering(lambda command: told["old"] if command == "SENTINEL" else b"+OK\r\n") as old,
        answering(lambda command: told["new"] if command == "SENTINEL" else b"+OK\r\n") as new_one,
        Broker(url=f"redis+sentinel://{target_of(old)},{target_of(new_one)}/main", namespace=namespace) as broker,
    ):
        await broker.enqueue([new("a")])
        assert (await broker.get(A)).job_id == A
        await wipe(broker)


async def test_a_node_knows_best_what_it_has_given_away(cluster: str, namespace: str) -> None:
    """Just after a slot has moved, the new owner's configuration epoch is known to nobody else, and may still be below
    that of the old one. A bystander names the old owner then; the old owner's own word counts more.
    """
    new_port = int(target_of(cluster).rpartition(":")[2])
    ports: dict[str, int] = {"new": new_port}

    def view(me: str, owner: str) -> Callable[[str], bytes]:
        def answer(command: str) -> bytes:
            if command == "CLUSTER SLOTS":
                return (
                    f"*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:{ports[owner]}\r\n${len(owner)}\r\n{owner}\r\n"
                ).encode()
            if command == "CLUSTER NODES":
                epochs = {"old": 9, "new": 3, "bystander": 1}
                lines = "".join(
                    f"{name} h:1@2 {'myself,' * (name == me)}master - 0 0 {epoch} connected\n"
                    for name, epoch in epochs.items()
                )
                return f"${len(lines)}\r\n{lines}\r\n".encode()
            return b"+OK\r\n"

        return answer

    async with answering(view("old", "new")) as old, answering(view("bystander", "old")) as bystander:
        ports["old"] = int(target_of(old).rpartition(":")[2])
        url = f"redis+cluster://{target_of(old)},{target_of(bystander)}"
        async with Broker(url=url, namespace=namespace) as broker:
            await broker.enqueue([new("a")])
            assert (await broker.get(A)).job_id == A
            await wipe(broker)


async def test_sentinels_are_not_asked_in_a_hot_loop() -> None:
    """While the primary that they name is dead, hundreds of failing calls ask the Sentinels a few times a second."""
    asked: list[float] = []

    def answer(command: str) -> bytes:
        if command != "SENTINEL":
            return b"+OK\r\n"
        asked.append(time.monotonic())
        return master(1, epoch=1)

    async with answering(answer) as url, Broker(url=f"redis+sentinel://{target_of(url)}/main") as broker:
        began, calls = time.monotonic(), 0
        while time.monotonic() - began < 1.0:
            with pytest.raises(StoreUnavailable):
                await broker.get(A)
            calls += 1
            await asyncio.sleep(0)

    assert calls > 100
    assert 2 <= len(asked) <= 8


async def test_a_sentinel_that_does_not_answer_holds_nobody_up(cluster: str, namespace: str) -> None:
    """One Sentinel of two is cut off, so that it accepts and says nothing: the other's answer is waited for, no longer
    than a second is lost, and only at the first call.
    """
    port = int(target_of(cluster).rpartition(":")[2])
    async with (
        answering(lambda _: b"") as silent,
        answering(lambda command: master(port, epoch=1) if command == "SENTINEL" else b"+OK\r\n") as other,
        Broker(url=f"redis+sentinel://{target_of(silent)},{target_of(other)}/main", namespace=namespace) as broker,
    ):
        began = time.monotonic()
        await broker.ping()
        assert time.monotonic() - began < 3
        began = time.monotonic()
        for _ in range(20):
            await broker.ping()
        assert time.monotonic() - began < 1


async def test_sentinels_that_refuse_the_login_say_so() -> None:
    """The cause is an AuthenticationError, for which nobody waits at the start."""
    reply = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
    async with (
        answering(lambda command: reply if command in {"AUTH", "HELLO"} else b"+OK\r\n") as url,
        Broker(url=f"redis+sentinel://{target_of(url)}/main?sentinel_password=wrong") as broker,
    ):
        with pytest.raises(StoreUnavailable) as refused:
            await broker.check()
        assert isinstance(refused.value.__cause__, AuthenticationError)


async def test_a_store_that_is_no_sentinel_is_told_apart() -> None:
    """What answers but knows no Sentinel commands is unfit: waiting would be in vain."""
    reply = b"-ERR unknown command 'SENTINEL'\r\n"
    async with (
        answering(lambda command: reply if command == "SENTINEL" else b"+OK\r\n") as url,
        Broker(url=f"redis+sentinel://{target_of(url)}/main") as broker,
    ):
        with pytest.raises(StoreUnfit, match="unknown command"):
            await broker.check()
