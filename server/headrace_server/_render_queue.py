"""Queues as the contract says them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.v1 import queue_pb2
from headrace_broker import State
from headrace_server._spans import duration, moment

if TYPE_CHECKING:
    from headrace_broker import Queue

_COUNTS = {
    State.SCHEDULED: "scheduled",
    State.QUEUED: "queued",
    State.PROCESSING: "processing",
    State.RETRYING: "retrying",
    State.SUCCEEDED: "succeeded_total",
    State.FAILED: "failed_total",
    State.CANCELLED: "cancelled_total",
    State.EXPIRED: "expired_total",
}


def queue_message(queue: Queue, *, workers: int) -> queue_pb2.Queue:
    """The queue; `workers` take jobs from it."""
    counts = {field: queue.jobs[state] for state, field in _COUNTS.items()}
    message = queue_pb2.Queue(
        name=queue.name,
        counts=queue_pb2.Queue.Counts(**counts, dead=queue.dead),
        rates=queue_pb2.Queue.Rates(
            enqueued=queue.rates.enqueued, finished=queue.rates.finished, failed=queue.rates.failed
        ),
        paused=queue.paused_at_ms is not None,
        pause_reason=queue.pause_reason,
        worker_count=workers,
    )
    if queue.oldest_ready_ms is not None:
        message.oldest_ready_age.CopyFrom(duration(queue.oldest_ready_ms))
    if queue.paused_at_ms is not None:
        message.pause_time.CopyFrom(moment(queue.paused_at_ms))
    return message
