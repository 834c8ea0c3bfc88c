"""headrace: a job queue that any service calls over gRPC.

    from headrace import Client

    with Client("localhost:50051") as client:
        job = client.enqueue("echo.process", {"msg": "hello"})
        print(job.result(timeout=10))

AsyncClient is the same for asyncio. Everything public is here; modules with a leading underscore are private.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from headrace._queue_models import Queue, QueueRates
from headrace.errors import (
    AccessDenied,
    ClientClosed,
    ContentError,
    DeadlineExceeded,
    EnqueueError,
    HeadraceError,
    HistoryGap,
    InvalidAddress,
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobUnsuccessful,
    PreconditionFailed,
    QueueNotFound,
    RequestError,
    ResourceExhausted,
    ServerFault,
    Unavailable,
    Unsupported,
    Violation,
)
from headrace.models import (
    DeadLetterFilter,
    DeadLetterPage,
    DeadLetterSweep,
    Durability,
    Duration,
    EventKind,
    Failure,
    Job,
    JobState,
    NewJob,
    Priority,
    Progress,
    RetryPolicy,
    StatusEvent,
    Transition,
)

if TYPE_CHECKING:
    from headrace._async_queues import AsyncQueues
    from headrace._sync_queues import Queues
    from headrace.aio import AsyncClient, AsyncJobHandle
    from headrace.client import Client, JobHandle

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncQueues",
    "Client",
    "ClientClosed",
    "ContentError",
    "DeadLetterFilter",
    "DeadLetterPage",
    "DeadLetterSweep",
    "DeadlineExceeded",
    "Durability",
    "Duration",
    "EnqueueError",
    "EventKind",
    "Failure",
    "HeadraceError",
    "HistoryGap",
    "InvalidAddress",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "JobHandle",
    "JobNotFound",
    "JobState",
    "JobUnsuccessful",
    "NewJob",
    "PreconditionFailed",
    "Priority",
    "Progress",
    "Queue",
    "QueueNotFound",
    "QueueRates",
    "Queues",
    "RequestError",
    "ResourceExhausted",
    "RetryPolicy",
    "ServerFault",
    "StatusEvent",
    "Transition",
    "Unavailable",
    "Unsupported",
    "Violation",
]

# These need gRPC, which takes longer to import than all the rest; the command line and the server's use of
# headrace.v1 pass through here without it.
_LAZY = {
    "AsyncClient": "headrace.aio",
    "AsyncJobHandle": "headrace.aio",
    "AsyncQueues": "headrace._async_queues",
    "Client": "headrace.client",
    "JobHandle": "headrace.client",
    "Queues": "headrace._sync_queues",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
