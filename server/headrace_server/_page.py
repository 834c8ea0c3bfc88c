"""A page of dead letters that a client can receive: their texts may be long, and a message may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.v1.job_service_pb2 import ListDLQResponse
from headrace_server._render import listed_message

if TYPE_CHECKING:
    from headrace_broker import Broker

MAX_PAGE_BYTES = 3 * 1024 * 1024
"""Size of a page at most, unless a single job is larger: grpc clients take 4 MiB if nobody told them otherwise."""


async def fitting_page(broker: Broker, *, queue: str, page_size: int, page_token: str) -> ListDLQResponse:
    """The page of at most `page_size` jobs, or of fewer where they would be too large. Raises BadPageToken."""
    while True:
        page = await broker.dead_letters(queue=queue, page_size=page_size, page_token=page_token)
        response = ListDLQResponse(next_page_token=page.next_page_token, total_size=page.total)
        size = 0
        for job in page.jobs:
            message = listed_message(job)
            size += message.ByteSize()
            if response.jobs and size > MAX_PAGE_BYTES:
                break
            response.jobs.append(message)
        if len(response.jobs) == len(page.jobs):
            return response
        page_size = len(response.jobs)  # read again: only the broker can say how the next page continues
