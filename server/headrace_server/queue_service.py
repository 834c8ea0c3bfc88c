"""QueueService: each method parses, makes one call to the broker, and replies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from headrace.v1 import queue_service_pb2, queue_service_pb2_grpc
from headrace_server import _parse_queue
from headrace_server._render_queue import queue_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.v1 import queue_pb2
    from headrace_broker import Broker, Queue

    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = "headrace.v1.QueueService"


class QueueService(queue_service_pb2_grpc.QueueServiceServicer):
    """The servicer."""

    def __init__(self, *, broker: Broker) -> None:
        self._broker = broker

    async def ListQueues(  # noqa: N802  the contract's name
        self, request: queue_service_pb2.ListQueuesRequest, _context: Context
    ) -> queue_service_pb2.ListQueuesResponse:
        """Return one page of queues."""
        page_size = _parse_queue.parse_page_size(request.page_size)
        page = await self._broker.queues.page(page_size=page_size, page_token=request.page_token)
        return queue_service_pb2.ListQueuesResponse(
            queues=await self._messages(page.queues), next_page_token=page.next_page_token, total_size=page.total
        )

    async def GetQueue(  # noqa: N802  the contract's name
        self, request: queue_service_pb2.GetQueueRequest, _context: Context
    ) -> queue_service_pb2.GetQueueResponse:
        """Return one queue."""
        queue = await self._broker.queues.get(_parse_queue.parse_queue(request.queue))
        return queue_service_pb2.GetQueueResponse(queue=await self._message(queue))

    async def PauseQueue(  # noqa: N802  the contract's name
        self, request: queue_service_pb2.PauseQueueRequest, _context: Context
    ) -> queue_service_pb2.PauseQueueResponse:
        """Pause one queue."""
        name, reason = _parse_queue.parse_pause(request)
        queue = await self._broker.queues.pause(name, reason=reason, allow_missing=request.allow_missing)
        return queue_service_pb2.PauseQueueResponse(queue=await self._message(queue))

    async def ResumeQueue(  # noqa: N802  the contract's name
        self, request: queue_service_pb2.ResumeQueueRequest, _context: Context
    ) -> queue_service_pb2.ResumeQueueResponse:
        """Resume one queue."""
        queue = await self._broker.queues.resume(_parse_queue.parse_queue(request.queue))
        return queue_service_pb2.ResumeQueueResponse(queue=await self._message(queue))

    async def _message(self, queue: Queue) -> queue_pb2.Queue:
        (message,) = await self._messages([queue])
        return message

    async def _messages(self, queues: Sequence[Queue]) -> list[queue_pb2.Queue]:
        workers = await self._broker.workers.listening()
        return [queue_message(queue, workers=workers[queue.name]) for queue in queues]
