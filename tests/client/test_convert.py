"""Between the client's values and the messages of the contract."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from headrace import EventKind, InvalidRequest, JobState, NewJob, Priority, RetryPolicy
from headrace._convert import event_from, job_from, request_from
from headrace.v1 import job_pb2, job_service_pb2

NOON = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
PB_NOON = Timestamp(seconds=int(NOON.timestamp()), nanos=123_456_000)


def test_smallest_job_becomes_the_smallest_request() -> None:
    """A job of nothing but a type says only what it must, and gets a UUID as request_id."""
    request = request_from(NewJob("mail.send"))
    assert UUID(request.request_id).version == 4
    assert request.job == job_pb2.JobSpec(queue="default", type="mail.send", priority=job_pb2.PRIORITY_NORMAL)


def test_every_field_arrives() -> None:
    """Each field of a job is in the request, durations and times exact to the microsecond."""
    job = NewJob(
        "mail.send",
        {"to": 2**60},
        queue="mail",
        priority="high",
        schedule_time=NOON.astimezone(timezone(timedelta(hours=5, minutes=30))),
        attempt_timeout=0.25,
        expire_time=NOON,
        retry=RetryPolicy(
            max_attempts=3, initial_backoff=1.5, max_backoff=timedelta(minutes=1), multiplier=1, jitter=0
        ),
        labels={"team": "blue"},
        headers={"traceparent": "00-1-2-03"},
        retention=timedelta(days=2),
        request_id="mine",
    )
    assert request_from(job) == job_service_pb2.EnqueueRequest(
        request_id="mine",
        job=job_pb2.JobSpec(
            queue="mail",
            type="mail.send",
            payload=b'{"to":1152921504606846976}',
            priority=job_pb2.PRIORITY_HIGH,
            schedule_time=PB_NOON,
            attempt_timeout=Duration(nanos=250_000_000),
            expire_time=PB_NOON,
            retry_policy=job_pb2.RetryPolicy(
                max_attempts=3,
                initial_backoff=Duration(seconds=1, nanos=500_000_000),
                max_backoff=Duration(seconds=60),
                multiplier=1,
                jitter=0,
            ),
            labels={"team": "blue"},
            headers={"traceparent": "00-1-2-03"},
            retention=Duration(seconds=172_800),
        ),
    )


@pytest.mark.parametrize(
    ("job", "field", "problem"),
    [
        (NewJob("t", priority="urgent"), "priority", "'urgent' is not high, normal or low"),
        (NewJob("t", priority=5), "priority", "5 is not high"),  # type: ignore[arg-type] # the mistake under test
        (NewJob("t", delay=1, schedule_time=NOON), "delay", "either delay or schedule_time"),
        (NewJob("t", delay=float("nan")), "delay", "nan is not a number of seconds"),
        (NewJob("t", delay="3s"), "delay", "'3s' is not a number of seconds"),  # type: ignore[arg-type] # the mistake under test
        (NewJob("t", delay=True), "delay", "True is not a number of seconds"),
        (NewJob("t", delay=1e300), "delay", "out of range"),
        (NewJob("t", schedule_time=NOON.replace(tzinfo=None)), "schedule_time", "with a time zone"),
        (NewJob("t", expire_time="2026"), "expire_time", "'2026' is not a datetime"),  # type: ignore[arg-type] # the mistake under test
        (NewJob("t", labels={"a": 1}), "labels", "its value 1 for 'a' is not a string"),  # type: ignore[dict-item] # the mistake under test
        (NewJob("t", labels={1: "a"}), "labels", "its key 1 is not a string"),  # type: ignore[dict-item] # the mistake under test
        (NewJob("t", labels={"a": "\ud800"}), "labels", "is not valid text"),
        (NewJob("t", headers=["a"]), "headers", r"\['a'\] is not a mapping of strings to strings"),  # type: ignore[arg-type] # the mistake under test
        (NewJob("t", retry=RetryPolicy(max_attempts=2**40)), "retry", "Value out of range"),
        (NewJob("t", retry=RetryPolicy(max_backoff=float("inf"))), "max_backoff", "inf is not a number"),
        (NewJob(None), "type", "None is not a string"),  # type: ignore[arg-type] # the mistake under test
        (NewJob("t", queue=7), "queue", "7 is not a string"),  # type: ignore[arg-type] # the mistake under test
    ],
)
def test_value_that_no_message_can_hold_is_named(job: NewJob, field: str, problem: str) -> None:
    """A field of a wrong kind is an InvalidRequest (a ValueError) that names it, before anything is sent."""
    with pytest.raises(InvalidRequest, match=problem) as caught:
        request_from(job)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert isinstance(caught.value, ValueError)


def test_every_field_of_a_job_is_read() -> None:
    """A job's message becomes a value without protobuf in it; times are aware, in UTC."""
    job = job_from(_job_pb())
    assert (job.state, job.priority) == (JobState.FAILED, Priority.LOW)
    assert job.create_time == NOON
    assert job.create_time is not None
    assert job.create_time.tzinfo is UTC
    assert job.start_time is None
    assert job.attempt_timeout == timedelta(milliseconds=250)
    assert job.retry == RetryPolicy(max_attempts=5, multiplier=2.0, jitter=0.0)
    assert (job.labels, job.headers) == ({"a": "b"}, {"c": "d"})
    assert (job.payload_bytes, job.payload) == (b'{"n": 1}', {"n": 1})
    assert (job.result_bytes, job.result) == (None, None)
    assert job.failure is not None
    assert (job.failure.reason, job.failure.error_type, job.failure.time) == ("TIMEOUT", "E", NOON)
    assert job.progress is not None
    assert (job.progress.fraction, job.progress.message) == (0.5, "half")
    assert [(step.version, step.state, step.reason) for step in job.history] == [(1, JobState.QUEUED, "R")]


@pytest.mark.parametrize(("data", "value"), [(b"", None), (b"null", None), (b"[1]", [1])])
def test_result_is_decoded(data: bytes, value: Any) -> None:
    """A result is there when the handler returned one, be it empty."""
    job = job_from(job_pb2.Job(state=job_pb2.Job.STATE_SUCCEEDED, result=data, result_content_type="application/json"))
    assert (job.result_bytes, job.result) == (data, value)


def test_event_carries_its_parts() -> None:
    """A message of the stream becomes an event, with the job where there is one."""
    message = job_service_pb2.StreamStatusResponse(
        kind=job_service_pb2.StreamStatusResponse.KIND_TRANSITION,
        job_id="J",
        version=4,
        state=job_pb2.Job.STATE_FAILED,
        time=PB_NOON,
        attempt=2,
        reason="TIMEOUT",
        detail="late",
        job=_job_pb(),
    )
    event = event_from(message)
    assert (event.kind, event.version, event.state) == (EventKind.TRANSITION, 4, JobState.FAILED)
    assert (event.time, event.attempt, event.reason, event.detail) == (NOON, 2, "TIMEOUT", "late")
    assert event.job == job_from(_job_pb())
    assert event.progress is None


def _job_pb() -> job_pb2.Job:
    return job_pb2.Job(
        job_id="J",
        queue="q",
        type="t",
        state=job_pb2.Job.STATE_FAILED,
        version=3,
        priority=job_pb2.PRIORITY_LOW,
        payload=b'{"n": 1}',
        content_type="application/json",
        create_time=PB_NOON,
        attempt_timeout=Duration(nanos=250_000_000),
        retry_policy=job_pb2.RetryPolicy(max_attempts=5, multiplier=2, jitter=0),
        labels={"a": "b"},
        headers={"c": "d"},
        progress=job_pb2.Progress(fraction=0.5, message="half"),
        failure=job_pb2.Failure(reason="TIMEOUT", error_type="E", message="m", time=PB_NOON, attempt=2),
        history=[job_pb2.Transition(version=1, state=job_pb2.Job.STATE_QUEUED, time=PB_NOON, reason="R")],
    )
