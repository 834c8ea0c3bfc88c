"""Storing many jobs: how they are cut into calls, and what an outage does."""

from collections.abc import Iterator, Sequence

from headrace import Durability, HeadraceError, NewJob, ResourceExhausted, Unavailable
from headrace._batch import enqueue_all
from headrace._coalesce import MAX_BYTES, MAX_ITEMS
from headrace.v1.job_service_pb2 import EnqueueRequest, EnqueueResponse


class Wire:
    """The seam: records each call, and fails those that it is told to."""

    def __init__(self, *, failures: dict[int, HeadraceError] | None = None) -> None:
        self.calls: list[list[str]] = []
        self._failures = failures or {}

    async def send(self, requests: Sequence[EnqueueRequest], timeout: float) -> Sequence[EnqueueResponse]:  # noqa: ASYNC109 - as gRPC
        """See _coalesce.Send."""
        self.calls.append([request.job.type for request in requests])
        if (error := self._failures.get(len(self.calls))) is not None:
            raise error
        return [EnqueueResponse(job_id=request.request_id) for request in requests]


async def test_jobs_are_cut_into_calls_in_order() -> None:
    """2,500 jobs are calls of 1,000, 1,000 and 500; each job has its own answer, in its own place."""
    wire = Wire()
    entries = await enqueue_all((NewJob(f"t{n}") for n in range(2_500)), send=wire.send, within=1)
    assert [len(call) for call in wire.calls] == [MAX_ITEMS, MAX_ITEMS, 500]
    assert [name for call in wire.calls for name in call] == [f"t{n}" for n in range(2_500)]
    assert [entry.job.type for entry in entries] == [f"t{n}" for n in range(2_500)]
    assert all(isinstance(e.answer, EnqueueResponse) and e.answer.job_id == e.job.request_id for e in entries)


async def test_calls_stay_below_the_bytes_that_a_server_takes() -> None:
    """Large payloads make smaller calls."""
    wire = Wire()
    half = MAX_BYTES // 2
    jobs = [NewJob("a", b"x" * half), NewJob("b", b"x" * half), NewJob("c"), NewJob("d", b"x" * MAX_BYTES)]
    await enqueue_all(jobs, send=wire.send, within=1)
    assert wire.calls == [["a"], ["b", "c"], ["d"]]


async def test_levels_of_durability_do_not_share_a_call() -> None:
    """A call has one durability, so that no job waits for a disk or a replica that it did not ask for."""
    wire = Wire()
    jobs = [NewJob("a"), NewJob("b", durability="fsynced"), NewJob("c", durability=Durability.FSYNCED), NewJob("d")]
    entries = await enqueue_all(jobs, send=wire.send, within=1)
    assert wire.calls == [["a"], ["b", "c"], ["d"]]
    assert [entry.request.durability for entry in entries if entry.request] == [0, 2, 2, 0]


async def test_jobs_are_read_call_by_call() -> None:
    """A generator of jobs is not read to its end before the first call."""
    wire = Wire()
    calls_before: list[int] = []

    def jobs() -> Iterator[NewJob]:
        for n in range(2_000):
            calls_before.append(len(wire.calls))
            yield NewJob(f"t{n}")

    await enqueue_all(jobs(), send=wire.send, within=1)
    assert calls_before[-1] == 1


async def test_job_that_cannot_be_sent_is_answered_in_its_place() -> None:
    """A job with a payload that is no JSON gets its error, and the others are stored."""
    wire = Wire()
    entries = await enqueue_all([NewJob("a"), NewJob("b", object()), NewJob("c")], send=wire.send, within=1)
    assert wire.calls == [["a", "c"]]
    assert [type(entry.answer).__name__ for entry in entries] == [
        "EnqueueResponse",
        "InvalidRequest",
        "EnqueueResponse",
    ]


async def test_outage_ends_the_tries() -> None:
    """Once the server is away, what is left gets that error at once, with the request_ids to try again."""
    outage = Unavailable("gone")
    wire = Wire(failures={2: outage})
    jobs = [NewJob(f"t{n}", b"x" * MAX_BYTES) for n in range(4)] + [NewJob("bad", object())]
    entries = await enqueue_all(jobs, send=wire.send, within=1)
    assert len(wire.calls) == 2
    assert [type(e.answer).__name__ for e in entries] == ["EnqueueResponse", *["Unavailable"] * 3, "InvalidRequest"]
    assert all(entry.job.request_id for entry in entries)


async def test_call_that_is_refused_does_not_end_the_tries() -> None:
    """A full store refuses one call; the next is tried."""
    wire = Wire(failures={1: ResourceExhausted("full")})
    jobs = [NewJob(f"t{n}", b"x" * MAX_BYTES) for n in range(2)]
    entries = await enqueue_all(jobs, send=wire.send, within=1)
    assert [type(entry.answer).__name__ for entry in entries] == ["ResourceExhausted", "EnqueueResponse"]


async def test_no_jobs_are_no_call() -> None:
    """Nothing to store asks the server nothing."""
    wire = Wire()
    assert await enqueue_all([], send=wire.send, within=1) == []
    assert wire.calls == []
