"""Between the client's values of queues and the messages of the contract. Like _convert.py, which has those of jobs."""

from __future__ import annotations

from headrace._convert import duration_from, time_from
from headrace._queue_models import Queue, QueueRates
from headrace.models import JobState
from headrace.v1 import queue_pb2


def queue_from(pb: queue_pb2.Queue) -> Queue:
    """The queue of an answer."""
    counts = pb.counts
    return Queue(
        name=pb.name,
        jobs={
            JobState.SCHEDULED: counts.scheduled,
            JobState.QUEUED: counts.queued,
            JobState.PROCESSING: counts.processing,
            JobState.RETRYING: counts.retrying,
            JobState.SUCCEEDED: counts.succeeded_total,
            JobState.FAILED: counts.failed_total,
            JobState.CANCELLED: counts.cancelled_total,
            JobState.EXPIRED: counts.expired_total,
        },
        dead=counts.dead,
        oldest_ready_age=duration_from(pb, "oldest_ready_age"),
        rates=QueueRates(enqueued=pb.rates.enqueued, finished=pb.rates.finished, failed=pb.rates.failed),
        paused=pb.paused,
        pause_time=time_from(pb, "pause_time"),
        pause_reason=pb.pause_reason,
        worker_count=pb.worker_count,
    )
