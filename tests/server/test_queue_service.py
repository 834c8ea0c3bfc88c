"""QueueService over the wire: what operators see of queues, and what they do to them."""

import grpc
import pytest

from headrace.v1.job_pb2 import JobSpec
from headrace.v1.job_service_pb2 import EnqueueRequest
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace.v1.queue_pb2 import Queue as QueuePb
from headrace.v1.queue_service_pb2 import (
    GetQueueRequest,
    ListQueuesRequest,
    PauseQueueRequest,
    ResumeQueueRequest,
)
from headrace.v1.queue_service_pb2_grpc import QueueServiceStub
from headrace_broker import Failed, Failure, State, WorkerInfo

from .conftest import Hands, refused

FAILURE = Failure(reason="HANDLER_ERROR", message="boom")


@pytest.fixture
async def queues(channel: grpc.aio.Channel) -> QueueServiceStub:
    """The QueueService of `server`."""
    return QueueServiceStub(channel)


async def _enqueue(stub: JobServiceStub, queue: str = "default", count: int = 1) -> None:
    for _ in range(count):
        await stub.Enqueue(EnqueueRequest(job=JobSpec(type="t", queue=queue)))


async def test_a_queue_tells_all_of_itself(stub: JobServiceStub, queues: QueueServiceStub, hands: Hands):
    """Counts by state, dead letters, rates, age and workers are those of the store."""
    await _enqueue(stub, count=5)
    await hands.run(Failed(failure=FAILURE))
    await hands.run()
    await hands.claim()
    for worker, served in (("w1", ("default",)), ("w2", ("default", "other")), ("w3", ("other",))):
        info = WorkerInfo(worker_id=worker, queues=served, concurrency=1, host="h", pid=1, version="1")
        await hands.broker.renew(worker=info, held=[])

    queue = (await queues.GetQueue(GetQueueRequest(queue="default"))).queue

    counts = queue.counts
    assert counts == QueuePb.Counts(queued=2, processing=1, dead=1, succeeded_total=1, failed_total=1)
    assert 5 / 60 <= queue.rates.enqueued <= 5 / 50
    assert 2 / 60 <= queue.rates.finished <= 2 / 50
    assert 1 / 60 <= queue.rates.failed <= 1 / 50
    assert 0 <= queue.oldest_ready_age.ToMilliseconds() < 5_000
    assert (queue.name, queue.worker_count) == ("default", 2)
    assert (queue.paused, queue.HasField("pause_time"), queue.pause_reason) == (False, False, "")


async def test_pause_and_resume(stub: JobServiceStub, queues: QueueServiceStub, hands: Hands):
    """A paused queue hands out nothing and takes jobs; a second pause keeps the time; resumed, it goes on."""
    await _enqueue(stub)
    paused = (await queues.PauseQueue(PauseQueueRequest(queue="default", reason="the bank is closed"))).queue
    again = (await queues.PauseQueue(PauseQueueRequest(queue="default", reason="still"))).queue
    await _enqueue(stub)

    assert (paused.paused, paused.pause_reason) == (True, "the bank is closed")
    assert (again.pause_time, again.pause_reason) == (paused.pause_time, "still")
    assert paused.pause_time.seconds > 1_700_000_000
    claims = await hands.broker.claim(shard=0, worker="hands", queues=["default"], count=1, token="t")
    assert claims.jobs == ()

    resumed = (await queues.ResumeQueue(ResumeQueueRequest(queue="default"))).queue
    assert (resumed.paused, resumed.counts.queued) == (False, 2)
    await hands.run()
    assert (await hands.broker.queues.get("default")).jobs[State.SUCCEEDED] == 1


async def test_a_queue_can_be_paused_before_its_first_job(queues: QueueServiceStub, stub: JobServiceStub):
    """With allow_missing the queue is there from the pause on."""
    request = PauseQueueRequest(queue="later", allow_missing=True)
    assert (await queues.PauseQueue(request)).queue.paused
    await _enqueue(stub, "later")
    assert (await queues.GetQueue(GetQueueRequest(queue="later"))).queue.counts.queued == 1


async def test_pages(stub: JobServiceStub, queues: QueueServiceStub):
    """Pages go by name, hold each queue once, and say how many there are."""
    names = [f"q{n}" for n in range(5)]
    for name in reversed(names):
        await _enqueue(stub, name)
    found, token = [], ""
    while True:
        page = await queues.ListQueues(ListQueuesRequest(page_size=2, page_token=token))
        assert page.total_size == 5
        found.append([queue.name for queue in page.queues])
        token = page.next_page_token
        if not token:
            break
    assert found == [["q0", "q1"], ["q2", "q3"], ["q4"]]
    assert len((await queues.ListQueues(ListQueuesRequest())).queues) == 5
    assert len((await queues.ListQueues(ListQueuesRequest(page_size=2**31 - 1))).queues) == 5


NAMED = {"GetQueue": GetQueueRequest, "PauseQueue": PauseQueueRequest, "ResumeQueue": ResumeQueueRequest}


@pytest.mark.parametrize("method", NAMED)
async def test_an_unknown_queue(queues: QueueServiceStub, method: str):
    """A queue that is not there is NOT_FOUND, with its name in ResourceInfo, and is not made."""
    answer = await refused(getattr(queues, method)(NAMED[method](queue="nobody")))
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND")
    assert answer.details["resource_info"].resource_name == "nobody"
    assert len((await queues.ListQueues(ListQueuesRequest())).queues) == 0


INVALID = {
    **{f"{method} without a queue": (method, kind(), "queue", "is required") for method, kind in NAMED.items()},
    **{f"{method} of a pattern": (method, kind(queue="a*"), "queue", "got 'a*'") for method, kind in NAMED.items()},
    "reason too long": (
        "PauseQueue",
        PauseQueueRequest(queue="q", reason="x" * 201),
        "reason",
        "at most 200 characters; got 201",
    ),
    "reason with a line break": ("PauseQueue", PauseQueueRequest(queue="q", reason="a\nb"), "reason", "control"),
    "negative page": ("ListQueues", ListQueuesRequest(page_size=-1), "page_size", "got -1"),
    "made-up token": ("ListQueues", ListQueuesRequest(page_token="x"), "page_token", "next_page_token"),
}


@pytest.mark.parametrize("name", INVALID)
async def test_invalid_requests(queues: QueueServiceStub, name: str):
    """Each is INVALID_ARGUMENT, names its field, and tells nothing of our insides."""
    method, request, field, words = INVALID[name]
    answer = await refused(getattr(queues, method)(request))
    assert answer.code == grpc.StatusCode.INVALID_ARGUMENT
    assert list(answer.fields) == [field]
    assert words in answer.fields[field]
    answer.tells_no_internals()
