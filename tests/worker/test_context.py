"""What a handler sees and says through its context."""

import threading
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from headrace_broker import Priority
from headrace_worker import Context, JobCancelled
from worker.make import claimed


class Told:
    """A context, and what was reported through it."""

    def __init__(self, **spec: object) -> None:
        self.reports: list[tuple[float, str]] = []
        self.cancelled = threading.Event()
        job = claimed(attempt=2, **spec)
        self.context = Context(job=job, report=lambda *words: self.reports.append(words), cancelled=self.cancelled)


def test_the_context_tells_about_the_job():
    """All that a producer said and the store knows, read only."""
    context = Told(queue="mail", priority=Priority.HIGH, labels={"a": "b"}, headers={"traceparent": "x"}).context
    job = context.job
    assert (job.id, job.queue, job.type, job.priority) == ("0123456789ABCDEFGHJKMNPQ00", "mail", "a.type", "high")
    assert (job.labels, job.headers, job.payload) == ({"a": "b"}, {"traceparent": "x"}, b'{"n":1}')
    assert (job.attempt, context.attempt, job.max_attempts, job.crashes) == (2, 2, 3, 0)
    assert job.create_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    with pytest.raises(TypeError):
        job.labels["c"] = "d"
    with pytest.raises(AttributeError):
        job.id = "other"


@pytest.mark.parametrize(
    ("fraction", "message", "report"),
    [
        (0.5, "half", (0.5, "half")),
        (1, "", (1.0, "")),
        (1.0000000002, "", (1.0, "")),
        (-3, "", (0.0, "")),
        (0, "x" * 600, (0.0, "x" * 500)),
        (0, "\ud800", (0.0, "?")),
    ],
)
def test_progress_is_brought_within_its_limits(fraction, message, report):
    """A sum of floats that is a little over 1 must not fail a job."""
    told = Told()
    told.context.progress(fraction, message)
    assert told.reports == [report]


def test_a_progress_that_is_no_number_is_refused():
    """NaN says nothing."""
    with pytest.raises(ValueError, match="not NaN"):
        Told().context.progress(float("nan"))


def test_a_stop_is_seen_through_the_context():
    """As a property, as an exception, and as the end of a wait."""
    told = Told()
    assert not told.context.cancelled
    assert not told.context.wait_cancelled(0)
    told.context.raise_if_cancelled()
    told.cancelled.set()
    assert told.context.cancelled
    assert told.context.wait_cancelled(10)
    with pytest.raises(JobCancelled):
        told.context.raise_if_cancelled()


def test_job_cancelled_passes_through_except_exception():
    """A handler that catches every Exception can still be stopped."""
    assert not issubclass(JobCancelled, Exception)


def test_the_log_of_a_job_names_it():
    """Job id, type, attempt and queue are in every line, without being asked for."""
    with capture_logs() as lines:
        Told().context.log.info("hello", colour="blue")
    names = {"job_id": "0123456789ABCDEFGHJKMNPQ00", "type": "a.type", "attempt": 2, "queue": "default"}
    assert lines == [{"event": "hello", "log_level": "info", "colour": "blue", **names}]
