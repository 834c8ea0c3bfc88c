"""What AsyncClient can do to queues."""
# ruff: noqa: ASYNC109 - a timeout here is the deadline of a call, which gRPC takes as a number

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace._convert_queue import queue_from
from headrace.v1.queue_service_pb2 import (
    GetQueueRequest,
    ListQueuesRequest,
    PauseQueueRequest,
    ResumeQueueRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._channel import Connection
    from headrace._queue_models import Queue
    from headrace.models import Duration

_PAGE = 1_000


class AsyncQueues:
    """Shows queues, and steers them. Reached as `client.queues`.

    Methods that name a queue raise QueueNotFound where it has never had a job, nor been set up. All may be repeated.
    `timeout` is the longest wait for the answer; by default that of the client.
    """

    def __init__(self, *, connection: Connection, seconds: Callable[[Duration | None], float]) -> None:
        self._connection = connection
        self._seconds = seconds

    async def list(self, *, timeout: Duration | None = None) -> tuple[Queue, ...]:
        """All queues, by name."""
        rpc, within = self._connection.queue_stub.ListQueues, self._seconds(timeout)
        found: tuple[Queue, ...] = ()
        token = ""
        while True:
            request = ListQueuesRequest(page_size=_PAGE, page_token=token)
            reply = await self._connection.unary(rpc, request, within=within)
            found += tuple(queue_from(pb) for pb in reply.queues)
            token = reply.next_page_token
            if not token:
                return found

    async def get(self, queue: str, *, timeout: Duration | None = None) -> Queue:
        """One queue."""
        rpc, request = self._connection.queue_stub.GetQueue, GetQueueRequest(queue=queue)
        return queue_from((await self._connection.unary(rpc, request, within=self._seconds(timeout))).queue)

    async def pause(
        self, queue: str, *, reason: str = "", allow_missing: bool = False, timeout: Duration | None = None
    ) -> Queue:
        """Stop a queue from handing out jobs, until it is resumed. Running jobs finish, new ones are taken.

        Args:
            queue: The queue.
            reason: Why, at most 200 characters; whoever looks at the queue sees it.
            allow_missing: Make the queue where it does not exist.
            timeout: Longest wait for the answer.
        """
        rpc = self._connection.queue_stub.PauseQueue
        request = PauseQueueRequest(queue=queue, reason=reason, allow_missing=allow_missing)
        return queue_from((await self._connection.unary(rpc, request, within=self._seconds(timeout))).queue)

    async def resume(self, queue: str, *, timeout: Duration | None = None) -> Queue:
        """Let a paused queue hand out jobs again."""
        rpc, request = self._connection.queue_stub.ResumeQueue, ResumeQueueRequest(queue=queue)
        return queue_from((await self._connection.unary(rpc, request, within=self._seconds(timeout))).queue)
