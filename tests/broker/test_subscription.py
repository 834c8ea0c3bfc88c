"""subscription.py: the bell that tells what the scripts publish."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from broker.moves import BOOM, claim, finish, make_due, start, stop
from broker.state import A, B, C, ident, new, wipe
from harness.proxy import Mode, Proxy
from harness.stores import Store
from harness.waiting import Eventually
from headrace_broker import (
    RESYNC,
    Bell,
    Broker,
    JobNotFound,
    Progress,
    Resync,
    Retried,
    StoreUnavailable,
    Subscription,
    Succeeded,
    Transition,
)
from headrace_broker.job import HOUR
from headrace_broker.subscription import BUFFER, CONFIRM_TIMEOUT

Heard = Transition | Progress | Resync | None


async def next_of(bell: Bell) -> Heard:
    """Waits for the next ring."""
    heard = await bell.ring(5)
    assert heard is not None, "the bell stays silent"
    return heard


async def channels(broker: Broker) -> set[str]:
    """Reads which channels of jobs have a subscriber."""
    found = await broker.redis.execute_command("PUBSUB", "SHARDCHANNELS", f"{broker.shard(0).tag}event:*")
    return {name.decode() for name in found}


async def test_all_steps_are_heard_in_order(spare_broker: Broker, subscription: Subscription) -> None:
    """A listener hears every transition and every progress of its job, in order, and of no other job."""
    async with subscription.listen(A) as bell:
        await start(spare_broker, new("a"), new("b"))
        await spare_broker.report_progress(A, "t1", fraction=0.5, message="half")
        await finish(spare_broker, A, Retried(delay_ms=HOUR, failure=BOOM))
        await make_due(spare_broker, A)
        await spare_broker.promote(shard=0, queues=["default"])
        await claim(spare_broker, token="t2")
        await finish(spare_broker, A, Succeeded(), token="t2")

        heard = [await next_of(bell) for _ in range(7)]

        job = await spare_broker.get(A)
        assert [event for event in heard if isinstance(event, Transition)] == list(job.history)
        assert heard[2] == job.progress
        assert await bell.ring(0) is None


async def test_a_silent_bell_returns_after_its_time(subscription: Subscription) -> None:
    """Ring returns None when nothing was heard within `timeout` seconds."""
    async with subscription.listen(A) as bell:
        began = time.monotonic()
        assert await bell.ring(0.05) is None
        assert 0.04 < time.monotonic() - began < 2


async def test_nothing_is_missed_from_the_moment_listen_is_entered(
    spare_broker: Broker, subscription: Subscription
) -> None:
    """100 times: what is published at once after `listen` was entered is heard."""
    for n in range(100):
        job = ident(f"n{n}")
        async with subscription.listen(job) as bell:
            await spare_broker.enqueue([new(f"n{n}")])
            heard = await next_of(bell)
            assert isinstance(heard, Transition)
            assert heard.version == 1


async def test_many_may_listen_to_one_job(spare_broker: Broker, subscription: Subscription) -> None:
    """All listeners of a job hear the same over one subscription; those that leave make the others no deafer."""
    async with subscription.listen(A) as stays:
        async with AsyncExitStack() as stack:
            bells = [await stack.enter_async_context(subscription.listen(A)) for _ in range(20)]
            assert subscription.listeners == 21
            assert await channels(spare_broker) == {spare_broker.shard(0).event(A)}
            await spare_broker.enqueue([new("a")])
            heard = [await next_of(bell) for bell in (*bells, stays)]
            assert [event.version for event in heard if isinstance(event, Transition)] == [1] * 21
        assert subscription.listeners == 1
        await claim(spare_broker)
        heard_last = await next_of(stays)
        assert isinstance(heard_last, Transition)
        assert heard_last.version == 2


async def test_a_full_bell_says_resync(spare_broker: Broker, subscription: Subscription) -> None:
    """A listener that does not read keeps at most 64 events: one more, and it is told to read the record instead."""
    await start(spare_broker, new("a"))
    async with subscription.listen(A) as slow, subscription.listen(A) as quick:
        for n in range(BUFFER + 3):
            await spare_broker.report_progress(A, "t1", fraction=0, message=str(n))
            assert isinstance(await next_of(quick), Progress)

        rest = [await next_of(slow) for _ in range(3)]

        assert rest[0] is RESYNC
        assert [event.message for event in rest[1:] if isinstance(event, Progress)] == [
            str(BUFFER + 1),
            str(BUFFER + 2),
        ]
        assert await slow.ring(0) is None


async def test_a_full_bell_to_the_brim_keeps_all(spare_broker: Broker, subscription: Subscription) -> None:
    """64 events are not too many."""
    await start(spare_broker, new("a"))
    async with subscription.listen(A) as slow, subscription.listen(A) as quick:
        for n in range(BUFFER):
            await spare_broker.report_progress(A, "t1", fraction=0, message=str(n))
            await next_of(quick)

        heard = [await next_of(slow) for _ in range(BUFFER)]

        assert [event.message for event in heard if isinstance(event, Progress)] == [str(n) for n in range(BUFFER)]


async def test_a_broken_connection_says_resync(
    spare_broker: Broker, subscription: Subscription, eventually: Eventually
) -> None:
    """Listeners that were there when the connection broke are told to read the record; then they hear on. A listener
    that came later is not told.
    """
    async with subscription.listen(A) as old, subscription.listen(B) as other:
        for _ in range(3):
            assert await spare_broker.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub") >= 1
            assert await next_of(old) is RESYNC
            assert await next_of(other) is RESYNC
        async with subscription.listen(C) as late:
            await spare_broker.enqueue([new(name) for name in "abc"])
            for bell in (old, other, late):
                heard = await next_of(bell)
                assert isinstance(heard, Transition)
                assert heard.version == 1


async def test_a_connection_that_swallows_the_greeting_is_given_up(
    own_valkey: Callable[..., Store], namespace: str, eventually: Eventually
) -> None:
    """Regression: a subscription whose new connection was swallowed on the way waited for its first answer for ever,
    and no watcher of that server heard anything any more. It connects anew.
    """
    place = own_valkey().url.removeprefix("unix://")
    async with (
        Proxy(f"unix:{place}") as proxy,
        Broker(url=f"redis://127.0.0.1:{proxy.port}/0", namespace=namespace) as broker,
    ):
        proxy.mode = Mode(swallow=True)
        subscription = Subscription(broker)
        running = asyncio.create_task(subscription.run())
        await eventually(lambda: proxy.connections == 1)
        proxy.pass_on()
        with pytest.raises(StoreUnavailable):
            await _listens(subscription)

        await eventually(lambda: _listens(subscription), within=2 * CONFIRM_TIMEOUT)

        running.cancel()


async def _listens(subscription: Subscription) -> bool:
    async with subscription.listen(A):
        return True


async def test_listening_goes_on_while_connections_break(spare_broker: Broker, subscription: Subscription) -> None:
    """Listeners that come and go while the connection breaks again and again each hear their job or RESYNC."""
    done = asyncio.Event()

    async def breaker() -> None:
        while not done.is_set():
            await spare_broker.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            try:
                await asyncio.wait_for(done.wait(), 0.03)
            except TimeoutError:
                continue

    async def listener(n: int) -> None:
        async with subscription.listen(ident(f"n{n}")) as bell:
            await spare_broker.enqueue([new(f"n{n}")])
            assert isinstance(await next_of(bell), Transition | Resync)

    breaking = asyncio.create_task(breaker())
    for _ in range(5):
        await asyncio.gather(*(listener(n) for n in range(20)))
        await wipe(spare_broker)
    done.set()
    await breaking


async def test_no_channel_stays_subscribed(
    spare_broker: Broker, subscription: Subscription, eventually: Eventually
) -> None:
    """When the last listener of a job has left, its channel is unsubscribed: within seconds, at once under traffic."""
    for n in range(50):
        async with subscription.listen(ident(f"n{n}")):
            assert await channels(spare_broker)
    assert subscription.listeners == 0

    async def all_left() -> bool:
        await spare_broker.redis.execute_command("SPUBLISH", spare_broker.shard(0).wake(), "1")
        return not await channels(spare_broker)

    await eventually(all_left)


async def test_listeners_come_and_go_on_a_few_channels(spare_broker: Broker, subscription: Subscription) -> None:
    """A job whose channel is just being left is heard by whoever comes at that moment: 300 times over 3 jobs."""
    await start(spare_broker, *(new(name) for name in "abc"))

    async def listener(n: int) -> None:
        job = (A, B, C)[n % 3]
        async with subscription.listen(job) as bell:
            await spare_broker.report_progress(job, "t1", fraction=0, message=str(n))
            while (heard := await next_of(bell)) is not RESYNC:
                if isinstance(heard, Progress) and heard.message == str(n):
                    return
            raise AssertionError("nothing broke, so nothing may be missed")

    for start_at in range(0, 300, 10):
        await asyncio.gather(*(listener(n) for n in range(start_at, start_at + 10)))


async def test_what_is_no_job_of_ours_cannot_be_listened_to(subscription: Subscription) -> None:
    """An id that names no shard of this broker, or is no id, is JobNotFound."""
    for job in ("A" * 24 + "01", "x", "", "a" * 26):
        with pytest.raises(JobNotFound):
            async with subscription.listen(job):
                raise AssertionError("entered")
    assert subscription.listeners == 0


async def test_a_stray_message_does_no_harm(spare_broker: Broker, subscription: Subscription) -> None:
    """A message that no script wrote makes a listener read the record; everything after it is heard."""
    async with subscription.listen(A) as bell:
        for stray in (b"", b"hello", b"\xff\xfe", b"|" * 6, b"a|1|NO_STATE|1|1||", b"a|x|QUEUED|y|z||"):
            await spare_broker.redis.execute_command("SPUBLISH", spare_broker.shard(0).event(A), stray)
            assert await next_of(bell) is RESYNC
        await spare_broker.enqueue([new("a")])
        assert isinstance(await next_of(bell), Transition)


async def test_the_wake_event_is_set_by_a_schedule(spare_broker: Broker, subscription: Subscription) -> None:
    """A job that comes to the head of a schedule sets the wake event of its shard; so does a new connection."""
    wake = subscription.wake(0)
    await asyncio.wait_for(wake.wait(), 5)
    wake.clear()
    await spare_broker.enqueue([new("a", delay_ms=HOUR)])
    await asyncio.wait_for(wake.wait(), 5)
    wake.clear()
    await spare_broker.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await asyncio.wait_for(wake.wait(), 5)


async def test_a_listener_of_a_dead_store_is_told_so(own_valkey: Callable[..., Store], namespace: str) -> None:
    """Where the store confirms no subscription within 5 s, listen raises StoreUnavailable, for all who wait; when the
    store is back, the next listener is served. The loss is logged once, not at every try.
    """
    store = own_valkey()
    async with Broker(url=store.url, namespace=namespace) as broker:
        subscription = Subscription(broker)
        with capture_logs() as lines:
            task = asyncio.create_task(subscription.run())
            async with subscription.listen(B):
                store.kill()
                began = time.monotonic()

                async def refused() -> bool:
                    with pytest.raises(StoreUnavailable):
                        async with subscription.listen(A):
                            raise AssertionError("entered")
                    return True

                await asyncio.gather(*(refused() for _ in range(3)))
                assert CONFIRM_TIMEOUT - 1 < time.monotonic() - began < CONFIRM_TIMEOUT + 3
                assert subscription.listeners == 1
                store.start_again()
                async with subscription.listen(A) as bell:
                    await broker.enqueue([new("a")])
                    assert isinstance(await next_of(bell), Transition)
            await stop(task)
    assert [line["event"] for line in lines] == ["subscription lost", "subscription is back"]


async def test_a_subscription_that_does_not_run_serves_nobody(spare_broker: Broker) -> None:
    """A listener that is cancelled while it waits for its confirmation leaves nothing behind."""
    subscription = Subscription(spare_broker)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), subscription.listen(A):
            raise AssertionError("entered")

    assert subscription.listeners == 0
