"""Enqueue, BatchEnqueue, GetJob and ListDLQ on a real store."""

import asyncio
import uuid

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from headrace.v1.job_pb2 import Job, JobSpec
from headrace.v1.job_service_pb2 import BatchEnqueueRequest, EnqueueRequest, GetJobRequest, ListDLQRequest
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_broker import Failed, Failure, Succeeded

from .conftest import Answer, Hands, refused


def _request(request_id: str = "", **fields: object) -> EnqueueRequest:
    return EnqueueRequest(job=JobSpec(**{"type": "t", **fields}), request_id=request_id)


async def test_round_trip(stub: JobServiceStub, hands: Hands):
    """What a producer sends in JSON reaches the worker as text, and what the worker returns can be read as JSON."""
    value = ParseDict({"msg": "hello", "n": 3}, Value())
    stored = await stub.Enqueue(_request(json=value, labels={"a": "b"}))
    assert (stored.state, stored.version, stored.deduplicated) == (Job.STATE_QUEUED, 1, False)
    claimed = await hands.run(Succeeded(result=b'{"ok":[1,2.5]}'))
    assert (claimed.job_id, claimed.spec.payload) == (stored.job_id, b'{"msg":"hello","n":3}')
    job = (await stub.GetJob(GetJobRequest(job_id=stored.job_id.lower()))).job
    assert (job.state, job.json, job.result_json) == (
        Job.STATE_SUCCEEDED,
        value,
        ParseDict({"ok": [1, 2.5]}, Value()),
    )
    assert [one.state for one in job.history] == [Job.STATE_QUEUED, Job.STATE_PROCESSING, Job.STATE_SUCCEEDED]
    assert job.create_time == stored.create_time


async def test_delay(stub: JobServiceStub):
    """A delayed job is SCHEDULED, due by the store's clock."""
    stored = await stub.Enqueue(_request(delay=Duration(seconds=60)))
    job = (await stub.GetJob(GetJobRequest(job_id=stored.job_id))).job
    assert (stored.state, job.state) == (Job.STATE_SCHEDULED, Job.STATE_SCHEDULED)
    assert job.schedule_time.ToMilliseconds() - job.create_time.ToMilliseconds() == 60_000


async def test_a_repeated_request_makes_no_second_job(stub: JobServiceStub, hands: Hands):
    """The same request_id returns the first job, also after it has ended, and tells where it is by now."""
    name = str(uuid.uuid4())
    first = await stub.Enqueue(_request(name))
    again = await stub.Enqueue(_request(name))
    assert (again.job_id, again.deduplicated, again.state) == (first.job_id, True, Job.STATE_QUEUED)
    await hands.run()
    last = await stub.Enqueue(_request(name))
    assert (last.job_id, last.state, last.version) == (first.job_id, Job.STATE_SUCCEEDED, 3)


async def test_fifty_identical_calls_at_once_make_one_job(stub: JobServiceStub, hands: Hands):
    """However many callers send the same request at the same time, one job is stored, and one call stored it."""
    name = str(uuid.uuid4())
    answers = await asyncio.gather(*(stub.Enqueue(_request(name)) for _ in range(50)))
    assert len({one.job_id for one in answers}) == 1
    assert sum(not one.deduplicated for one in answers) == 1
    await hands.run()
    claims = await hands.broker.claim(shard=0, worker="w", queues=["default"], count=10, token="t" * 22)
    assert claims.jobs == ()


async def test_many_different_calls_at_once(stub: JobServiceStub):
    """Concurrent calls share a script, and each is answered with its own job."""
    answers = await asyncio.gather(*(stub.Enqueue(_request(queue=f"q{n}")) for n in range(300)))
    jobs = await asyncio.gather(*(stub.GetJob(GetJobRequest(job_id=one.job_id)) for one in answers))
    assert [one.job.queue for one in jobs] == [f"q{n}" for n in range(300)]


async def test_large_jobs_at_once(stub: JobServiceStub):
    """Jobs too large to share a call are stored too."""
    payloads = [bytes([n]) * 200_000 for n in range(10)]
    answers = await asyncio.gather(*(stub.Enqueue(_request(payload=payload)) for payload in payloads))
    jobs = await asyncio.gather(*(stub.GetJob(GetJobRequest(job_id=one.job_id, raw=True)) for one in answers))
    assert [one.job.payload for one in jobs] == payloads


async def test_a_request_id_for_another_job(stub: JobServiceStub):
    """The same request_id with another request is INVALID_ARGUMENT; alone, in a group, large, and in a batch."""
    name = str(uuid.uuid4())
    stored = await stub.Enqueue(_request(name))
    for other in (_request(name, queue="other"), _request(name, payload=b"x" * 100_000)):
        answer = await refused(stub.Enqueue(other))
        assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
        assert list(answer.fields) == ["request_id"]
        answer.tells_no_internals()
    results = (
        await stub.BatchEnqueue(BatchEnqueueRequest(requests=[_request(), _request(name, queue="other")]))
    ).results
    answer = Answer(grpc.StatusCode.INVALID_ARGUMENT, results[1].error)
    assert (results[0].WhichOneof("result"), list(answer.fields)) == ("job", ["requests[1].request_id"])
    assert stored.job_id in answer.message


async def test_one_bad_request_id_harms_no_other_of_its_group(stub: JobServiceStub):
    """Of calls that share a script, only the one that is wrong is refused."""
    name = str(uuid.uuid4())
    await stub.Enqueue(_request(name))
    calls = [stub.Enqueue(_request(name if n == 5 else "", queue=f"q{n}")) for n in range(10)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [n for n, one in enumerate(answers) if isinstance(one, grpc.aio.AioRpcError)] == [5]


async def test_batch_of_a_thousand(stub: JobServiceStub):
    """A batch keeps its order; equal request_ids in it are the same job."""
    name = str(uuid.uuid4())
    items = [
        _request(name if n in {3, 900} else "", queue=f"q{n % 7}" if n not in {3, 900} else "") for n in range(1_000)
    ]
    results = (await stub.BatchEnqueue(BatchEnqueueRequest(requests=items))).results
    assert len(results) == 1_000
    assert (results[3].job.job_id, results[900].job.deduplicated) == (results[900].job.job_id, True)
    job = (await stub.GetJob(GetJobRequest(job_id=results[701].job.job_id))).job
    assert job.queue == f"q{701 % 7}"


async def test_dead_letters_in_pages(stub: JobServiceStub, hands: Hands):
    """ListDLQ tells the failed jobs, newest first, without content, page by page, and how many there are."""
    ids = []
    for n in range(5):
        ids.append((await stub.Enqueue(_request(payload=b"secret"))).job_id)
        await hands.run(Failed(failure=Failure(reason="HANDLER_ERROR", error_type="E", message=f"boom {n}")))
    found, token = [], ""
    while True:
        page = await stub.ListDLQ(ListDLQRequest(page_size=2, page_token=token))
        assert page.total_size == 5
        found += page.jobs
        token = page.next_page_token
        if not token:
            break
    assert {job.job_id for job in found} == set(ids)
    assert [job.finish_time.ToMilliseconds() for job in found] == sorted(
        (job.finish_time.ToMilliseconds() for job in found), reverse=True
    )
    assert all(job.WhichOneof("content") is None and job.failure.message.startswith("boom") for job in found)
    assert not (await stub.ListDLQ(ListDLQRequest(queue="other"))).jobs


async def test_a_page_never_outgrows_a_client(stub: JobServiceStub, hands: Hands):
    """A page of very long errors is cut to what every client can receive, and the next page goes on from there."""
    count = 110
    items = BatchEnqueueRequest(requests=[_request(headers={"k": "v" * 16_000}) for _ in range(count)])
    await stub.BatchEnqueue(items)
    long = Failure(reason="HANDLER_ERROR", error_type="E" * 9_000, message="m" * 9_000, stack_trace="s" * 9_000)
    for _ in range(count):
        await hands.run(Failed(failure=long))
    first = await stub.ListDLQ(ListDLQRequest(page_size=1_000))
    assert 0 < len(first.jobs) < count
    assert first.ByteSize() < 4 * 2**20
    rest = await stub.ListDLQ(ListDLQRequest(page_size=1_000, page_token=first.next_page_token))
    assert len({job.job_id for job in (*first.jobs, *rest.jobs)}) == count


async def test_a_request_larger_than_a_message_is_refused(stub: JobServiceStub):
    """A batch beyond the size of a message is RESOURCE_EXHAUSTED before anything is stored."""
    items = [_request(payload=b"x" * 2**20)] * 9
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.BatchEnqueue(BatchEnqueueRequest(requests=items))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
