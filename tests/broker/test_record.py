"""record.py: whatever users put into a job, a result or an error comes back as it was."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.moves import claim, finish, start
from broker.state import A, new
from headrace_broker import (
    Broker,
    Discarded,
    Enqueued,
    Failed,
    Failure,
    JobSpec,
    NewJob,
    Priority,
    Retried,
    RetryPolicy,
    State,
    Succeeded,
)
from headrace_broker._job_control import DETAIL
from headrace_broker.job import HOUR
from headrace_broker.record import decode_failure, decode_history, digest, encode_failure, encode_spec

TEXT = st.text(max_size=300)
NASTY = st.one_of(
    TEXT,
    st.sampled_from(
        ["\0", "a|b|c|d", "1,2,3", "line\nline\r\nline", "\u2028", "🐢" * 250, "\x1b]0;x\x07", '{"a":1}', " "]
    ),
)
MS = st.integers(0, 2**53)
BYTES = st.binary(max_size=500)
RETRIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 10**6),
    initial_backoff_ms=MS,
    max_backoff_ms=MS,
    multiplier=st.floats(1, 100),
    jitter=st.floats(0, 1),
)
SPECS = st.builds(
    JobSpec,
    type=st.text(min_size=1, max_size=128),
    queue=st.from_regex(r"\A[A-Za-z0-9_.-]{1,20}\Z"),
    payload=BYTES,
    content_type=st.sampled_from(["application/json", "text/plain", "x/ü"]),
    priority=st.sampled_from(Priority),
    delay_ms=st.just(0),
    attempt_timeout_ms=st.none() | st.integers(1, 2**53),
    expire_time_ms=st.none() | st.integers(2**42, 2**52),
    retry=RETRIES,
    labels=st.dictionaries(NASTY, NASTY, max_size=5),
    headers=st.dictionaries(NASTY, NASTY, max_size=5),
    retention_ms=st.integers(HOUR, 2**42),
)
FAILURES = st.builds(
    Failure,
    reason=st.sampled_from(["HANDLER_ERROR", "TIMEOUT", "BAD_PAYLOAD"]),
    error_type=NASTY,
    message=NASTY,
    stack_trace=NASTY,
    attempt=st.integers(0, 10**6),
)

through_the_store = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(SPECS)
def test_the_fingerprint_tells_requests_apart(spec: JobSpec) -> None:
    """The same request has the same fingerprint, whatever the order of its labels; the same labels elsewhere do not."""
    job = NewJob(spec=spec, request_id="r")
    turned = NewJob(spec=replace(spec, labels=dict(reversed(list(spec.labels.items())))), request_id="other")

    assert fingerprint(job) == fingerprint(turned)
    if spec.labels != spec.headers:
        swapped = replace(spec, labels=spec.headers, headers=spec.labels)
        assert fingerprint(job) != fingerprint(NewJob(spec=swapped))
    assert fingerprint(job) != fingerprint(NewJob(spec=replace(spec, payload=spec.payload + b"\0")))


def fingerprint(job: NewJob) -> bytes:
    """Returns the digest that is kept of a request."""
    return digest(job, encode_spec(job.spec))


@given(FAILURES, st.integers(0, 2**42))
def test_failures_survive(failure: Failure, time_ms: int) -> None:
    """A failure with any text is read back as it was, with the time that the store gave it."""
    packed = encode_failure(failure).encode()
    assert decode_failure(packed, time_ms=time_ms) == replace(failure, time_ms=time_ms)


@given(spec=SPECS, result=st.none() | BYTES)
@through_the_store
async def test_a_job_survives_its_life(broker: Broker, spec: JobSpec, result: bytes | None) -> None:
    """Random bytes and texts go through enqueue, claim, finish and get unchanged."""
    [answer] = await broker.enqueue([NewJob(spec=spec)])
    assert isinstance(answer, Enqueued)
    if spec.expire_time_ms is not None and spec.expire_time_ms <= answer.create_time_ms:
        return  # that one has expired before it could run
    [job] = (await claim(broker, queues=[spec.queue], token="t")).jobs
    await finish(broker, job.job_id, Succeeded(result=result, content_type="x/y"), token="t")

    kept = await broker.get(answer.job_id)

    assert job.job_id == kept.job_id == answer.job_id
    assert kept.spec == spec
    assert job.spec == replace(spec, expire_time_ms=None, retention_ms=JobSpec(type="").retention_ms)
    assert kept.result == result
    assert kept.result_content_type == ("" if result is None else "x/y")
    assert hashlib.sha256(kept.spec.payload).digest() == hashlib.sha256(spec.payload).digest()


@given(failure=FAILURES, retried=st.booleans())
@through_the_store
async def test_an_error_survives(broker: Broker, failure: Failure, retried: bool) -> None:  # noqa: FBT001
    """An error with any text is read back as it was; the history has the beginning of it, on one line."""
    [job] = await start(broker, new())
    outcome = Retried(delay_ms=HOUR, failure=failure) if retried else Failed(failure=failure)
    await finish(broker, job.job_id, outcome)

    kept = await broker.get(job.job_id)

    assert kept.failure is not None
    assert replace(kept.failure, time_ms=0) == failure
    assert kept.failure.time_ms == kept.history[-1].time_ms
    summary = f"{failure.error_type}: {failure.message}" if failure.error_type else failure.message
    assert kept.history[-1].detail == summary[:DETAIL].replace("\r", " ").replace("\n", " ")
    assert kept.history[-1].reason == failure.reason
    assert [step.version for step in kept.history] == [1, 2, 3]


@given(reason=NASTY)
@through_the_store
async def test_the_reason_of_a_discard_survives(broker: Broker, reason: str) -> None:
    """What a handler says as it discards a job stands in the history, on one line."""
    [job] = await start(broker, new())
    await finish(broker, job.job_id, Discarded(reason=reason))

    step = (await broker.get(job.job_id)).history[-1]

    assert (step.state, step.reason) == (State.CANCELLED, "DISCARDED")
    assert step.detail == reason[:DETAIL].replace("\r", " ").replace("\n", " ")


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
async def test_large_payloads_and_results_survive(store_broker: Broker, size: int) -> None:
    """Every byte value, up to a MiB of them, comes back."""
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    [job] = await start(store_broker, new("a", payload=data))
    await finish(store_broker, A, Succeeded(result=data))

    kept = await store_broker.get(A)
    assert job.spec.payload == kept.spec.payload == kept.result == data


def test_defaults_take_no_room() -> None:
    """A spec of defaults is packed as its type alone."""
    assert encode_spec(JobSpec(type="t")) == '{"type":"t"}'


@given(
    st.lists(
        st.tuples(st.sampled_from("sqpr+-cx"), st.integers(0, 2**42), st.integers(0, 99), st.sampled_from(["", "R"])),
        min_size=1,
        max_size=500,
    ),
    st.integers(0, 10**6),
)
def test_versions_are_counted_from_the_end(steps: list[tuple[str, int, int, str]], before: int) -> None:
    """A history that has lost its beginning still numbers its steps right."""
    text = "\n".join(f"{letter}{ms},{attempt},{reason}" for letter, ms, attempt, reason in steps)
    version = before + len(steps)

    history = decode_history(text, created=1_000, version=version)

    assert [step.version for step in history] == list(range(before + 1, version + 1))
    assert [(step.time_ms - 1_000, step.attempt, step.reason) for step in history] == [step[1:] for step in steps]
