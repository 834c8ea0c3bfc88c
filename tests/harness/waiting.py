"""Waiting for what another process or task will make true. The only place in the tests that polls."""

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import pytest

T = TypeVar("T")

_STEP = 0.02  # seconds between two looks


class Eventually(Protocol):
    """`await eventually(predicate, within=5.0)`: the first truthy value of predicate, which may be a coroutine
    function. A predicate that raises AssertionError is not true yet. Past the deadline: AssertionError.
    """

    async def __call__(self, predicate: Callable[[], T | Awaitable[T]], *, within: float = 5.0) -> T:
        """Wait until `predicate()` is truthy, at most `within` seconds, and return that value."""
        ...


class EventuallySync(Protocol):
    """`eventually_sync(predicate, within=5.0)`: the same for tests without an event loop."""

    def __call__(self, predicate: Callable[[], T], *, within: float = 5.0) -> T:
        """Wait until `predicate()` is truthy, at most `within` seconds, and return that value."""
        ...


async def wait_until(predicate: Callable[[], T | Awaitable[T]], *, within: float = 5.0) -> T:
    """See Eventually; for those who have no fixtures."""
    deadline = time.monotonic() + within
    never = asyncio.Event()
    while True:
        value, doubt = await _look(predicate)
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(_overdue(predicate, value, within)) from doubt
        try:
            await asyncio.wait_for(never.wait(), _STEP)
        except TimeoutError:
            continue


async def _look(predicate: Callable[[], T | Awaitable[T]]) -> tuple[T | None, AssertionError | None]:
    try:
        value = predicate()
        return (await value if inspect.isawaitable(value) else value), None
    except AssertionError as doubt:
        return None, doubt


def _eventually_sync(predicate: Callable[[], T], *, within: float = 5.0) -> T:
    deadline = time.monotonic() + within
    never = threading.Event()
    while True:
        doubt: AssertionError | None = None
        value: T | None = None
        try:
            value = predicate()
        except AssertionError as failed:
            doubt = failed
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(_overdue(predicate, value, within)) from doubt
        never.wait(_STEP)


def _overdue(predicate: object, value: object, within: float) -> str:
    name = getattr(predicate, "__qualname__", repr(predicate))
    return f"{name} was still {value!r} after {within} s"


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """See Eventually."""
    return wait_until


@pytest.fixture(scope="session")
def eventually_sync() -> EventuallySync:
    """See EventuallySync."""
    return _eventually_sync
