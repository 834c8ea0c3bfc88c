"""Write handlers for jobs, and run them: the worker's SDK.

    from headrace_worker import Worker

    worker = Worker()

    @worker.handler("echo.process")
    async def process(payload):
        return payload

Run it with `headrace-worker module:worker`.
"""

from headrace_broker import CannotStart
from headrace_worker._verdict import Discard, Retry, Snooze, Verdict
from headrace_worker.context import Context, JobCancelled, JobInfo
from headrace_worker.worker import Worker

__all__ = [
    "CannotStart",
    "Context",
    "Discard",
    "JobCancelled",
    "JobInfo",
    "Retry",
    "Snooze",
    "Verdict",
    "Worker",
]
