"""CancelJob over the wire."""

import grpc

from headrace.v1.job_pb2 import Job, JobSpec
from headrace.v1.job_service_pb2 import CancelJobRequest, EnqueueRequest, GetJobRequest, StreamStatusRequest
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_broker import Released

from .conftest import Hands, next_message, refused


async def enqueue(stub: JobServiceStub) -> str:
    """Stores a job; returns its id."""
    return (await stub.Enqueue(EnqueueRequest(job=JobSpec(type="t", text="x")))).job_id


async def test_a_waiting_job_is_cancelled(stub: JobServiceStub):
    """The answer is the job, CANCELLED, without content; ids may be in lower case; again is the same."""
    job_id = await enqueue(stub)
    call = stub.StreamStatus(StreamStatusRequest(job_id=job_id))
    await next_message(call)

    job = (await stub.CancelJob(CancelJobRequest(job_id=job_id.lower(), reason="ann: a mistake"))).job

    assert (job.job_id, job.state, job.version) == (job_id, Job.STATE_CANCELLED, 2)
    assert (job.history[-1].reason, job.history[-1].detail) == ("REQUESTED", "ann: a mistake")
    assert not job.WhichOneof("content")
    assert not job.HasField("cancel_request_time")
    assert (await stub.CancelJob(CancelJobRequest(job_id=job_id))).job == job
    told = await next_message(call)
    assert (told.state, told.version, told.detail) == (Job.STATE_CANCELLED, 2, "ann: a mistake")
    assert await next_message(call) is grpc.aio.EOF


async def test_a_running_job_is_asked_to_end(stub: JobServiceStub, hands: Hands):
    """The answer says that it still runs, and since when it is to end; then it is CANCELLED."""
    job_id = await enqueue(stub)
    claimed = await hands.claim()

    job = (await stub.CancelJob(CancelJobRequest(job_id=job_id, reason="ann"))).job

    assert (job.state, job.version) == (Job.STATE_PROCESSING, 2)
    assert job.cancel_request_time.ToMilliseconds() >= job.start_time.ToMilliseconds()
    await hands.finish(claimed, Released())
    job = (await stub.GetJob(GetJobRequest(job_id=job_id))).job
    assert (job.state, job.history[-1].detail) == (Job.STATE_CANCELLED, "ann")


async def test_a_job_that_has_ended_is_a_failed_precondition(stub: JobServiceStub, hands: Hands):
    """The answer says in which state it is."""
    job_id = await enqueue(stub)
    await hands.run()

    answer = await refused(stub.CancelJob(CancelJobRequest(job_id=job_id)))

    assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
    assert answer.message == f"job {job_id} is SUCCEEDED, and cannot be cancelled"
    assert dict(answer.details["error_info"].metadata) == {"job_id": job_id, "state": "SUCCEEDED"}
    (violation,) = answer.details["precondition_failure"].violations
    assert (violation.type, violation.subject) == ("JOB_STATE", job_id)
