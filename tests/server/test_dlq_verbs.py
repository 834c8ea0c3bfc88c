"""RequeueDLQ and PurgeDLQ over the wire."""

from headrace.v1.job_pb2 import Job, JobSpec
from headrace.v1.job_service_pb2 import (
    DeadLetterFilter,
    EnqueueRequest,
    GetJobRequest,
    ListDLQRequest,
    PurgeDLQRequest,
    RequeueDLQRequest,
    StreamStatusRequest,
)
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_broker import Failed, Failure

from .conftest import Hands, next_message, refused

TIMED_OUT = Failed(failure=Failure(reason="TIMEOUT", message="stopped after 1 s", attempt=1))


async def fail(stub: JobServiceStub, hands: Hands, **spec: object) -> str:
    """Stores a job and makes it a dead letter; returns its id."""
    job_id = (await stub.Enqueue(EnqueueRequest(job=JobSpec(**{"type": "t", **spec})))).job_id
    await hands.run(TIMED_OUT)
    return job_id


async def test_a_dead_letter_is_requeued_and_its_watchers_see_it(stub: JobServiceStub, hands: Hands):
    """It is QUEUED under its id; who watches from where it had failed is told how it goes on."""
    job_id = await fail(stub, hands)
    unknown = "0" * 26

    answer = await stub.RequeueDLQ(RequeueDLQRequest(job_ids=[job_id.lower(), unknown]))

    assert (answer.requeued, answer.scanned, list(answer.skipped_job_ids)) == (1, 2, [unknown])
    call = stub.StreamStatus(StreamStatusRequest(job_id=job_id, after_version=3))
    told = await next_message(call)
    assert (told.version, told.state, told.reason, told.attempt) == (4, Job.STATE_QUEUED, "REQUEUED", 0)
    await hands.run()
    states = [(await next_message(call)).state for _ in range(2)]
    assert states == [Job.STATE_PROCESSING, Job.STATE_SUCCEEDED]


async def test_what_matches_is_counted_requeued_and_purged(stub: JobServiceStub, hands: Hands):
    """By labels and reason; validate_only and a purge without force only count."""
    blue = await fail(stub, hands, labels={"team": "blue", "n": "1"})
    red = await fail(stub, hands, labels={"team": "red"})
    where = DeadLetterFilter(labels={"team": "blue"}, reason="TIMEOUT")

    counted = await stub.RequeueDLQ(RequeueDLQRequest(filter=where, validate_only=True))
    assert (counted.requeued, counted.scanned, counted.next_page_token) == (1, 2, "")
    assert (await stub.PurgeDLQ(PurgeDLQRequest(filter=where))).purged == 1
    assert (await stub.ListDLQ(ListDLQRequest())).total_size == 2
    assert (await stub.RequeueDLQ(RequeueDLQRequest(filter=where))).requeued == 1
    assert (await stub.GetJob(GetJobRequest(job_id=blue))).job.state == Job.STATE_QUEUED
    assert (await stub.PurgeDLQ(PurgeDLQRequest(filter=DeadLetterFilter(), force=True))).purged == 1
    assert (await refused(stub.GetJob(GetJobRequest(job_id=red)))).reason == "JOB_NOT_FOUND"
    assert list((await stub.PurgeDLQ(PurgeDLQRequest(job_ids=[blue], force=True))).skipped_job_ids) == [blue]
