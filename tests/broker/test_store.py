"""store.py: what the store must be, what its errors mean, and that a cancelled call is really cancelled."""

import asyncio
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop
from redis.exceptions import ResponseError

from broker.answering import answering
from broker.audit import audit
from broker.moves import WORKER, claim, finish, give_way, ids
from broker.state import A, B, ident, new
from harness.proxy import Proxy
from harness.stores import ALONE, Store
from harness.waiting import Eventually
from headrace_broker import Broker, StoreUnavailable, StoreUnfit, Succeeded
from headrace_broker.job import MINUTE
from headrace_broker.store import COMMAND_TIMEOUT

NOBODY = "redis://127.0.0.1:1/0"
"""Port 1: nobody listens there."""


@asynccontextmanager
async def configured(broker: Broker, **directives: str) -> AsyncIterator[None]:
    """Sets directives of the spare store for a while."""
    names = {name: name.replace("_", "-") for name in directives}
    before = {name: (await broker.redis.config_get(name))[name] for name in names.values()}
    for name, value in directives.items():
        await broker.redis.config_set(names[name], value)
    try:
        yield
    finally:
        for name, value in before.items():
            await broker.redis.config_set(name, value)


# --- what the store must be


async def test_a_good_store_is_described(own_valkey: Callable[..., Store]) -> None:
    """The check tells what the store is and how its data would survive; an append-only file is nothing to warn of."""
    async with Broker(url=own_valkey().url) as broker:
        info = await broker.check()

    assert (info.server, info.version.split(".")[0]) == ("valkey", "9")
    assert info.persistence == "aof everysec"
    assert info.warnings == ()


@pytest.mark.parametrize("store", ALONE, indirect=True)
async def test_valkey_and_redis_are_told_apart(store_broker: Broker, request: pytest.FixtureRequest) -> None:
    """The server's own name and version are told, not the ones that Valkey claims to be compatible with."""
    info = await store_broker.check()

    assert (info.server, info.version.split(".")[0]) in {("valkey", "9"), ("redis", "7")}
    assert f"{info.server}{info.version.split('.')[0]}" in request.node.callspec.id


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
async def test_a_store_that_evicts_is_refused(spare_broker: Broker, policy: str) -> None:
    """A store that may evict jobs is refused, with what to change in the message."""
    async with configured(spare_broker, maxmemory_policy=policy):
        with pytest.raises(StoreUnfit) as refused:
            await spare_broker.check()

    assert policy in str(refused.value)
    assert "CONFIG SET maxmemory-policy noeviction" in str(refused.value)
    await spare_broker.check()


@pytest.mark.parametrize("spare", ALONE, indirect=True)  # a node of a cluster cannot be told to be one
async def test_a_replica_is_refused(spare_broker: Broker) -> None:
    """A read-only replica is refused at the start, and is unavailable to a call that writes."""
    await spare_broker.redis.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(StoreUnfit, match="replica: give the URL of its primary"):
            await spare_broker.check()
        with pytest.raises(StoreUnavailable):
            await spare_broker.enqueue([new("a")])
    finally:
        await spare_broker.redis.replicaof("NO", "ONE")
    await spare_broker.enqueue([new("a")])


@pytest.mark.parametrize(
    ("directives", "persistence"),
    [
        ({"appendonly": "no", "save": ""}, "none"),
        ({"appendonly": "no", "save": "3600 1"}, "rdb only"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, "aof everysec"),
        ({"appendonly": "yes", "appendfsync": "always"}, "aof always"),
        ({"appendonly": "yes", "appendfsync": "no"}, "aof no"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_weak_persistence_warns(spare_broker: Broker, directives: dict[str, str], persistence: str) -> None:
    """A store without an append-only file is taken, with a warning that says what to change."""
    async with configured(spare_broker, **directives):
        info = await spare_broker.check()

    assert info.persistence == persistence
    if persistence.startswith("aof"):
        assert info.warnings == ()
    else:
        [warning] = info.warnings
        assert "CONFIG SET appendonly yes" in warning


async def test_a_store_that_is_too_old_is_refused() -> None:
    """A Redis before 7.0 is refused, with the version that is needed."""
    text = b"redis_version:6.2.14\r\nrole:master\r\n"
    reply = b"$%d\r\n%s\r\n" % (len(text), text)
    async with (
        answering(lambda command: reply if command == "INFO" else b"+OK\r\n") as url,
        Broker(url=url) as broker,
    ):
        with pytest.raises(StoreUnfit, match=r"redis 6\.2\.14 is too old.*7\.0"):
            await broker.check()


# --- what its errors mean


@pytest.mark.parametrize("url", [NOBODY, "unix:///nowhere/valkey.sock"])
async def test_a_store_that_is_down_is_unavailable_at_once(url: str) -> None:
    """Every call to a dead port or socket raises StoreUnavailable, without waiting."""
    async with Broker(url=url) as broker:
        calls: list[Callable[[], object]] = [
            broker.check,
            broker.ping,
            lambda: broker.enqueue([new("a")]),
            lambda: broker.get(A),
            lambda: broker.version(A),
            broker.dead_letters,
            lambda: claim(broker),
            lambda: broker.wait(shard=0, worker="w1", queues=["default"], timeout_ms=MINUTE),
            lambda: finish(broker, A, Succeeded()),
            lambda: broker.renew(worker=WORKER, held=[]),
            lambda: broker.report_progress(A, "t1", fraction=0, message=""),
            lambda: broker.depart(worker="w1", queues=["default"]),
            lambda: broker.promote(shard=0, queues=["default"]),
            lambda: broker.reclaim(shard=0, queues=["default"]),
            lambda: broker.queue_names(0),
        ]
        began = time.monotonic()
        for call in calls:
            with pytest.raises(StoreUnavailable):
                await call()  # type: ignore[misc]  # each of them is a coroutine function of another type
        assert time.monotonic() - began < 3


async def test_a_store_that_does_not_answer_is_unavailable_in_time() -> None:
    """A server that accepts and says nothing makes calls StoreUnavailable after 5 s, all of them at once."""
    async with answering(lambda _: b"") as url, Broker(url=url) as broker:
        began = time.monotonic()

        async def refused() -> None:
            with pytest.raises(StoreUnavailable):
                await broker.ping()

        await asyncio.gather(*(refused() for _ in range(50)))

        assert COMMAND_TIMEOUT - 0.1 < time.monotonic() - began < COMMAND_TIMEOUT + 2


@pytest.mark.parametrize(
    "error",
    ["LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED"],
)
async def test_a_store_that_is_busy_with_itself_is_unavailable(error: str) -> None:
    """What passes by itself is StoreUnavailable: the caller may try again."""
    reply = f"-{error} something about it\r\n".encode()
    async with (
        answering(lambda command: b"+OK\r\n" if command == "CLIENT" else reply) as url,
        Broker(url=url) as broker,
    ):
        for call in (broker.ping, lambda: broker.enqueue([new("a")]), lambda: broker.get(A)):
            with pytest.raises(StoreUnavailable):
                await call()


@pytest.mark.parametrize("loading", [0, 1])
async def test_a_store_that_goes_away_while_it_is_looked_at_is_unavailable(loading: int) -> None:
    """Regression: of a store that was restarted between two questions a worker said that it refuses to answer, and
    ended; one that was loading was said to keep nothing on disk.
    """
    facts = f"valkey_version:9.1.2\r\nrole:master\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\nloading:{loading}"
    answers = {"INFO": f"${len(facts)}\r\n{facts}\r\n".encode(), "CLIENT": b"+OK\r\n", "CONFIG": b"-LOADING soon\r\n"}
    async with answering(lambda command: answers[command]) as url, Broker(url=url) as broker:
        with pytest.raises(StoreUnavailable):
            await broker.check()


async def test_an_error_that_does_not_pass_comes_through() -> None:
    """Any other error of the store is nobody's business but ours, and is not taken for an outage."""
    async with (
        answering(lambda command: b"+OK\r\n" if command == "CLIENT" else b"-ERR no such thing\r\n") as url,
        Broker(url=url) as broker,
    ):
        with pytest.raises(ResponseError, match="no such thing"):
            await broker.enqueue([new("a")])


async def test_a_store_that_runs_somebody_else_s_script_is_unavailable(
    spare_broker: Broker, eventually: Eventually
) -> None:
    """While a script of somebody else blocks the store, calls are StoreUnavailable; afterwards they work."""
    async with configured(spare_broker, busy_reply_threshold="20"):
        hog = asyncio.create_task(spare_broker.redis.eval("while true do end", 0))
        with pytest.raises(StoreUnavailable, match="busy"):
            await eventually(spare_broker.ping, within=10)  # which returns nothing until it raises
        await spare_broker.redis.script_kill()
        with pytest.raises(ResponseError, match="killed"):
            await hog
    await spare_broker.ping()


async def test_a_restarted_store_is_used_again(
    own_valkey: Callable[..., Store], namespace: str, eventually: Eventually
) -> None:
    """After kill -9 and a restart the same broker goes on, with the jobs that it had stored."""
    store = own_valkey("--appendfsync", "always")
    async with Broker(url=store.url, namespace=namespace) as broker:
        await broker.enqueue([new("a")])
        store.kill()
        with pytest.raises(StoreUnavailable):
            await broker.enqueue([new("b")])
        store.start_again()

        async def stored() -> bool:
            try:
                await broker.enqueue([new("b")])
            except StoreUnavailable:
                return False
            return True

        await eventually(stored)
        assert ids(await claim(broker, 5)) == [A, B]
        await audit(broker)


def test_a_connection_that_was_reset_while_idle_fails_no_call(eventually: Eventually) -> None:
    """Regression: redis-py's pool does not see that a connection has been reset while it lay idle, and uvloop refuses
    to write to it with a RuntimeError. A new one is opened, and no call fails.
    """
    resets: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset = asyncio.Event()
        resets.append(reset)
        greeting = asyncio.create_task(_obey(reader, writer))
        await reset.wait()
        greeting.cancel()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def outage() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        async with server, Broker(url=url) as broker:
            await broker.ping()
            resets[0].set()
            [connection] = broker.redis.connection_pool._available_connections
            await eventually(connection._reader.exception)
            await broker.ping()
            resets[1].set()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(outage())


async def test_connections_that_were_swallowed_fail_one_call_not_each(valkey: str, namespace: str) -> None:
    """Regression: where the network has swallowed eight idle connections, the first call finds out, and the next
    eight open new ones; each had to wait for its whole timeout.
    """
    async with Proxy(valkey.replace("unix://", "unix:")) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with Broker(url=url, namespace=namespace) as broker:
            await asyncio.gather(*(broker.ping() for _ in range(8)))
            assert proxy.connections == 8
            proxy.swallow_open()
            with pytest.raises(StoreUnavailable):
                async with broker.primaries.reaching(0, 0.2) as primary:
                    await primary.redis.ping()

            async with asyncio.timeout(1):
                await asyncio.gather(*(broker.ping() for _ in range(8)))


async def _obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers everything with OK."""
    while header := await reader.readline():
        for _ in range(int(header[1:])):
            size = int((await reader.readline())[1:])
            await reader.readexactly(size + 2)
        writer.write(b"+OK\r\n")


# --- cancellation


async def test_a_cancelled_call_is_really_cancelled(broker: Broker) -> None:
    """Regression: of 1,000 calls cancelled at random moments none goes on as if nothing had happened (redis-py sends
    through asyncio.wait_for, which on Python 3.11 swallows a cancellation that comes as the send succeeds), and no
    reply reaches a call that it does not belong to.
    """
    dice = random.Random(11)
    names = [f"n{n}" for n in range(20)]
    await broker.enqueue([new(name, payload=name.encode()) for name in names])
    swallowed = 0
    for n in range(1_000):
        call = asyncio.create_task(broker.get(ident(dice.choice(names))))
        await give_way(dice.randrange(60))
        was_done = call.done()
        call.cancel()
        done, _ = await asyncio.wait([call], timeout=5)
        assert done, "still running"
        swallowed += not was_done and not call.cancelled()
        if n % 10 == 0:
            name = dice.choice(names)
            assert (await broker.get(ident(name))).spec.payload == name.encode()
    assert swallowed == 0


async def test_a_cancelled_enqueue_may_be_repeated(store_broker: Broker) -> None:
    """Whether a cancelled enqueue took effect is unknown; the same request again makes no second job."""
    dice = random.Random(5)
    for n in range(200):
        call = asyncio.create_task(store_broker.enqueue([new(f"n{n}")]))
        await give_way(dice.randrange(60))
        call.cancel()
        await asyncio.wait([call])
        await store_broker.enqueue([new(f"n{n}")])

    assert await store_broker.redis.hget(store_broker.shard(0).queue("default"), "QUEUED") == b"200"


async def test_more_callers_than_connections_wait_their_turn(store_broker: Broker) -> None:
    """500 concurrent calls share 32 connections."""
    await store_broker.enqueue([new("a")])
    jobs = await asyncio.gather(*(store_broker.get(A) for _ in range(500)))

    assert {job.job_id for job in jobs} == {A}


async def test_closing_twice_is_closing_once(valkey: str, tmp_path: Path) -> None:
    """A broker may be closed twice, and one that was never used too."""
    unused = Broker(url=f"unix://{tmp_path}/nothing.sock")
    await unused.aclose()
    await unused.aclose()
    async with Broker(url=valkey) as used:
        await used.ping()
        await used.aclose()
