"""group_commit.py: items gather while a call is under way, and go out together in the next one."""

import asyncio
from collections.abc import Sequence

import pytest

from broker.moves import give_way
from headrace_broker import GroupCommit


class Store:
    """A write that waits until it is let go, and answers each item with its square."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.under_way = asyncio.Semaphore(0)
        self.go = asyncio.Semaphore(0)
        self.error: BaseException | None = None

    async def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        """Takes the items of one call."""
        self.calls.append(list(items))
        self.under_way.release()
        await self.go.acquire()
        if self.error is not None:
            raise self.error
        return [ValueError(f"no {item}") if item < 0 else item * item for item in items]


@pytest.fixture
def slow() -> Store:
    """See Store."""
    return Store()


def group(slow: Store, limit: int = 100) -> GroupCommit[int, int]:
    """Returns a group commit to the slow store."""
    return GroupCommit(write=slow, limit=limit, name="group")


async def submit(commit: GroupCommit[int, int], *items: int) -> list[asyncio.Task[int]]:
    """Submits items from a task each; returns when all have been handed over."""
    tasks = [asyncio.create_task(commit.submit(item)) for item in items]
    await give_way(3)
    return tasks


async def test_an_idle_caller_waits_for_nobody(slow: Store) -> None:
    """A single item goes out at once, alone."""
    commit = group(slow)
    slow.go.release()

    assert await commit.submit(3) == 9
    assert slow.calls == [[3]]


async def test_items_gather_while_a_call_is_under_way(slow: Store) -> None:
    """What comes during a call goes out together in the next one, in order, and each gets its own reply."""
    commit = group(slow)
    [first] = await submit(commit, 1)
    await slow.under_way.acquire()
    rest = await submit(commit, *range(2, 50))
    assert slow.calls == [[1]]

    slow.go.release()
    slow.go.release()

    assert await asyncio.gather(first, *rest) == [n * n for n in range(1, 50)]
    assert slow.calls == [[1], list(range(2, 50))]


async def test_a_call_takes_no_more_than_the_limit(slow: Store) -> None:
    """More items than the limit go out in several calls, one after the other."""
    commit = group(slow, limit=20)
    for _ in range(4):
        slow.go.release()

    replies = await asyncio.gather(*await submit(commit, *range(50)))

    assert replies == [n * n for n in range(50)]
    assert [len(call) for call in slow.calls] == [20, 20, 10]
    assert [item for call in slow.calls for item in call] == list(range(50))


async def test_an_error_of_one_item_is_its_own(slow: Store) -> None:
    """Where a reply is an exception, it is raised for that item alone."""
    commit = group(slow)
    slow.go.release()

    answers = await asyncio.gather(*await submit(commit, 1, -2, 3), return_exceptions=True)

    assert [str(answer) for answer in answers] == ["1", "no -2", "9"]


async def test_an_error_of_the_call_is_everybody_s(slow: Store) -> None:
    """Where the write raises, every item of that call hears it, and the next call is made as usual."""
    commit = group(slow, limit=2)
    slow.error = OSError("down")
    tasks = await submit(commit, 1, 2, 3)
    await slow.under_way.acquire()
    slow.go.release()
    await slow.under_way.acquire()  # the second call has begun
    slow.error = None
    slow.go.release()

    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [str(answer) for answer in answers] == ["down", "down", "9"]


async def test_a_caller_that_goes_away_harms_nobody(slow: Store) -> None:
    """Cancelling one caller neither takes its item back nor disturbs the others."""
    commit = group(slow)
    one, two, three = await submit(commit, 1, 2, 3)
    two.cancel()
    slow.go.release()

    assert [await one, await three] == [1, 9]
    with pytest.raises(asyncio.CancelledError):
        await two
    assert slow.calls == [[1, 2, 3]]


async def test_closing_waits_for_what_was_submitted(slow: Store) -> None:
    """Closing returns when everything submitted so far has been answered; also when there is nothing, and twice."""
    commit = group(slow, limit=1)
    await commit.aclose()
    tasks = await submit(commit, 1, 2)
    closing = asyncio.create_task(commit.aclose())
    await slow.under_way.acquire()
    assert not closing.done()

    slow.go.release()
    slow.go.release()
    await closing

    assert [task.result() for task in tasks] == [1, 4]
    await commit.aclose()


async def test_a_cancelled_writer_leaves_nobody_waiting(slow: Store) -> None:
    """When the task that writes is cancelled, the callers of that call are cancelled, and a later submit works."""
    commit = group(slow, limit=1)
    [waiting] = await submit(commit, 1)
    await slow.under_way.acquire()
    [writer] = [task for task in asyncio.all_tasks() if task.get_name() == "group"]
    writer.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    slow.go.release()
    assert await commit.submit(4) == 16


async def test_a_thousand_callers_need_few_calls(slow: Store) -> None:
    """1,000 concurrent callers are served by as many calls as the limit asks for."""
    commit = group(slow, limit=200)
    for _ in range(10):
        slow.go.release()

    replies = await asyncio.gather(*(commit.submit(n) for n in range(1_000)))

    assert replies == [n * n for n in range(1_000)]
    assert len(slow.calls) == 5
