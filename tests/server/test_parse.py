"""What a valid request becomes in the broker room."""

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from headrace.v1.job_pb2 import PRIORITY_HIGH, PRIORITY_LOW, JobSpec, RetryPolicy
from headrace.v1.job_service_pb2 import EnqueueRequest, ListDLQRequest, StreamStatusRequest
from headrace_broker import job as house
from headrace_server import _parse
from headrace_server.errors import InvalidRequest

NOW = 1_800_000_000_000
MIB = 2**20


def _spec_of(request_id: str = "", **fields: object) -> house.JobSpec:
    request = EnqueueRequest(job=JobSpec(**{"type": "t", **fields}), request_id=request_id)
    return _parse.parse_enqueue(request, max_payload=MIB, now_ms=NOW).spec


def test_defaults():
    """A type is enough: everything else has the defaults of the contract."""
    assert _spec_of() == house.JobSpec(type="t")


def test_everything_given():
    """Every field arrives in the units of the house."""
    spec = _spec_of(
        queue="q.1-_",
        type="a.B-c_9",
        payload=b"\0\xff",
        content_type="application/x-thing; v=1",
        priority=PRIORITY_HIGH,
        delay=Duration(seconds=3, nanos=500_000_000),
        attempt_timeout=Duration(nanos=1_000_000),
        expire_time=Timestamp(seconds=NOW // 1_000 + 60),
        retry_policy=RetryPolicy(
            max_attempts=7, initial_backoff=Duration(), max_backoff=Duration(seconds=9), multiplier=1, jitter=0
        ),
        labels={"b": "2", "a": "ÿ" * 255},
        headers={"traceparent": "00-1"},
        retention=Duration(),
    )
    assert spec == house.JobSpec(
        queue="q.1-_",
        type="a.B-c_9",
        payload=b"\0\xff",
        content_type="application/x-thing; v=1",
        priority=house.Priority.HIGH,
        delay_ms=3_500,
        attempt_timeout_ms=1,
        expire_time_ms=NOW + 60_000,
        retry=house.RetryPolicy(max_attempts=7, initial_backoff_ms=0, max_backoff_ms=9_000, multiplier=1.0, jitter=0.0),
        labels={"a": "ÿ" * 255, "b": "2"},
        headers={"traceparent": "00-1"},
        retention_ms=0,
    )


def test_the_limits_themselves_are_allowed():
    """A value at its limit is valid."""
    day = 86_400
    spec = _spec_of(
        type="t" * 128,
        payload=b"x" * MIB,
        priority=PRIORITY_LOW,
        delay=Duration(seconds=365 * day),
        attempt_timeout=Duration(seconds=7 * day),
        retry_policy=RetryPolicy(
            max_attempts=1_000,
            initial_backoff=Duration(seconds=day),
            max_backoff=Duration(seconds=30 * day),
            multiplier=100,
            jitter=1,
        ),
        labels={f"{n:063}": "v" * 255 for n in range(64)},
        headers={"k": "v" * (16 * 1024 - 1)},
        retention=Duration(seconds=365 * day),
        request_id="~ " * 64,
    )
    assert spec.delay_ms == 365 * house.DAY


@pytest.mark.parametrize(("nanos", "ms"), [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2), (999_999_999, 1_000)])
def test_parts_of_a_millisecond_are_rounded_up(nanos: int, ms: int):
    """Nothing runs earlier than it was asked to."""
    assert _spec_of(delay=Duration(nanos=nanos)).delay_ms == ms
    assert _spec_of(schedule_time=Timestamp(seconds=5, nanos=nanos)).schedule_time_ms == 5_000 + ms


def test_a_moment_that_has_passed_means_at_once():
    """A schedule time in the past, even before the epoch, is taken as it is, never refused."""
    assert _spec_of(schedule_time=Timestamp(seconds=1)).schedule_time_ms == 1_000
    assert _spec_of(schedule_time=Timestamp(seconds=-62_135_596_800)).schedule_time_ms == 0


def test_json_is_rendered_once():
    """JSON is stored as compact UTF-8 text in which integral numbers are integers."""
    value = ParseDict({"b": [1, 2.5, -0.0, 0.0, None, True, "ÿ\n"], "a": {}}, Value())
    assert _spec_of(json=value).payload == '{"a":{},"b":[1,2.5,-0.0,0,null,true,"ÿ\\n"]}'.encode()
    assert _spec_of(json=value).content_type == house.JSON


def test_equal_json_is_stored_alike():
    """However a client orders the members of an object on the wire, the text is the same, so a repeat is recognised."""
    one, other = Value(), Value()
    for key in ("x", "y", "z"):
        one.struct_value.fields[key].number_value = 1
    for key in ("z", "y", "x"):
        other.struct_value.fields[key].number_value = 1
    assert _spec_of(json=one) == _spec_of(json=other)


def test_text():
    """Text is stored as UTF-8, as text/plain unless the client says otherwise."""
    assert (_spec_of(text="ÿ").payload, _spec_of(text="ÿ").content_type) == (b"\xc3\xbf", house.TEXT)
    assert _spec_of(text="<a/>", content_type="application/xml").content_type == "application/xml"


def test_a_payload_need_not_be_json():
    """Bytes are never looked into: what cannot be decoded is the worker's to dead-letter."""
    assert _spec_of(payload=b"\xff{").payload == b"\xff{"


def test_a_repeat_may_come_after_the_expiry():
    """A request with a request_id may be the repeat of one that was stored, so its expire time may have just passed."""
    past = Timestamp(seconds=NOW // 1_000 - 60)
    assert _spec_of(request_id="r", expire_time=past).expire_time_ms == NOW - 60_000
    with pytest.raises(InvalidRequest, match="must be in the future"):
        _spec_of(expire_time=past)
    with pytest.raises(InvalidRequest, match="must be in the future"):
        _spec_of(request_id="r", expire_time=Timestamp(seconds=NOW // 1_000 - 301))


def test_job_ids_in_lower_case_are_understood():
    """An id may be given in lower case."""
    assert _parse.parse_job_id("0123456789abcdefghjkmnpqrs") == "0123456789ABCDEFGHJKMNPQRS"


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (1_000, 1_000), (10**9, 1_000)])
def test_page_sizes(asked: int, given: int):
    """A page size of 0 is 50, and more than 1,000 is 1,000."""
    assert _parse.parse_list(ListDLQRequest(page_size=asked)) == given


def test_after_version_zero_is_not_none():
    """Resuming after version 0 asks for the whole story, leaving it out for a snapshot."""
    job_id = "0" * 26
    assert _parse.parse_watch(StreamStatusRequest(job_id=job_id, after_version=0)) == (job_id, 0)
    assert _parse.parse_watch(StreamStatusRequest(job_id=job_id)) == (job_id, None)
