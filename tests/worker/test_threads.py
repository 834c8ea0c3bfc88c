"""Plain functions in threads, and how they are interrupted."""

import asyncio
import threading

import pytest

from headrace_broker import Released, Succeeded
from headrace_worker import JobCancelled
from headrace_worker._threads import Call, Threads


@pytest.fixture
def threads():
    """Threads, closed at the end."""
    pool = Threads(name="test")
    yield pool
    pool.close()


async def test_a_call_returns_what_its_function_returns(threads):
    """Or raises what it raises."""
    assert await threads.call(Succeeded).future == Succeeded()
    with pytest.raises(ZeroDivisionError):
        await threads.call(lambda: 1 / 0).future


async def test_an_idle_thread_is_used_again(threads, eventually):
    """A hundred calls, one after the other, do not make a hundred threads."""
    names = set()

    def note():
        names.add(threading.current_thread().name)
        return Released()

    for _ in range(100):
        await threads.call(note).future
    assert len(names) < 5


async def test_calls_run_at_the_same_time(threads):
    """Each gets a thread of its own while it runs."""
    barrier = threading.Barrier(8)
    calls = [threads.call(lambda: Succeeded(result=str(barrier.wait(5)).encode())) for _ in range(8)]
    outcomes = await asyncio.gather(*(call.future for call in calls))
    assert len({outcome.result for outcome in outcomes}) == 8


async def test_an_interrupt_ends_a_loop_that_catches_every_exception(threads):
    """The function is left at its next line, and its thread is not used again."""
    begun = threading.Event()
    thread = []

    def stubborn():
        thread.append(threading.current_thread())
        while True:
            try:
                begun.set()
                threading.Event().wait(0.001)
            except Exception:  # noqa: BLE001  that is the point
                continue

    call = threads.call(stubborn)
    await asyncio.to_thread(begun.wait, 5)
    call.interrupt()
    with pytest.raises(JobCancelled):
        await call.future
    await asyncio.to_thread(thread[0].join, 5)
    assert not thread[0].is_alive()


async def test_a_call_interrupted_before_it_began_never_begins():
    """Its function is not called at all."""
    call = Call(lambda: pytest.fail("it was called"), loop=asyncio.get_running_loop())
    call.interrupt()
    call.run()
    with pytest.raises(JobCancelled):
        await call.future


async def test_interrupts_hit_only_the_call_that_they_are_meant_for(threads):
    """A thousand calls, every second one interrupted at about its end: each of the others ends undisturbed."""

    def quick():
        sum(range(50))
        return Succeeded()

    for round_ in range(500):
        meant, other = threads.call(quick), threads.call(quick)
        if round_ % 2:
            await asyncio.wait([meant.future], timeout=0.0001)
        meant.interrupt()
        assert await other.future == Succeeded()
        try:
            assert await meant.future == Succeeded()
        except JobCancelled:
            continue
