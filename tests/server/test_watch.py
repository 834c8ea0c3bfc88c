"""StreamStatus on a real store: every transition, once and in order."""

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from harness.stores import Store
from harness.waiting import Eventually
from headrace.v1.job_pb2 import Job, JobSpec
from headrace.v1.job_service_pb2 import EnqueueRequest, StreamStatusRequest, StreamStatusResponse
from headrace.v1.job_service_pb2_grpc import JobServiceStub
from headrace_broker import Broker, Discarded, Failed, Failure, Released, Retried, Snoozed, Succeeded
from headrace_server.app import Server

from .conftest import Hands, Serve, next_message, refused

Kind = StreamStatusResponse.Kind
Call = grpc.aio.UnaryStreamCall

BOOM = Failure(reason="HANDLER_ERROR", error_type="ValueError", message="boom")


async def _store_job(stub: JobServiceStub, **fields: object) -> str:
    return (await stub.Enqueue(EnqueueRequest(job=JobSpec(**{"type": "t", **fields})))).job_id


def _watch(stub: JobServiceStub, job_id: str, **fields: object) -> Call:
    return stub.StreamStatus(StreamStatusRequest(job_id=job_id, **fields))


async def next_news(call: Call) -> StreamStatusResponse:
    """The next message that is no heartbeat; EOF at the end of the stream."""
    while True:
        message = await next_message(call)
        if message is grpc.aio.EOF or message.kind != Kind.KIND_HEARTBEAT:
            return message


async def rest_of(call: Call) -> list[StreamStatusResponse]:
    """All further messages but heartbeats; the stream must end well."""
    messages = []
    while (message := await next_news(call)) is not grpc.aio.EOF:
        messages.append(message)
    assert await call.code() == grpc.StatusCode.OK
    return messages


def _versions(messages: list[StreamStatusResponse]) -> list[int]:
    return [one.version for one in messages]


@pytest.fixture
async def quick(serve: Serve, connect: Callable[[Server], grpc.aio.Channel]) -> JobServiceStub:
    """The JobService of a server whose heartbeats a test can wait for. The others must do without any."""
    return JobServiceStub(connect(await serve(heartbeat=0.2)))


async def test_a_life_as_it_is_watched(stub: JobServiceStub, hands: Hands):
    """First a snapshot, then every transition with version +1, then OK; the last message holds the whole job."""
    job_id = await _store_job(stub, payload=b"{}")
    call = _watch(stub, job_id)
    first = await next_news(call)
    assert (first.kind, first.version, first.state) == (Kind.KIND_SNAPSHOT, 1, Job.STATE_QUEUED)
    assert first.job.job_id == job_id
    job = await hands.claim()
    claimed = await next_news(call)
    assert (claimed.kind, claimed.version, claimed.state) == (Kind.KIND_TRANSITION, 2, Job.STATE_PROCESSING)
    assert (claimed.attempt, claimed.detail) == (1, "hands")
    assert not claimed.HasField("job")
    await hands.finish(job, Succeeded(result=b'{"n":1}'))
    (last,) = await rest_of(call)
    assert (last.kind, last.version, last.state) == (Kind.KIND_TRANSITION, 3, Job.STATE_SUCCEEDED)
    assert last.job.result_json.struct_value.fields["n"].number_value == 1
    assert len(last.job.history) == 3


async def test_every_kind_of_step(stub: JobServiceStub, hands: Hands):
    """Retries, releases, snoozes and failures are all told, with their reasons."""
    job_id = await _store_job(stub)
    call = _watch(stub, job_id)
    await next_news(call)
    for outcome in (Retried(delay_ms=0, failure=BOOM), Released(), Snoozed(delay_ms=0)):
        await hands.run(outcome)
        assert (await next_news(call)).state == Job.STATE_PROCESSING
        after = await next_news(call)
        if after.state != Job.STATE_QUEUED:
            assert (await next_news(call)).state == Job.STATE_QUEUED  # promoted
        assert after.reason == {Retried: "HANDLER_ERROR", Released: "RELEASED", Snoozed: "SNOOZED"}[type(outcome)]
    await hands.run(Failed(failure=BOOM))
    told = await rest_of(call)
    assert [one.state for one in told] == [Job.STATE_PROCESSING, Job.STATE_FAILED]
    assert (told[-1].job.failure.message, told[-1].detail) == ("boom", "ValueError: boom")
    assert told[-1].version == 11


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Succeeded(), Job.STATE_SUCCEEDED),
        (Failed(failure=BOOM), Job.STATE_FAILED),
        (Discarded(reason="not needed"), Job.STATE_CANCELLED),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_job_that_has_ended(stub: JobServiceStub, hands: Hands, outcome: object, state: int):
    """A watch that begins after the end tells the snapshot and ends."""
    job_id = await _store_job(stub)
    await hands.run(outcome)
    (only,) = await rest_of(_watch(stub, job_id))
    assert (only.kind, only.version, only.state, only.job.state) == (Kind.KIND_SNAPSHOT, 3, state, state)


@pytest.mark.parametrize(("after", "told"), [(0, [1, 2, 3]), (1, [2, 3]), (2, [3]), (3, [])])
async def test_resume(stub: JobServiceStub, hands: Hands, after: int, told: list[int]):
    """after_version tells exactly what came after it, without a snapshot; 0 tells the whole story."""
    job_id = await _store_job(stub)
    await hands.run()
    messages = await rest_of(_watch(stub, job_id, after_version=after))
    assert _versions(messages) == told
    assert all(one.kind == Kind.KIND_TRANSITION for one in messages)
    assert all(one.HasField("job") == (one.version == 3) for one in messages)


async def test_resume_goes_on_live(stub: JobServiceStub, hands: Hands):
    """A resumed watch that has caught up goes on with what happens next."""
    job_id = await _store_job(stub)
    job = await hands.claim()
    call = _watch(stub, job_id, after_version=0)
    assert _versions([await next_news(call), await next_news(call)]) == [1, 2]
    await hands.finish(job)
    assert _versions(await rest_of(call)) == [3]


async def test_resume_from_the_future(stub: JobServiceStub):
    """after_version beyond the job's version is OUT_OF_RANGE, before any message."""
    job_id = await _store_job(stub)
    answer = await refused(_watch(stub, job_id, after_version=2).read())
    assert (answer.code, answer.reason) == (grpc.StatusCode.OUT_OF_RANGE, "VERSION_AHEAD")
    assert "greater than the job's version, 1" in answer.fields["after_version"]


async def test_resume_beyond_the_history(stub: JobServiceStub, hands: Hands):
    """after_version older than the kept history is OUT_OF_RANGE; a snapshot can still be had."""
    job_id = await _store_job(stub)
    for _ in range(251):  # 2 transitions each; the record keeps 500
        await hands.run(Released())
    answer = await refused(_watch(stub, job_id, after_version=1).read())
    assert (answer.code, answer.reason) == (grpc.StatusCode.OUT_OF_RANGE, "HISTORY_TRIMMED")
    assert "the oldest is version 4" in answer.fields["after_version"]
    assert (await next_news(_watch(stub, job_id))).version == 503
    call = _watch(stub, job_id, after_version=3)
    assert _versions([await next_news(call) for _ in range(500)]) == list(range(4, 504))


async def test_watch_right_after_enqueue(stub: JobServiceStub, hands: Hands):
    """However the watch and the end of the job race, every watcher sees every version and the end."""

    async def follow(job_id: str) -> list[int]:
        return _versions(await rest_of(_watch(stub, job_id, after_version=0)))

    watchers = []
    for _ in range(100):
        watchers.append(asyncio.create_task(follow(await _store_job(stub))))
        await hands.run()
    assert await asyncio.gather(*watchers) == [[1, 2, 3]] * 100


async def test_many_watchers_of_one_job(stub: JobServiceStub, hands: Hands):
    """Any number of watchers of one job are all told everything."""
    job_id = await _store_job(stub)
    calls = [_watch(stub, job_id) for _ in range(200)]
    await asyncio.gather(*(next_news(call) for call in calls))
    await hands.run()
    assert await asyncio.gather(*(rest_of(call) for call in calls))
    assert [await call.code() for call in calls] == [grpc.StatusCode.OK] * 200


async def test_progress(stub: JobServiceStub, hands: Hands):
    """Progress is told without a new version, the latest one also to a watcher that comes later."""
    job_id = await _store_job(stub)
    call = _watch(stub, job_id)
    await next_news(call)
    job = await hands.claim()
    await next_news(call)
    await hands.broker.report_progress(job_id, job.token, fraction=0.25, message="a quarter")
    told = await next_news(call)
    assert (told.kind, told.version, told.state) == (Kind.KIND_PROGRESS, 2, Job.STATE_PROCESSING)
    assert (told.progress.fraction, told.progress.message, told.time) == (0.25, "a quarter", told.progress.time)
    assert (await next_news(_watch(stub, job_id))).progress == told.progress
    resumed = _watch(stub, job_id, after_version=2)
    assert (await next_news(resumed)).progress == told.progress


async def test_heartbeats(quick: JobServiceStub):
    """A watch in which nothing happens sends heartbeats that say where the client stands."""
    call = _watch(quick, await _store_job(quick, delay=Duration(seconds=60)))
    await next_message(call)
    for _ in range(2):
        beat = await next_message(call, within=2)
        assert (beat.kind, beat.version, beat.state) == (Kind.KIND_HEARTBEAT, 1, Job.STATE_SCHEDULED)


async def test_a_word_that_pubsub_lost(quick: JobServiceStub, broker: Broker, hands: Hands):
    """What pub/sub lost is found at the next heartbeat: the record is written here without ringing any bell."""
    job_id = await _store_job(quick)
    call = _watch(quick, job_id)
    await next_news(call)
    record = broker.shard(0).job(job_id)
    history = await broker.redis.hget(record, "history")
    await broker.redis.hset(record, mapping={"version": 2, "state": "PROCESSING", "history": history + b"\np5,1,,w"})
    told = await next_news(call)
    assert (told.kind, told.version, told.state, told.detail) == (
        Kind.KIND_TRANSITION,
        2,
        Job.STATE_PROCESSING,
        "w",
    )


async def test_a_word_in_the_middle_that_pubsub_lost(stub: JobServiceStub, broker: Broker):
    """When a bell tells of a version after the next one, what lies between is told first, at once, from the record."""
    job_id = await _store_job(stub)
    call = _watch(stub, job_id)
    await next_news(call)
    shard = broker.shard(0)
    history = await broker.redis.hget(shard.job(job_id), "history")
    steps = history + b"\np5,1,,w\nr6,1,HANDLER_ERROR,boom"
    await broker.redis.hset(shard.job(job_id), mapping={"version": 3, "state": "RETRYING", "history": steps})
    bell = f"{job_id}|3|RETRYING|1700000000000|1|HANDLER_ERROR|boom"
    await broker.redis.execute_command("SPUBLISH", shard.event(job_id), bell)
    told = [await next_news(call) for _ in range(2)]
    assert [(one.version, one.state) for one in told] == [(2, Job.STATE_PROCESSING), (3, Job.STATE_RETRYING)]


async def test_a_slow_watcher_is_caught_up(stub: JobServiceStub, hands: Hands):
    """A watcher that does not read loses no transition: what its bell could not hold is told from the record."""
    job_id = await _store_job(stub)
    call = _watch(stub, job_id)
    first = await next_news(call)
    job = await hands.claim()
    news = 150
    for n in range(news):  # far more than fits into the connection
        await hands.broker.report_progress(job.job_id, job.token, fraction=n / news, message="x" * 100_000)
    await hands.finish(job, Released())
    for _ in range(50):
        await hands.run(Released())
    await hands.run()
    told = await rest_of(call)
    assert sum(one.kind == Kind.KIND_PROGRESS for one in told) < news  # the bell did overflow
    assert _versions([first, *(one for one in told if one.kind == Kind.KIND_TRANSITION)]) == list(range(1, 106))


async def test_no_retention(stub: JobServiceStub, hands: Hands):
    """A job whose record is gone the moment it ends is still seen to end."""
    job_id = await _store_job(stub, retention=Duration())
    call = _watch(stub, job_id)
    await next_news(call)
    await hands.run()
    told = await rest_of(call)
    assert [one.state for one in told] == [Job.STATE_PROCESSING, Job.STATE_SUCCEEDED]


async def test_a_last_word_without_a_record(stub: JobServiceStub, broker: Broker):
    """The end is told by the event itself where the record was gone before it could be read."""
    job_id = await _store_job(stub)
    call = _watch(stub, job_id)
    await next_news(call)
    shard = broker.shard(0)
    await broker.redis.delete(shard.job(job_id))
    await broker.redis.execute_command("SPUBLISH", shard.event(job_id), f"{job_id}|2|EXPIRED|1800000000000|0||")
    (last,) = await rest_of(call)
    assert (last.version, last.state, last.HasField("job")) == (2, Job.STATE_EXPIRED, False)


async def test_a_record_that_vanishes(quick: JobServiceStub, broker: Broker):
    """A watch of a job whose record is lost ends as NOT_FOUND instead of waiting for ever."""
    job_id = await _store_job(quick)
    call = _watch(quick, job_id)
    await next_news(call)
    await broker.redis.delete(broker.shard(0).job(job_id))
    answer = await refused(next_news(call))
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")


async def test_a_requeue_after_the_end(quick: JobServiceStub, broker: Broker, hands: Hands):
    """A resumed watch goes on beyond a FAILED that a requeue has left behind; only the present state can end it."""
    job_id = await _store_job(quick)
    await hands.run(Failed(failure=BOOM))
    record = broker.shard(0).job(job_id)
    history = await broker.redis.hget(record, "history")
    await broker.redis.hset(record, mapping={"version": 4, "state": "QUEUED", "history": history + b"\nq9,1,REQUEUED"})
    call = _watch(quick, job_id, after_version=2)
    assert [(await next_news(call)).state for _ in range(2)] == [Job.STATE_FAILED, Job.STATE_QUEUED]
    assert (await next_message(call)).kind == Kind.KIND_HEARTBEAT


async def test_cancelled_watches_leave_nothing_behind(stub: JobServiceStub, server: Server, eventually: Eventually):
    """Clients that go away, at whatever moment, leave no listener and no seat taken."""
    job_id = await _store_job(stub)
    calls = [_watch(stub, job_id) for _ in range(60)]
    for call in calls[:20]:
        await next_message(call)
    for call in calls[20:40]:
        await call.wait_for_connection()
    for call in calls:
        call.cancel()
    await eventually(lambda: server._subscription.listeners == 0)
    assert server._watchers.seated == 0


async def test_quota_of_watchers(serve: Serve, connect: Callable[[Server], grpc.aio.Channel], hands: Hands):
    """One watcher too many is RESOURCE_EXHAUSTED with a time to come back; other calls go on, free seats are given."""
    stub = JobServiceStub(connect(await serve(max_watchers=2)))
    job_id = await _store_job(stub)
    calls = [_watch(stub, job_id) for _ in range(2)]
    await asyncio.gather(*(next_message(call) for call in calls))
    answer = await refused(_watch(stub, job_id).read())
    assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS")
    assert answer.details["retry_info"].retry_delay.seconds > 0
    await _store_job(stub)
    await hands.run()
    await rest_of(calls[0])
    await rest_of(calls[1])
    assert await rest_of(_watch(stub, job_id))


async def test_an_old_watch_moves_on(serve: Serve, connect: Callable[[Server], grpc.aio.Channel]):
    """A watch that has grown old is told to open another, from where it stands."""
    stub = JobServiceStub(connect(await serve(watch_age=1.0, heartbeat=15)))
    call = _watch(stub, await _store_job(stub))
    messages = await rest_of(call)
    assert [(one.kind, one.version) for one in messages] == [(Kind.KIND_SNAPSHOT, 1), (Kind.KIND_GOING_AWAY, 1)]


async def test_a_watch_survives_an_outage(
    own_valkey: Callable[..., Store],
    namespace: str,
    serve: Serve,
    connect: Callable[[Server], grpc.aio.Channel],
    eventually: Eventually,
):
    """A watch goes on through a crash of the store, with no version missing or twice."""
    store = own_valkey(
        "--appendfsync", "always"
    )  # with everysec, a busy disk may cost the claim: then there is no version 2
    server = await serve(redis_url=store.url, heartbeat=0.2)
    stub = JobServiceStub(connect(server))
    async with Broker(url=store.url, namespace=namespace) as broker:
        hands = Hands(broker)
        job_id = await _store_job(stub)
        call = _watch(stub, job_id)
        told = [await next_news(call)]
        job = await hands.claim()
        told.append(await next_news(call))
        await asyncio.to_thread(store.kill)
        assert (await next_message(call)).kind == Kind.KIND_HEARTBEAT
        await asyncio.to_thread(store.start_again)
        await eventually(lambda: _done(hands.finish(job)))
        told += await rest_of(call)
    assert _versions(told) == [1, 2, 3]


async def _done(work: Awaitable[object]) -> bool:
    try:
        await work
    except Exception as error:
        raise AssertionError from error
    return True
