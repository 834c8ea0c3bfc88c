"""From requests about queues to what the broker is asked. Like _parse.py, which has the fields of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace_server._parse import DEFAULT_PAGE, MAX_PAGE, checked_name
from headrace_server._parse_verbs import checked_reason
from headrace_server._violations import Violations

if TYPE_CHECKING:
    from headrace.v1.queue_service_pb2 import PauseQueueRequest


def parse_queue(queue: str) -> str:
    """The name of a queue. Raises InvalidRequest."""
    bad = Violations()
    checked_name("queue", queue, bad)
    bad.check()
    return queue


def parse_page_size(page_size: int) -> int:
    """The number of items on a page, 1 to 1,000. Raises InvalidRequest."""
    bad = Violations()
    if page_size < 0:
        bad.add("page_size", f"must not be negative; got {page_size}")
    bad.check()
    return min(page_size or DEFAULT_PAGE, MAX_PAGE)


def parse_pause(request: PauseQueueRequest) -> tuple[str, str]:
    """The queue, and the reason. Raises InvalidRequest."""
    bad = Violations()
    checked_name("queue", request.queue, bad)
    checked_reason("reason", request.reason, bad)
    bad.check()
    return request.queue, request.reason
