"""Watching: the versions that are told, whatever the streams do.

The server here is a script behind a real gRPC socket: it breaks off, repeats and falls silent at exact points, which a
real server cannot be made to do. test_restart.py has the real one.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from headrace import AsyncClient, EventKind, HistoryGap, JobNotFound, ResourceExhausted, StatusEvent, Unavailable
from headrace._channel import Connection
from headrace._watch import Cursor, Gap, Watch
from headrace.v1 import job_service_pb2_grpc
from headrace.v1.job_pb2 import Job, Progress
from headrace.v1.job_service_pb2 import GetJobResponse, StreamStatusRequest, StreamStatusResponse

Message = StreamStatusResponse
Kind = StreamStatusResponse.Kind


def snapshot(version: int, state: "Job.State" = Job.STATE_QUEUED) -> Message:
    """Where the job is."""
    return Message(kind=Kind.KIND_SNAPSHOT, version=version, state=state, job=Job(state=state, version=version))


def step(version: int, state: "Job.State" = Job.STATE_PROCESSING) -> Message:
    """A transition."""
    return Message(kind=Kind.KIND_TRANSITION, version=version, state=state)


def progress(version: int, fraction: float) -> Message:
    """A word of the handler."""
    state = Job.STATE_PROCESSING
    return Message(kind=Kind.KIND_PROGRESS, version=version, state=state, progress=Progress(fraction=fraction))


def other(kind: "Kind", version: int) -> Message:
    """A heartbeat, or the word that the server goes away."""
    return Message(kind=kind, version=version, state=Job.STATE_QUEUED)


def end(version: int) -> Message:
    """The terminal transition, with the job."""
    state = Job.STATE_SUCCEEDED
    return Message(kind=Kind.KIND_TRANSITION, version=version, state=state, job=Job(state=state, version=version))


class Fail:
    """In a script: end the stream with this error, as headrace's own where it has a reason, else as a broken wire."""

    def __init__(self, code: grpc.StatusCode, reason: str = "") -> None:
        self.code = code
        self.reason = reason


SILENCE = object()
"""In a script: say nothing more until the client goes."""
Script = Sequence[Message | Fail | object]


class ScriptedServer(job_service_pb2_grpc.JobServiceServicer):
    """Each stream plays the next script; GetJob answers with `job`."""

    def __init__(self) -> None:
        self.target = ""
        self.scripts: list[Script] = []
        self.asked: list[int | None] = []
        self.abandoned = asyncio.Event()
        self.job = Job()

    async def StreamStatus(  # noqa: N802 - the contract's name
        self, request: StreamStatusRequest, context: "grpc.aio.ServicerContext[StreamStatusRequest, Message]"
    ) -> AsyncIterator[Message]:
        """Play a script."""
        self.asked.append(request.after_version if request.HasField("after_version") else None)
        for line in self.scripts.pop(0):
            if isinstance(line, Message):
                yield line
            elif isinstance(line, Fail):
                await self._fail(line, context)
            else:
                await self._say_nothing()

    async def GetJob(self, request, context):  # noqa: N802 - the contract's name
        """The job as the test set it."""
        return GetJobResponse(job=self.job)

    async def Enqueue(self, request, context):  # noqa: N802 - the contract's name
        """Not scripted."""
        raise NotImplementedError

    BatchEnqueue = ListDLQ = Enqueue

    async def _fail(self, line: Fail, context: "grpc.aio.ServicerContext[StreamStatusRequest, Message]") -> None:
        if not line.reason:
            await context.abort(line.code, "broken")
        status = status_pb2.Status(code=line.code.value[0], message=line.reason)
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=line.reason, domain="headrace"))
        await context.abort_with_status(rpc_status.to_status(status))

    async def _say_nothing(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.abandoned.set()


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    """A server that plays scripts; `target` is its address."""
    servicer = ScriptedServer()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    job_service_pb2_grpc.add_JobServiceServicer_to_server(servicer, server)
    servicer.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield servicer
    await server.stop(None)


async def watch(
    scripted: ScriptedServer,
    *scripts: Script,
    after_version: int | None = None,
    silence: float = 60.0,
    timeout: float = 2.0,  # noqa: ASYNC109 - the one of Watch
) -> list[StatusEvent]:
    """Everything that a watch over these scripts tells."""
    scripted.scripts = list(scripts)
    connection = Connection(target=scripted.target)
    one = Watch(
        connection=connection,
        job_id="J",
        after_version=after_version,
        timeout=timeout,
        patience=timeout,
        silence=silence,
    )
    try:
        async with asyncio.timeout(10), aclosing(one.events()) as events:
            return [event async for event in events]
    finally:
        await connection.close()


def versions(events: list[StatusEvent]) -> list[int]:
    """The versions of the events in order, without progress."""
    return [event.version for event in events if event.kind is not EventKind.PROGRESS]


BROKEN = Fail(grpc.StatusCode.UNAVAILABLE)


async def test_watch_ends_after_the_terminal_version(scripted: ScriptedServer) -> None:
    """A snapshot, every version, and no more after the terminal one; the last event has the whole job."""
    events = await watch(scripted, [snapshot(1), step(2), end(3), step(4)])
    assert [event.kind for event in events] == [EventKind.SNAPSHOT, EventKind.TRANSITION, EventKind.TRANSITION]
    assert versions(events) == [1, 2, 3]
    assert events[-1].job is not None
    assert scripted.asked == [None]


async def test_snapshot_of_an_ended_job_is_all(scripted: ScriptedServer) -> None:
    """A job that has ended is told in one event."""
    assert versions(await watch(scripted, [snapshot(7, Job.STATE_FAILED)])) == [7]


@pytest.mark.parametrize(
    "broken",
    [
        BROKEN,
        Fail(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
        Fail(grpc.StatusCode.CANCELLED),
        Fail(grpc.StatusCode.INTERNAL),
        Fail(grpc.StatusCode.UNKNOWN),
        Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS"),
        other(Kind.KIND_GOING_AWAY, 2),
    ],
    ids=lambda line: f"{line.code.name} {line.reason}" if isinstance(line, Fail) else "GOING_AWAY",
)
async def test_interrupted_watch_resumes_where_it_was(scripted: ScriptedServer, broken: Fail | Message) -> None:
    """After an interruption, whatever its kind, the next stream is asked for what follows the last version told."""
    events = await watch(scripted, [snapshot(1), step(2), broken, SILENCE], [step(3), BROKEN], [BROKEN], [end(4)])
    assert versions(events) == [1, 2, 3, 4]
    assert scripted.asked == [None, 2, 3, 3]


async def test_going_away_does_not_wait_for_the_stream_to_end(scripted: ScriptedServer) -> None:
    """The client leaves a stream that is going away, rather than to wait until it is cut off."""
    await watch(scripted, [snapshot(1), other(Kind.KIND_GOING_AWAY, 1), SILENCE], [end(2)])
    await asyncio.wait_for(scripted.abandoned.wait(), 5)


async def test_repeated_versions_are_told_once(scripted: ScriptedServer) -> None:
    """A stream that tells again what was told before adds nothing."""
    events = await watch(
        scripted, [snapshot(1), step(2), step(2), BROKEN], [snapshot(2), step(1), step(2), step(3), end(4)]
    )
    assert versions(events) == [1, 2, 3, 4]


async def test_missing_version_reopens_the_stream(scripted: ScriptedServer) -> None:
    """A version is never skipped: a stream that leaves one out is opened again before it."""
    events = await watch(scripted, [snapshot(1), step(3), end(4)], [step(2), step(3), end(4)])
    assert versions(events) == [1, 2, 3, 4]
    assert scripted.asked == [None, 1]


async def test_gap_that_cannot_be_closed_is_an_error(scripted: ScriptedServer) -> None:
    """A stream that starts with a gap cannot be made good by another: the watch says so."""
    with pytest.raises(HistoryGap, match="version 9 follows 3"):
        await watch(scripted, [step(9)], after_version=3)


async def test_heartbeats_are_not_told(scripted: ScriptedServer) -> None:
    """Heartbeats keep a stream alive and tell nobody."""
    beats = [other(Kind.KIND_HEARTBEAT, 1)] * 3
    assert versions(await watch(scripted, [snapshot(1), *beats, end(2)])) == [1, 2]


async def test_silent_stream_is_opened_again(scripted: ScriptedServer) -> None:
    """A stream without a word for longer than two heartbeats counts as broken, and is given up."""
    events = await watch(scripted, [snapshot(1), SILENCE], [SILENCE], [end(2)], silence=0.1)
    assert versions(events) == [1, 2]
    assert scripted.asked == [None, 1, 1]
    assert scripted.abandoned.is_set()


async def test_progress_is_told_once(scripted: ScriptedServer) -> None:
    """Progress is an event without a version of its own; the one that a new stream repeats is left out."""
    events = await watch(
        scripted,
        [snapshot(1), step(2), progress(2, 0.5), BROKEN],
        [progress(2, 0.5), progress(2, 0.75), end(3)],
    )
    assert [event.progress.fraction for event in events if event.progress is not None] == [0.5, 0.75]
    assert versions(events) == [1, 2, 3]


async def test_stream_that_ends_early_is_opened_again(scripted: ScriptedServer) -> None:
    """An end without the terminal version is checked against the job, and counts as an interruption."""
    scripted.job = Job(state=Job.STATE_PROCESSING, version=2)
    assert versions(await watch(scripted, [snapshot(1)], [step(2), end(3)])) == [1, 2, 3]


async def test_resuming_after_the_end_tells_nothing(scripted: ScriptedServer) -> None:
    """A watch that resumes after the terminal version ends without an event."""
    scripted.job = Job(state=Job.STATE_SUCCEEDED, version=4)
    assert await watch(scripted, [], after_version=4) == []
    assert scripted.asked == [4]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Fail(grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND"), JobNotFound),
        (Fail(grpc.StatusCode.OUT_OF_RANGE, "VERSION_AHEAD"), HistoryGap),
    ],
)
async def test_lasting_errors_end_the_watch(scripted: ScriptedServer, failure: Fail, kind: type[Exception]) -> None:
    """What another stream would meet again is raised, at the start as later on."""
    with pytest.raises(kind):
        await watch(scripted, [failure])
    with pytest.raises(kind):
        await watch(scripted, [snapshot(1), BROKEN], [failure])


async def test_new_watcher_is_told_that_it_is_one_too_many(scripted: ScriptedServer) -> None:
    """The quota of watchers is an error at the start of a watch; later on it is sat out (see above)."""
    with pytest.raises(ResourceExhausted):
        await watch(scripted, [Fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS")])


async def test_patience_is_limited(scripted: ScriptedServer) -> None:
    """An outage that outlasts the watch's patience is raised as Unavailable."""
    with pytest.raises(Unavailable):
        await watch(scripted, [snapshot(1), BROKEN], *[[BROKEN]] * 20, timeout=0.3)


async def test_dropped_watch_gives_its_stream_up(scripted: ScriptedServer) -> None:
    """Whoever leaves a watch early frees its stream on the server."""
    scripted.scripts = [[snapshot(1), SILENCE]]
    async with AsyncClient(scripted.target) as client:
        async with aclosing(client.watch("J")) as events:
            await anext(events)
        await asyncio.wait_for(scripted.abandoned.wait(), 5)


async def test_result_survives_what_a_watch_cannot(scripted: ScriptedServer) -> None:
    """`result` wants the end alone: where steps in between are lost for good, it looks again from a snapshot."""
    gap = Fail(grpc.StatusCode.OUT_OF_RANGE, "HISTORY_TRIMMED")
    last = end(900)
    last.job.result, last.job.result_content_type = b"42", "application/json"
    scripted.scripts = [[snapshot(1), BROKEN], [gap], [snapshot(899), last]]
    async with AsyncClient(scripted.target) as client:
        assert await client.result("J", timeout=5) == 42
    assert scripted.asked == [None, 1, None]


def test_cursor_names_the_gap() -> None:
    """The pure part: a cursor takes messages, and refuses one that leaves a version out."""
    cursor = Cursor(after_version=3)
    assert cursor.take(step(3)) is None
    assert cursor.take(step(4)) is not None
    with pytest.raises(Gap, match="version 6 follows 4"):
        cursor.take(step(6))
    assert (cursor.version, cursor.ended) == (4, False)


def test_code_numbers_are_those_of_grpc() -> None:
    """The numbers in google.rpc.Code and in gRPC's own enum are the same, so that one table does for both."""
    assert {code.name: code.value[0] for code in grpc.StatusCode} == dict(code_pb2.Code.items())
