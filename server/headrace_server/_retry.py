"""The retry policy between the contract and the broker room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.v1 import job_pb2
from headrace_broker.job import RetryPolicy
from headrace_server import _spans

if TYPE_CHECKING:
    from headrace_server._violations import Violations

MAX_ATTEMPTS = 1_000
MAX_MULTIPLIER = 100
_DEFAULT = RetryPolicy()


def parse_retry(job: job_pb2.JobSpec, bad: Violations) -> RetryPolicy:
    """The policy of the job, defaults filled in. What is out of range is noted in `bad`."""
    if not job.HasField("retry_policy"):
        return _DEFAULT
    policy = job.retry_policy
    return RetryPolicy(
        max_attempts=_attempts(policy.max_attempts, bad),
        initial_backoff_ms=_backoff(policy, "initial_backoff", _spans.INITIAL_BACKOFF, bad),
        max_backoff_ms=_backoff(policy, "max_backoff", _spans.MAX_BACKOFF, bad),
        multiplier=_factor(policy, "multiplier", (1, MAX_MULTIPLIER), bad),
        jitter=_factor(policy, "jitter", (0, 1), bad),
    )


def _attempts(count: int, bad: Violations) -> int:
    if not 0 <= count <= MAX_ATTEMPTS:
        bad.add("job.retry_policy.max_attempts", f"must be 1 to {MAX_ATTEMPTS:,}, or 0 for the default, 5; got {count}")
    return count or _DEFAULT.max_attempts


def _backoff(policy: job_pb2.RetryPolicy, name: str, span: _spans.Span, bad: Violations) -> int:
    if not policy.HasField(name):
        default: int = getattr(_DEFAULT, f"{name}_ms")
        return default
    return _spans.duration_ms(getattr(policy, name), f"job.retry_policy.{name}", span, bad)


def _factor(policy: job_pb2.RetryPolicy, name: str, span: tuple[int, int], bad: Violations) -> float:
    low, high = span
    factor: float = getattr(policy if policy.HasField(name) else _DEFAULT, name)
    if not low <= factor <= high:  # NaN is in no range
        bad.add(f"job.retry_policy.{name}", f"must be {low} to {high}; got {factor:g}")
    return factor


def retry_message(policy: RetryPolicy) -> job_pb2.RetryPolicy:
    """The policy as the contract says it."""
    return job_pb2.RetryPolicy(
        max_attempts=policy.max_attempts,
        initial_backoff=_spans.duration(policy.initial_backoff_ms),
        max_backoff=_spans.duration(policy.max_backoff_ms),
        multiplier=policy.multiplier,
        jitter=policy.jitter,
    )
