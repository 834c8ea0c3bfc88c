"""What a client sees of a job."""

import pytest

from headrace.v1.job_pb2 import Job
from headrace_broker import job as house
from headrace_server._render import job_message


def _shown(content: bytes, content_type: str, *, raw: bool = False) -> Job:
    job = house.Job(
        job_id="0" * 26,
        spec=house.JobSpec(type="t", payload=content, content_type=content_type),
        state=house.State.SUCCEEDED,
        version=1,
        create_time_ms=1_234,
        result=content,
        result_content_type=content_type,
    )
    return job_message(job, raw=raw)


@pytest.mark.parametrize(
    ("content", "content_type", "form"),
    [
        (b'{"a":1}', "application/json", "json"),
        (b'{"a":1}', "Application/JSON; charset=utf-8", "json"),
        (b"[1.5]", "application/problem+json", "json"),
        (b"null", "application/json", "json"),
        (b'{"a":9007199254740993}', "application/json", "text"),
        (b"{oops", "application/json", "text"),
        (b'{"a":1}', "text/plain", "text"),
        (b"<a/>", "text/xml", "text"),
        (b"\xff", "application/json", "bytes"),
        (b"\xff", "text/plain", "bytes"),
        (b'{"a":1}', "application/octet-stream", "bytes"),
        (b"abc", "image/png", "bytes"),
    ],
)
def test_the_most_readable_exact_form(content: bytes, content_type: str, form: str):
    """Content and result are JSON where that is exact, else text where they are JSON or text, else bytes."""
    job = _shown(content, content_type)
    assert job.WhichOneof("content") == {"json": "json", "text": "text", "bytes": "payload"}[form]
    assert job.WhichOneof("outcome") == {"json": "result_json", "text": "result_text", "bytes": "result"}[form]
    if form == "text":
        assert job.text == job.result_text == content.decode()
    if form == "bytes":
        assert job.payload == job.result == content


def test_raw_is_always_bytes():
    """A client that asks for the bytes gets exactly what is stored."""
    job = _shown(b'{ "a" : 1 }', "application/json", raw=True)
    assert (job.payload, job.result) == (b'{ "a" : 1 }', b'{ "a" : 1 }')


def test_no_content():
    """A job without content and result has neither; with raw, the content is empty bytes."""
    job = house.Job(
        job_id="0" * 26, spec=house.JobSpec(type="t"), state=house.State.QUEUED, version=1, create_time_ms=0
    )
    assert (job_message(job, raw=False).WhichOneof("content"), job_message(job, raw=False).WhichOneof("outcome")) == (
        None,
        None,
    )
    assert job_message(job, raw=True).WhichOneof("content") == "payload"


def test_every_field_of_the_record():
    """Every fact of the record has its place in the message."""
    job = house.Job(
        job_id="0" * 26,
        spec=house.JobSpec(
            type="t",
            queue="q",
            priority=house.Priority.LOW,
            attempt_timeout_ms=1_500,
            expire_time_ms=9_001,
            labels={"a": "b"},
            headers={"c": "d"},
            retention_ms=60_000,
        ),
        state=house.State.FAILED,
        version=3,
        create_time_ms=1_001,
        attempt=2,
        crashes=1,
        worker="w",
        due_time_ms=2_002,
        start_time_ms=3_003,
        finish_time_ms=4_004,
        cancel_time_ms=3_900,
        failure=house.Failure(
            reason="HANDLER_ERROR", error_type="E", message="m", stack_trace="s", time_ms=4_000, attempt=2
        ),
        progress=house.Progress(fraction=0.5, message="half", time_ms=3_500),
        history=(
            house.Transition(
                version=3, state=house.State.FAILED, time_ms=4_004, attempt=2, reason="HANDLER_ERROR", detail="E: m"
            ),
        ),
    )
    message = job_message(job, raw=False)
    empty = {"payload", "json", "text", "result", "result_json", "result_text", "result_content_type"}
    assert {field.name for field, _ in message.ListFields()} == {f.name for f in Job.DESCRIPTOR.fields} - empty
    assert message.create_time.ToMilliseconds() == 1_001
    assert message.schedule_time.ToMilliseconds() == 2_002
    assert message.start_time.ToMilliseconds() == 3_003
    assert message.finish_time.ToMilliseconds() == 4_004
    assert message.expire_time.ToMilliseconds() == 9_001
    assert message.attempt_timeout.ToMilliseconds() == 1_500
    assert {f.name for f, _ in message.failure.ListFields()} == {f.name for f in message.failure.DESCRIPTOR.fields}
    assert {f.name for f, _ in message.history[0].ListFields()} == {
        f.name for f in message.history[0].DESCRIPTOR.fields
    }
