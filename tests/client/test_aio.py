"""AsyncClient against a real server on a real Valkey."""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from client.rig import Hand, Server
from harness.stores import Store
from harness.waiting import Eventually
from headrace import (
    AsyncClient,
    AsyncJobHandle,
    ClientClosed,
    DeadlineExceeded,
    EnqueueError,
    EventKind,
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFound,
    JobState,
    NewJob,
    Priority,
    RetryPolicy,
    StatusEvent,
    Unavailable,
)
from headrace_broker import Succeeded

NO_JOB = "0" * 26


async def test_job_comes_back_as_it_was_given(client: AsyncClient, queue: str) -> None:
    """Every field of a job that was enqueued is found in `get`, big integers exact."""
    due = datetime.now(UTC).replace(microsecond=5_000) + timedelta(hours=1)
    handle = await client.enqueue(
        "mail.send",
        {"to": "a@b", "n": 2**70},
        queue=queue,
        priority="low",
        schedule_time=due,
        attempt_timeout=1.5,
        expire_time=due + timedelta(days=1),
        retry=RetryPolicy(
            max_attempts=3, initial_backoff=0.5, max_backoff=timedelta(minutes=2), multiplier=3, jitter=0
        ),
        labels={"team": "blue"},
        headers={"traceparent": "00-a-b-01"},
        retention=timedelta(days=2),
    )
    assert (handle.state, handle.version, handle.deduplicated) == (JobState.SCHEDULED, 1, False)
    job = await handle.get()
    assert job == await client.get(handle.job_id)
    assert (job.type, job.queue, job.priority, job.state) == ("mail.send", queue, Priority.LOW, JobState.SCHEDULED)
    assert job.payload == {"to": "a@b", "n": 2**70}
    assert (job.schedule_time, job.expire_time) == (due, due + timedelta(days=1))
    assert job.attempt_timeout == timedelta(seconds=1.5)
    assert job.retry == RetryPolicy(
        max_attempts=3,
        initial_backoff=timedelta(seconds=0.5),
        max_backoff=timedelta(minutes=2),
        multiplier=3.0,
        jitter=0.0,
    )
    assert (job.labels, job.headers) == ({"team": "blue"}, {"traceparent": "00-a-b-01"})
    assert job.retention == timedelta(days=2)
    assert job.create_time == handle.create_time
    assert [step.state for step in job.history] == [JobState.SCHEDULED]


async def test_bytes_and_text_come_back_as_they_were_given(client: AsyncClient, queue: str) -> None:
    """Bytes stay bytes, text under its content type stays text, and no payload is None."""
    for payload, content_type in ((b"\x00\xff", None), ("grün", "text/plain"), (None, None), ("", None)):
        handle = await client.enqueue("t", payload, queue=queue, content_type=content_type)
        assert (await handle.get()).payload == payload


async def test_result_waits_for_the_handler(client: AsyncClient, hand: Hand, queue: str) -> None:
    """`result` returns what the handler returned, decoded, once it has; and again when asked later."""
    handle = await client.enqueue("t", queue=queue)
    waiting = asyncio.create_task(handle.result(timeout=10))
    await hand.succeed(queue, {"n": 2**70})
    assert await waiting == {"n": 2**70}
    assert await client.result(handle.job_id) == {"n": 2**70}


async def test_result_of_a_handler_that_returned_nothing_is_none(client: AsyncClient, hand: Hand, queue: str) -> None:
    """No result is None."""
    handle = await client.enqueue("t", queue=queue)
    await hand.succeed(queue)
    assert await handle.result(timeout=10) is None


async def test_result_of_a_failed_job_raises_its_failure(client: AsyncClient, hand: Hand, queue: str) -> None:
    """A job that failed for good raises JobFailed, with the failure of the last attempt."""
    handle = await client.enqueue("t", queue=queue)
    await hand.fail(queue, "no such address")
    with pytest.raises(JobFailed) as caught:
        await handle.result(timeout=10)
    assert str(caught.value) == f"job {handle.job_id} failed (HANDLER_ERROR): ValueError: no such address"
    assert caught.value.failure is not None
    assert caught.value.failure.stack_trace == "Traceback …"
    assert caught.value.job.state is JobState.FAILED


async def test_result_of_a_cancelled_job_raises(client: AsyncClient, hand: Hand, queue: str) -> None:
    """A job that its handler discarded raises JobCancelled, with the handler's reason."""
    handle = await client.enqueue("t", queue=queue)
    await hand.discard(queue)
    with pytest.raises(JobCancelled) as caught:
        await handle.result(timeout=10)
    assert str(caught.value) == f"job {handle.job_id} was cancelled (DISCARDED): no need"


async def test_result_of_an_expired_job_raises(client: AsyncClient, queue: str) -> None:
    """A job that nobody started by its expire_time raises JobExpired."""
    expiry = datetime.now(UTC) + timedelta(seconds=0.5)
    handle = await client.enqueue("t", queue=queue, expire_time=expiry)
    with pytest.raises(JobExpired, match=f"job {handle.job_id} expired"):
        await handle.result(timeout=20)


async def test_result_times_out(client: AsyncClient, queue: str) -> None:
    """A job that has not ended in time is a TimeoutError that says where it is."""
    handle = await client.enqueue("t", queue=queue, delay=60)
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.2 s; it is SCHEDULED") as caught:
        await handle.result(timeout=timedelta(seconds=0.2))
    assert isinstance(caught.value, DeadlineExceeded)


async def test_watch_tells_the_whole_life_of_a_job(client: AsyncClient, hand: Hand, queue: str) -> None:
    """A watcher sees the snapshot, then every transition and the progress, live, and the job in the last one."""
    handle = await client.enqueue("t", queue=queue)
    events: list[StatusEvent] = []
    async with aclosing(handle.watch()) as watch:
        events.append(await anext(watch))
        await hand.retry(queue)
        events += [await anext(watch), await anext(watch), await anext(watch)]
        job = await hand.claim(queue)
        events.append(await anext(watch))
        await hand.progress(job, 0.5, "half")
        events.append(await anext(watch))
        await hand.finish(job, Succeeded(result=b'{"ok":true}'))
        events += [event async for event in watch]
    told = [(event.kind, event.version, event.state) for event in events]
    assert told == [
        (EventKind.SNAPSHOT, 1, JobState.QUEUED),
        (EventKind.TRANSITION, 2, JobState.PROCESSING),
        (EventKind.TRANSITION, 3, JobState.RETRYING),
        (EventKind.TRANSITION, 4, JobState.QUEUED),
        (EventKind.TRANSITION, 5, JobState.PROCESSING),
        (EventKind.PROGRESS, 5, JobState.PROCESSING),
        (EventKind.TRANSITION, 6, JobState.SUCCEEDED),
    ]
    assert events[1].detail == "hand-1"
    assert (events[2].reason, events[2].detail) == ("HANDLER_ERROR", "ValueError: try again")
    assert events[5].progress is not None
    assert (events[5].progress.fraction, events[5].progress.message) == (0.5, "half")
    assert events[6].job is not None
    assert events[6].job.result == {"ok": True}
    assert [(step.version, step.state) for step in events[6].job.history] == [
        (version, state) for kind, version, state in told if kind is not EventKind.PROGRESS
    ]


async def test_watch_of_the_past_tells_it_all(client: AsyncClient, hand: Hand, queue: str) -> None:
    """`after_version=0` tells the story of a job that ended long ago; after the last version there is nothing."""
    handle = await client.enqueue("t", queue=queue)
    await hand.retry(queue)
    assert await _versions(client, handle.job_id, 0, count=3) == [1, 2, 3]
    await _claimable(client, handle.job_id)
    await hand.succeed(queue)
    assert await _versions(client, handle.job_id, 0) == [1, 2, 3, 4, 5, 6]
    assert await _versions(client, handle.job_id, 4) == [5, 6]
    assert await _versions(client, handle.job_id, 6) == []


async def test_unknown_job_is_not_found(client: AsyncClient) -> None:
    """`get`, `watch` and `result` of a job that does not exist raise JobNotFound."""
    with pytest.raises(JobNotFound, match=NO_JOB) as caught:
        await client.get(NO_JOB)
    assert caught.value.reason == "JOB_NOT_FOUND"
    with pytest.raises(JobNotFound):
        await client.result(NO_JOB, timeout=5)
    with pytest.raises(JobNotFound):
        await anext(client.watch(NO_JOB))


@pytest.mark.parametrize("alone", [True, False])
async def test_violations_name_the_fields_of_the_job(client: AsyncClient, queue: str, *, alone: bool) -> None:
    """What the server finds wrong with a job names the job's fields, also when it travelled in a batch of others."""
    others = [client.enqueue("t", queue=queue) for _ in range(0 if alone else 3)]
    bad = client.enqueue("bad type!", queue=queue, delay=-1)
    *stored, error = await asyncio.gather(*others, bad, return_exceptions=True)
    assert isinstance(error, InvalidRequest)
    assert {violation.field for violation in error.violations} == {"job.type", "job.delay"}
    assert "requests[" not in str(error)
    assert all(isinstance(handle, AsyncJobHandle) for handle in stored)


async def test_same_request_id_finds_the_same_job(client: AsyncClient, queue: str) -> None:
    """A request_id that was used returns the first job; for another job it is refused."""
    first, again = [await client.enqueue("t", {"n": 1}, queue=queue, request_id=f"r-{queue}") for _ in range(2)]
    assert again.job_id == first.job_id
    assert (first.deduplicated, again.deduplicated) == (False, True)
    with pytest.raises(InvalidRequest, match="request_id") as caught:
        await client.enqueue("t", {"n": 2}, queue=queue, request_id=f"r-{queue}")
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_many_jobs_are_answered_one_by_one(client: AsyncClient, queue: str) -> None:
    """`enqueue_many` answers 2,500 jobs in order: handles, and an error in the place of each bad one."""
    jobs = [NewJob("t" if n % 500 else "bad type", {"n": n}, queue=queue) for n in range(2_500)]
    outcomes = await client.enqueue_many(jobs)
    assert len(outcomes) == 2_500
    bad = [outcome for outcome in outcomes if isinstance(outcome, EnqueueError)]
    assert [error.index for error in bad] == [0, 500, 1000, 1500, 2000]
    assert all(isinstance(error.error, InvalidRequest) for error in bad)
    assert [violation.field for violation in bad[3].error.violations] == ["job.type"]
    for n in (1, 999, 1_001, 2_499):
        assert (await outcomes[n].get()).payload == {"n": n}


async def test_enqueue_many_can_be_repeated(client: AsyncClient, queue: str) -> None:
    """The jobs of EnqueueErrors carry the request_id of the try that failed, so that a repetition stores them once."""
    named = [NewJob("t", n, queue=queue, request_id=f"{queue}-{n}") for n in range(3)]
    first, again = [await client.enqueue_many(named) for _ in range(2)]
    assert [one.job_id for one in first] == [one.job_id for one in again]
    (error,) = await client.enqueue_many([NewJob("bad type", queue=queue)])
    assert uuid.UUID(error.job.request_id).version == 4


async def test_dead_letters_are_read_page_by_page(client: AsyncClient, hand: Hand, queue: str) -> None:
    """`dlq` goes through all pages, those that failed last first; `dlq_page` is one of them."""
    stored = await client.enqueue_many(NewJob("t", n, queue=queue) for n in range(7))
    for n in range(7):
        await hand.fail(queue, f"broken {n}")
    async with aclosing(client.dlq(queue, page_size=3)) as letters:
        jobs = [job async for job in letters]
    assert {job.job_id for job in jobs} == {handle.job_id for handle in stored}
    assert {job.failure.message for job in jobs if job.failure} == {f"broken {n}" for n in range(7)}
    failed = [job.finish_time for job in jobs]
    assert failed == sorted(failed, reverse=True)
    page = await client.dlq_page(queue, page_size=3)
    assert ([job.job_id for job in page.jobs], page.total_size) == ([job.job_id for job in jobs[:3]], 7)
    following = await client.dlq_page(queue, page_size=3, page_token=page.next_page_token)
    assert [job.job_id for job in following.jobs] == [job.job_id for job in jobs[3:6]]
    with pytest.raises(InvalidRequest) as caught:
        await client.dlq_page("another", page_token=page.next_page_token)
    assert caught.value.reason == "BAD_PAGE_TOKEN"


async def test_enqueue_waits_for_the_server_to_come_up(own_server: Callable[..., Server], queue: str) -> None:
    """An enqueue that is made while the server restarts is answered once it is back."""
    server = own_server()
    async with AsyncClient(server.target, timeout=20) as client:
        first = await client.enqueue("t", queue=queue)
        server.kill()
        waiting = asyncio.create_task(client.enqueue("t", queue=queue))
        await asyncio.to_thread(server.start_again)
        assert (await waiting).job_id != first.job_id
        assert (await client.get(first.job_id)).state is JobState.QUEUED


async def test_enqueue_without_a_server_ends_at_its_deadline(unused_tcp_port: int) -> None:
    """Where no server comes up, the call ends at its own timeout, and says that nobody was there."""
    async with AsyncClient(f"127.0.0.1:{unused_tcp_port}") as client:
        with pytest.raises(DeadlineExceeded, match=f"127.0.0.1:{unused_tcp_port}: there is no connection to it"):
            await client.enqueue("t", timeout=0.3)
        outcomes = await client.enqueue_many([NewJob("t"), NewJob("t")], timeout=0.3)
    assert [type(outcome.error) for outcome in outcomes] == [DeadlineExceeded] * 2


async def test_watch_without_a_server_ends_at_the_timeout(unused_tcp_port: int) -> None:
    """A watch that finds no server from the start gives up after the client's timeout."""
    async with AsyncClient(f"127.0.0.1:{unused_tcp_port}", timeout=0.3) as client:
        with pytest.raises(Unavailable):
            await anext(client.watch(NO_JOB))


async def test_ping_tells_a_serving_server(client: AsyncClient) -> None:
    """`ping` returns for a server that serves."""
    assert await client.ping() is None


async def test_ping_tells_a_server_without_its_store(own_valkey: Callable[..., Store], eventually: Eventually) -> None:
    """A server that has lost its store is up, but `ping` says that it does not serve."""
    store = own_valkey()
    server = Server(url=store.url, namespace="lost")
    try:
        async with AsyncClient(server.target) as client:
            await client.ping()
            store.kill()

            async def is_not_serving() -> bool:
                try:
                    await client.ping()
                except Unavailable as error:
                    return error.reason == "NOT_SERVING"
                return False

            await eventually(is_not_serving, within=20)
    finally:
        server.close()


async def test_closed_client_says_so(server: Server, queue: str) -> None:
    """`close` may be called twice, and before anything was done; a closed client refuses everything by name."""
    client = AsyncClient(server.target)
    await client.close()
    await client.close()
    for attempt in (client.enqueue("t"), client.get(NO_JOB), client.ping(), client.dlq_page(), client.result(NO_JOB)):
        with pytest.raises(ClientClosed, match="was closed"):
            await attempt
    with pytest.raises(ClientClosed):
        client.watch(NO_JOB)


async def test_close_ends_what_is_under_way(server: Server, queue: str) -> None:
    """Closing answers the enqueues that were made and ends watches with ClientClosed, not with a cancellation."""
    client = AsyncClient(server.target)
    handle = await client.enqueue("t", queue=queue, delay=60)
    watch = client.watch(handle.job_id)
    await anext(watch)
    watching = asyncio.create_task(anext(watch))
    waiting = asyncio.create_task(client.result(handle.job_id))
    storing = [asyncio.create_task(client.enqueue("t", queue=queue)) for _ in range(10)]
    await asyncio.wait(storing, timeout=0)
    await client.close()
    assert all(task.result().state is JobState.QUEUED for task in storing)
    for task in (watching, waiting):
        with pytest.raises(ClientClosed):
            await task


async def test_cancelling_a_caller_is_a_cancellation(client: AsyncClient, queue: str) -> None:
    """A task that is cancelled while it waits for the client ends as cancelled."""
    handle = await client.enqueue("t", queue=queue, delay=60)
    task = asyncio.create_task(client.result(handle.job_id))
    await asyncio.wait({task}, timeout=0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _versions(client: AsyncClient, job_id: str, after_version: int, *, count: int | None = None) -> list[int]:
    versions: list[int] = []
    async with aclosing(client.watch(job_id, after_version=after_version)) as watch:
        async for event in watch:
            versions.append(event.version)
            if len(versions) == count:
                break
    return versions


async def _claimable(client: AsyncClient, job_id: str) -> None:
    async with aclosing(client.watch(job_id)) as watch:
        async for event in watch:
            if event.state is JobState.QUEUED:
                return
