"""The policy, on one page: what a handler's return, exception or stop means for its job. Pure: nothing is written."""

from __future__ import annotations

from headrace_broker import (
    ClaimedJob,
    Discarded,
    Failed,
    Failure,
    Outcome,
    Reason,
    Released,
    Retried,
    Snoozed,
    Succeeded,
)
from headrace_worker import backoff
from headrace_worker._failure import clean, failure, raised
from headrace_worker._payload import BadResult, encode
from headrace_worker._run import Stop
from headrace_worker._verdict import Discard, Retry, Snooze, Verdict

MAX_REASON = 200


def returned(job: ClaimedJob, value: object, *, limit: int) -> Outcome:
    """The handler returned. A result that cannot be kept is a dead letter: its work is done, and would be repeated."""
    if isinstance(value, Verdict):
        return said(job, value)
    try:
        result, content_type = encode(value, limit=limit)
    except BadResult as error:
        return Failed(failure=failure(job, Reason.BAD_RESULT, str(error)))
    return Succeeded(result=result, content_type=content_type)


def said(job: ClaimedJob, verdict: Verdict) -> Outcome:
    """The handler returned or raised a verdict."""
    match verdict:
        case Retry(after_ms=after_ms, reason=reason):
            return attempt_failed(
                job, failure(job, Reason.HANDLER_ERROR, reason, error_type="Retry"), delay_ms=after_ms
            )
        case Snooze(after_ms=after_ms):
            return Snoozed(delay_ms=after_ms)
        case Discard(reason=reason):
            return Discarded(reason=clean(reason, limit=MAX_REASON))
        case _:
            return attempt_failed(job, raised(job, verdict))


def threw(job: ClaimedJob, error: BaseException, *, fatal: tuple[type[BaseException], ...]) -> Outcome:
    """The handler raised. A fatal exception is a dead letter at once, the others as the retry policy says."""
    if isinstance(error, Verdict):
        return said(job, error)
    if isinstance(error, fatal):
        return Failed(failure=raised(job, error))
    return attempt_failed(job, raised(job, error))


def undecodable(job: ClaimedJob, message: str) -> Outcome:
    """The payload is not what the handler takes. No later attempt could change that: a dead letter at once."""
    return Failed(failure=failure(job, Reason.BAD_PAYLOAD, message))


def no_handler(job: ClaimedJob) -> Outcome:
    """Nobody here runs this type. A newer worker may: so it is tried again before it becomes a dead letter."""
    message = f"no handler for type {job.spec.type!r} on a worker of queue {job.spec.queue!r}"
    return attempt_failed(job, failure(job, Reason.NO_HANDLER, message))


def stopped(job: ClaimedJob, stop: Stop, outcome: Outcome | None, *, limit_ms: int | None) -> Outcome | None:
    """The handler was stopped, and ended with `outcome` (None: not yet, or by the stop itself). None: write nothing.

    Of a handler that was stopped for no fault of its own, an end that it reached all the same counts; an error does
    not, for it is likely the stop's. A job that is given back because it was to be cancelled ends there.
    """
    match stop:
        case Stop.TIMEOUT:
            return attempt_failed(
                job,
                failure(job, Reason.TIMEOUT, f"stopped after {(limit_ms or 0) / 1000:g} s", error_type="TimeoutError"),
            )
        case Stop.LOST:
            return None
        case Stop.SHUTDOWN | Stop.FENCED | Stop.CANCELLED:
            return outcome if isinstance(outcome, Succeeded | Snoozed | Discarded) else Released()


def attempt_failed(job: ClaimedJob, why: Failure, *, delay_ms: int | None = None) -> Outcome:
    """Another attempt after `delay_ms` (by the job's policy where None), or a dead letter when they are used up."""
    if job.attempt >= job.spec.retry.max_attempts:
        return Failed(failure=why)
    delay = backoff.delay_ms(job.spec.retry, retry=job.attempt) if delay_ms is None else delay_ms
    return Retried(delay_ms=delay, failure=why)
