"""Values for tests that need no store."""

from typing import Any

from headrace_broker import ClaimedJob, JobSpec, RetryPolicy


def claimed(*, attempt: int = 1, max_attempts: int = 3, **spec: Any) -> ClaimedJob:
    """A job as a claim returns it."""
    retry = RetryPolicy(max_attempts=max_attempts, initial_backoff_ms=1_000, jitter=0.0)
    return ClaimedJob(
        job_id="0123456789ABCDEFGHJKMNPQ00",
        token="token",
        spec=JobSpec(**{"type": "a.type", "payload": b'{"n":1}', "retry": retry, **spec}),
        attempt=attempt,
        crashes=0,
        version=2,
        create_time_ms=1_700_000_000_000,
        start_time_ms=1_700_000_001_000,
    )
