"""Group commit of enqueue calls: items gather while a call is under way, and go out together in the next one."""

from __future__ import annotations

import asyncio
import copy
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from headrace.errors import DeadlineExceeded, HeadraceError, Unavailable

if TYPE_CHECKING:
    from headrace.v1.job_service_pb2 import EnqueueRequest, EnqueueResponse

MAX_ITEMS = 1_000
MAX_BYTES = 3 << 20
"""Bytes of one call: below the 4 MiB that a gRPC server takes by default. A single larger job goes alone."""

Send: TypeAlias = Callable[[Sequence["EnqueueRequest"], float], Awaitable[Sequence["EnqueueResponse | HeadraceError"]]]
"""Sends the requests in one call with a timeout in seconds; one answer each, in order. Raises for the whole call."""

AWAY = "STORE_UNAVAILABLE"
"""Reason of an item whose part of the store is away, while other items of the call are stored."""
_PAUSES = (0.1, 0.3, 0.9, 2.7)
"""Seconds before such an item is sent again: the same as gRPC takes for a whole call."""
_SLACK = 0.2
"""Seconds that an item outlives its deadline: where the call itself fails of it, its error says more."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Item:
    request: EnqueueRequest
    size: int
    deadline: float
    answer: asyncio.Future[EnqueueResponse]
    repeated: int = 0


class Coalescer:
    """Sends enqueue requests, one call at a time. A request that comes alone goes out at once, by itself."""

    def __init__(self, *, send: Send) -> None:
        self._send = send
        self._waiting: deque[_Item] = deque()
        self._resting: set[_Item] = set()
        self._sender: asyncio.Task[None] | None = None

    async def submit(self, request: EnqueueRequest, within: float) -> EnqueueResponse:
        """The answer to `request`, in at most `within` seconds.

        Raises:
            HeadraceError: What went wrong with this request, or with the call that carried it.
            DeadlineExceeded: No answer in time.
        """
        loop = asyncio.get_running_loop()
        item = _Item(
            request=request, size=request.ByteSize(), deadline=loop.time() + within, answer=loop.create_future()
        )
        timer = loop.call_at(item.deadline + _SLACK, _give_up, item, within)
        self._add(item)
        try:
            return await item.answer
        finally:
            timer.cancel()

    async def aclose(self) -> None:
        """Wait for what is under way or waiting; the deadlines bound that. Safe twice."""
        while resting := [item.answer for item in self._resting if not item.answer.done()]:
            await asyncio.wait(resting)
        if self._sender is not None:
            await asyncio.wait([self._sender])

    def _add(self, item: _Item) -> None:
        self._resting.discard(item)
        self._waiting.append(item)
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._drain(), name="headrace-client-enqueue")

    def _rest(self, item: _Item) -> None:
        """Sends an item again after a pause; the others need not wait for it."""
        self._resting.add(item)
        pause = _PAUSES[item.repeated] * random.uniform(0.8, 1.2)  # noqa: S311 - spreads repetitions, guards nothing
        item.repeated += 1
        asyncio.get_running_loop().call_later(pause, self._add, item)

    async def _drain(self) -> None:
        try:
            while batch := self._take():
                await self._deliver(batch)
        finally:
            self._sender = None
            for item in self._waiting:  # Only when this task was cancelled: nobody is left to send them.
                item.answer.cancel()
            self._waiting.clear()

    def _take(self) -> list[_Item]:
        """The next items that fit in one call, without those that nobody waits for any more. Empty: there are none."""
        now = asyncio.get_running_loop().time()
        batch: list[_Item] = []
        size = 0
        while self._waiting and len(batch) < MAX_ITEMS:
            item = self._waiting[0]
            if item.answer.done() or item.deadline <= now:
                self._waiting.popleft()  # Given up by its caller, or about to be by its timer.
                continue
            if batch and size + item.size > MAX_BYTES:
                break
            batch.append(self._waiting.popleft())
            size += item.size
        return batch

    async def _deliver(self, batch: list[_Item]) -> None:
        timeout = max(item.deadline for item in batch) - asyncio.get_running_loop().time()
        try:
            answers = await self._send([item.request for item in batch], timeout)
        except asyncio.CancelledError:
            for item in batch:
                item.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - not lost: it is raised in each caller, whose job may be stored or not
            for item in batch:
                _settle(item, _copy(error))
        else:
            for item, answer in zip(batch, answers, strict=True):
                is_away = isinstance(answer, Unavailable) and answer.reason == AWAY
                if is_away and item.repeated < len(_PAUSES) and not item.answer.done():
                    self._rest(item)
                else:
                    _settle(item, answer)


def _settle(item: _Item, answer: EnqueueResponse | Exception) -> None:
    if item.answer.done():
        return
    if isinstance(answer, Exception):
        item.answer.set_exception(answer)
    else:
        item.answer.set_result(answer)


def _copy(error: Exception) -> Exception:
    """An error for one caller of several: raising one object in all of them would pile up their tracebacks."""
    duplicate = copy.copy(error)
    duplicate.__cause__ = error.__cause__
    return duplicate


def _give_up(item: _Item, timeout: float) -> None:
    _settle(item, DeadlineExceeded(f"no answer within {timeout:g} s"))
