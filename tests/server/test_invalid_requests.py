"""Every request that breaks the contract, over the wire: its code, the field it names, and nothing of our insides."""

import math
import time
import uuid
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from headrace.v1.job_pb2 import JobSpec, RetryPolicy
from headrace.v1.job_service_pb2 import (
    BatchEnqueueRequest,
    CancelJobRequest,
    DeadLetterFilter,
    EnqueueRequest,
    GetJobRequest,
    ListDLQRequest,
    PurgeDLQRequest,
    RequeueDLQRequest,
    StreamStatusRequest,
)
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_server.app import Server
from headrace_server.settings import ServerSettings

from .conftest import Answer, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one server for all of them

DAY = 86_400
YEAR = 365 * DAY
INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNKNOWN_ID = "0" * 24 + "00"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(valkey: str) -> AsyncIterator[JobServiceStub]:
    """The JobService of a server that the whole module shares."""
    settings = ServerSettings(
        redis_url=valkey, namespace=f"test-{uuid.uuid4().hex[:12]}", listen="127.0.0.1:0", http_listen=""
    )
    async with Server(settings) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield JobServiceStub(channel)


def _in_future(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(time.time() + seconds))


def _job(**fields: object) -> EnqueueRequest:
    return EnqueueRequest(job=JobSpec(**{"type": "t", **fields}))


def _retry(**fields: object) -> EnqueueRequest:
    return _job(retry_policy=RetryPolicy(**fields))


def _number(value: float) -> Value:
    return Value(number_value=value)


NESTED = Value(
    struct_value=Struct(
        fields={
            "items": Value(
                list_value=ListValue(
                    values=[_number(1), _number(2), Value(struct_value=Struct(fields={"id": _number(2.0**53)}))]
                )
            )
        }
    )
)

# What is sent → the field that the answer names, and words of its description.
ENQUEUE: dict[str, tuple[EnqueueRequest | Callable[[], EnqueueRequest], str, str]] = {
    "no job": (EnqueueRequest(), "job", "is required"),
    "durability that there is not": (EnqueueRequest(job=JobSpec(type="t"), durability=4), "durability", "1 to 3"),
    "no type": (EnqueueRequest(job=JobSpec()), "job.type", "is required"),
    "type with a space": (_job(type="a b"), "job.type", "got 'a b'"),
    "type with a NUL": (_job(type="a\0"), "job.type", r"got 'a\x00'"),
    "type with a line break at its end": (_job(type="a\n"), "job.type", r"got 'a\n'"),
    "type too long": (_job(type="a" * 129), "job.type", "1 to 128"),
    "type of another script": (_job(type="tÿpe"), "job.type", r"got 't\xffpe'"),
    "queue with a colon": (_job(queue="a:b"), "job.queue", "A-Z a-z 0-9 _ . -"),
    "queue with braces": (_job(queue="{x}"), "job.queue", "got '{x}'"),
    "queue with a star": (_job(queue="*"), "job.queue", "got '*'"),
    "queue too long": (_job(queue="q" * 10_000), "job.queue", "(10002 characters)"),
    "payload too large": (_job(payload=b"x" * (2**20 + 1)), "job.payload", "at most 1,048,576 bytes"),
    "text too large": (_job(text="ÿ" * (2**19 + 1)), "job.text", "got 1,048,578"),
    "json too large": (_job(json=Value(string_value="x" * 2**20)), "job.json", "got 1,048,578"),
    "json number too large": (_job(json=_number(2.0**53)), "job.json", "got 9007199254740992"),
    "json number too small": (_job(json=_number(-(2.0**53))), "job.json", "from -(2^53-1) to 2^53-1"),
    "json number huge": (_job(json=_number(1e300)), "job.json", "from -(2^53-1) to 2^53-1"),
    "json NaN": (_job(json=_number(math.nan)), "job.json", "must be a finite number; got nan"),
    "json Infinity": (_job(json=_number(-math.inf)), "job.json", "must be a finite number; got -inf"),
    "json without a value": (_job(json=Value()), "job.json", "has no value"),
    "json number deep inside": (_job(json=NESTED), "job.json.items[2].id", "got 9007199254740992"),
    "json under a strange key": (
        _job(json=Value(struct_value=Struct(fields={"a b": _number(math.nan)}))),
        'job.json["a b"]',
        "finite",
    ),
    "content type that is none": (_job(content_type="json"), "job.content_type", "got 'json'"),
    "content type with a line break": (_job(content_type="a/b\r\nx: y"), "job.content_type", "media type"),
    "content type too long": (_job(content_type="a/" + "b" * 300), "job.content_type", "255 characters"),
    "unknown priority": (_job(priority=7), "job.priority", "got 7"),
    "negative priority": (_job(priority=-1), "job.priority", "got -1"),
    "negative delay": (_job(delay=Duration(seconds=-3)), "job.delay", "got -3s"),
    "delay a little below zero": (_job(delay=Duration(nanos=-1)), "job.delay", "got -0.000000001s"),
    "delay beyond a year": (_job(delay=Duration(seconds=YEAR, nanos=1)), "job.delay", "0 to 1 year"),
    "delay beyond every range": (_job(delay=Duration(seconds=2**62)), "job.delay", "must be a valid duration"),
    "delay with bad nanos": (_job(delay=Duration(nanos=10**9)), "job.delay", "must be a valid duration"),
    "delay of two signs": (_job(delay=Duration(seconds=1, nanos=-1)), "job.delay", "must be a valid duration"),
    "schedule time beyond a year": (
        lambda: _job(schedule_time=_in_future(YEAR + 60)),
        "job.schedule_time",
        "at most 1 year ahead",
    ),
    "schedule time in the year 9999": (
        _job(schedule_time=Timestamp(seconds=253_402_300_799)),
        "job.schedule_time",
        "got 9999-12-31T23:59:59Z",
    ),
    "schedule time beyond the year 9999": (
        _job(schedule_time=Timestamp(seconds=253_402_300_800)),
        "job.schedule_time",
        "must be a valid timestamp",
    ),
    "schedule time with negative nanos": (
        _job(schedule_time=Timestamp(nanos=-1)),
        "job.schedule_time",
        "must be a valid timestamp",
    ),
    "attempt timeout of zero": (_job(attempt_timeout=Duration()), "job.attempt_timeout", "got 0s"),
    "attempt timeout below 1 ms": (_job(attempt_timeout=Duration(nanos=999_999)), "job.attempt_timeout", "1 ms"),
    "attempt timeout beyond 7 days": (
        _job(attempt_timeout=Duration(seconds=7 * DAY + 1)),
        "job.attempt_timeout",
        "7 days (604800s); got 604801s",
    ),
    "expire time long past": (_job(expire_time=Timestamp(seconds=1)), "job.expire_time", "must be in the future"),
    "expire time just past": (lambda: _job(expire_time=_in_future(-1)), "job.expire_time", "must be in the future"),
    "expire time with bad nanos": (
        _job(expire_time=Timestamp(seconds=2**31, nanos=10**9)),
        "job.expire_time",
        "must be a valid timestamp",
    ),
    "expire time in the year 9999": (
        _job(expire_time=Timestamp(seconds=253_402_300_799)),
        "job.expire_time",
        "at most 10 years ahead",
    ),
    "expire time before the schedule time": (
        lambda: _job(schedule_time=_in_future(100), expire_time=_in_future(50)),
        "job.expire_time",
        "must be after job.schedule_time",
    ),
    "no attempts": (_retry(max_attempts=-1), "job.retry_policy.max_attempts", "1 to 1,000"),
    "too many attempts": (_retry(max_attempts=1_001), "job.retry_policy.max_attempts", "got 1001"),
    "initial backoff too long": (
        _retry(initial_backoff=Duration(seconds=DAY + 1)),
        "job.retry_policy.initial_backoff",
        "24 hours",
    ),
    "negative initial backoff": (
        _retry(initial_backoff=Duration(seconds=-1)),
        "job.retry_policy.initial_backoff",
        "got -1s",
    ),
    "max backoff too long": (
        _retry(max_backoff=Duration(seconds=30 * DAY + 1)),
        "job.retry_policy.max_backoff",
        "30 days",
    ),
    "negative max backoff": (_retry(max_backoff=Duration(nanos=-1)), "job.retry_policy.max_backoff", "got -0.0"),
    "multiplier below 1": (_retry(multiplier=0.5), "job.retry_policy.multiplier", "1 to 100; got 0.5"),
    "multiplier above 100": (_retry(multiplier=101), "job.retry_policy.multiplier", "got 101"),
    "multiplier NaN": (_retry(multiplier=math.nan), "job.retry_policy.multiplier", "got nan"),
    "jitter below 0": (_retry(jitter=-0.1), "job.retry_policy.jitter", "0 to 1; got -0.1"),
    "jitter above 1": (_retry(jitter=1.1), "job.retry_policy.jitter", "got 1.1"),
    "jitter NaN": (_retry(jitter=math.nan), "job.retry_policy.jitter", "got nan"),
    "too many labels": (_job(labels={f"k{n}": "v" for n in range(65)}), "job.labels", "at most 64 labels; got 65"),
    "empty label key": (_job(labels={"": "v"}), 'job.labels[""]', "key of 1 to 63"),
    "label key with a space": (_job(labels={"a b": "v"}), 'job.labels["a b"]', "got 'a b'"),
    "label key too long": (_job(labels={"k" * 64: "v"}), f'job.labels["{"k" * 60}..."]', "key of 1 to 63"),
    "label value too long": (_job(labels={"k": "v" * 256}), 'job.labels["k"]', "at most 255 characters; got 256"),
    "label value with an escape": (_job(labels={"k": "\x1b]0;"}), 'job.labels["k"]', r"got '\x1b]0;'"),
    "too many headers": (_job(headers={f"k{n}": "v" for n in range(65)}), "job.headers", "at most 64 headers; got 65"),
    "headers too large": (_job(headers={"k": "v" * 16_384}), "job.headers", "16,384 bytes in all; got 16,385"),
    "negative retention": (_job(retention=Duration(seconds=-1)), "job.retention", "got -1s"),
    "retention too long": (_job(retention=Duration(seconds=YEAR + 1)), "job.retention", "0 to 365 days"),
    "request id too long": (
        EnqueueRequest(job=JobSpec(type="t"), request_id="r" * 129),
        "request_id",
        "at most 128 printable ASCII characters",
    ),
    "request id with a line break": (
        EnqueueRequest(job=JobSpec(type="t"), request_id="r\n"),
        "request_id",
        r"got 'r\n'",
    ),
    "request id of another script": (
        EnqueueRequest(job=JobSpec(type="t"), request_id="ü"),
        "request_id",
        r"got '\xfc'",
    ),
}


def _check(answer: Answer, field: str, words: str) -> None:
    assert (answer.code, answer.reason) == (INVALID, "INVALID_REQUEST")
    assert list(answer.fields) == [field]
    assert words in answer.fields[field]
    assert field in answer.message
    assert answer.text.isascii()
    answer.tells_no_internals()


@pytest.mark.parametrize("name", ENQUEUE)
async def test_enqueue(stub: JobServiceStub, name: str):
    """An Enqueue that breaks the contract is INVALID_ARGUMENT, and names field, limit and the value's problem."""
    request, field, words = ENQUEUE[name]
    _check(await refused(stub.Enqueue(request() if callable(request) else request)), field, words)


OTHERS = {
    "batch of none": ("BatchEnqueue", BatchEnqueueRequest(), "requests", "1 to 1000 requests; got 0"),
    "batch of 1,001": (
        "BatchEnqueue",
        BatchEnqueueRequest(requests=[_job()] * 1_001),
        "requests",
        "1 to 1000 requests; got 1001",
    ),
    "get without id": ("GetJob", GetJobRequest(), "job_id", "is required"),
    "get a short id": ("GetJob", GetJobRequest(job_id="0"), "job_id", "26 characters of Crockford base32; got '0'"),
    "get an id with an I": ("GetJob", GetJobRequest(job_id="I" * 26), "job_id", "Crockford"),
    "get an id with a glob": ("GetJob", GetJobRequest(job_id="*" * 26), "job_id", "Crockford"),
    "get a long id": ("GetJob", GetJobRequest(job_id="0" * 5_000), "job_id", "(5002 characters)"),
    "watch without id": ("StreamStatus", StreamStatusRequest(), "job_id", "is required"),
    "watch a bad id": ("StreamStatus", StreamStatusRequest(job_id="x\0"), "job_id", r"got 'x\x00'"),
    "watch after a negative version": (
        "StreamStatus",
        StreamStatusRequest(job_id=UNKNOWN_ID, after_version=-1),
        "after_version",
        "must not be negative; got -1",
    ),
    "cancel without id": ("CancelJob", CancelJobRequest(), "job_id", "is required"),
    "cancel a bad id": ("CancelJob", CancelJobRequest(job_id="*" * 26), "job_id", "Crockford"),
    "cancel for a long reason": (
        "CancelJob",
        CancelJobRequest(job_id=UNKNOWN_ID, reason="r" * 201),
        "reason",
        "at most 200 characters; got 201",
    ),
    "cancel for a reason of two lines": (
        "CancelJob",
        CancelJobRequest(job_id=UNKNOWN_ID, reason="a\nb"),
        "reason",
        r"control characters; got 'a\nb'",
    ),
    "list a bad queue": ("ListDLQ", ListDLQRequest(queue="a b"), "queue", "got 'a b'"),
    "list a negative page": ("ListDLQ", ListDLQRequest(page_size=-1), "page_size", "must not be negative; got -1"),
}


ALL = DeadLetterFilter()


def _filter(**fields: object) -> RequeueDLQRequest:
    return RequeueDLQRequest(filter=DeadLetterFilter(**fields))


OTHERS |= {
    "requeue nothing": ("RequeueDLQ", RequeueDLQRequest(), "job_ids", "or filter is required"),
    "requeue ids and a filter": (
        "RequeueDLQ",
        RequeueDLQRequest(job_ids=[UNKNOWN_ID], filter=ALL),
        "filter",
        "left out",
    ),
    "requeue ids with a token": (
        "RequeueDLQ",
        RequeueDLQRequest(job_ids=[UNKNOWN_ID], page_token="x"),
        "page_token",
        "must be left out",
    ),
    "requeue what is no id": ("RequeueDLQ", RequeueDLQRequest(job_ids=[UNKNOWN_ID, "*"]), "job_ids[1]", "Crockford"),
    "requeue too many": (
        "RequeueDLQ",
        RequeueDLQRequest(job_ids=[UNKNOWN_ID] * 1_001),
        "job_ids",
        "at most 1,000 ids; got 1,001",
    ),
    "requeue of a bad queue": ("RequeueDLQ", _filter(queue="*"), "filter.queue", "got '*'"),
    "requeue of a bad type": ("RequeueDLQ", _filter(type="a b"), "filter.type", "got 'a b'"),
    "requeue of a bad label": ("RequeueDLQ", _filter(labels={"a b": ""}), 'filter.labels["a b"]', "key of 1 to 63"),
    "requeue for a bad reason": ("RequeueDLQ", _filter(reason="time out"), "filter.reason", "such as TIMEOUT"),
    "requeue since nonsense": (
        "RequeueDLQ",
        _filter(start_time=Timestamp(nanos=-1)),
        "filter.start_time",
        "must be a valid timestamp",
    ),
    "requeue until before its beginning": (
        "RequeueDLQ",
        _filter(start_time=Timestamp(seconds=5), end_time=Timestamp(seconds=5)),
        "filter.end_time",
        "must be after filter.start_time; got 1970-01-01T00:00:05Z",
    ),
    "purge nothing": ("PurgeDLQ", PurgeDLQRequest(force=True), "job_ids", "or filter is required"),
    "purge what is no id": ("PurgeDLQ", PurgeDLQRequest(job_ids=[""]), "job_ids[0]", "is required"),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_other_methods(stub: JobServiceStub, name: str):
    """The other methods answer in the same way."""
    method, request, field, words = OTHERS[name]
    call = getattr(stub, method)(request)
    _check(await refused(call.read() if method == "StreamStatus" else call), field, words)


@pytest.mark.parametrize("token", ["x", "ÿ", "AAAA", "A" * 5_000, "W1tdXQ"])
async def test_page_token(stub: JobServiceStub, token: str):
    """A page token that the server did not give is INVALID_ARGUMENT at page_token."""
    for call in (
        stub.ListDLQ(ListDLQRequest(page_token=token)),
        stub.RequeueDLQ(RequeueDLQRequest(filter=ALL, page_token=token)),
        stub.PurgeDLQ(PurgeDLQRequest(filter=ALL, page_token=token)),
    ):
        answer = await refused(call)
        assert (answer.code, answer.reason) == (INVALID, "BAD_PAGE_TOKEN")
        assert list(answer.fields) == ["page_token"]
        answer.tells_no_internals()


async def test_all_at_once(stub: JobServiceStub):
    """Everything that is wrong with a request is told in one answer."""
    request = _job(type="", queue="a b", priority=9, delay=Duration(seconds=-1), labels={"k": "\n"})
    answer = await refused(stub.Enqueue(request))
    assert set(answer.fields) == {"job.type", "job.queue", "job.priority", "job.delay", 'job.labels["k"]'}
    assert answer.message.startswith("5 fields are invalid: ")


async def test_a_flood_of_faults_fits_into_an_answer(stub: JobServiceStub):
    """However much is wrong, the answer stays small enough for the trailers that clients accept."""
    request = _job(labels={f"{n}{'ÿ' * 500}": "\x00" * 200 for n in range(64)}, type="ÿ" * 5_000)
    answer = await refused(stub.Enqueue(request))
    assert answer.code == INVALID
    assert len(answer.details["bad_request"].field_violations) == 10
    assert answer.message.startswith("129 fields are invalid: ")


async def test_nothing_is_stored_for_a_bad_item_of_a_batch(stub: JobServiceStub):
    """A bad item of a batch is answered by a status with its own details and path; the others are stored, in order."""
    items = [
        _job(),
        _job(json=NESTED),
        EnqueueRequest(),
        _job(queue="other"),
        EnqueueRequest(job=JobSpec(), request_id="ü"),
    ]
    results = (await stub.BatchEnqueue(BatchEnqueueRequest(requests=items))).results
    assert [one.WhichOneof("result") for one in results] == ["job", "error", "error", "job", "error"]
    answers = {n: Answer(INVALID, results[n].error) for n in (1, 2, 4)}
    assert {n: sorted(answer.fields) for n, answer in answers.items()} == {
        1: ["requests[1].job.json.items[2].id"],
        2: ["requests[2].job"],
        4: ["requests[4].job.type", "requests[4].request_id"],
    }
    for answer in answers.values():
        assert answer.reason == "INVALID_REQUEST"
        answer.tells_no_internals()
    assert (await stub.GetJob(GetJobRequest(job_id=results[3].job.job_id))).job.queue == "other"


OF_ONE_JOB = {"GetJob": GetJobRequest, "StreamStatus": StreamStatusRequest, "CancelJob": CancelJobRequest}


@pytest.mark.parametrize("method", OF_ONE_JOB)
async def test_unknown_job(stub: JobServiceStub, method: str):
    """A job that is not there is NOT_FOUND with a ResourceInfo, before any message."""
    call = getattr(stub, method)(OF_ONE_JOB[method](job_id=UNKNOWN_ID.lower()))
    answer = await refused(call.read() if method == "StreamStatus" else call)
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
    resource = answer.details["resource_info"]
    assert (resource.resource_type, resource.resource_name) == ("headrace.v1.Job", UNKNOWN_ID)
    answer.tells_no_internals()
