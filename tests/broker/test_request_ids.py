"""What a request_id finds, whatever has become of its job."""

from collections.abc import Awaitable, Callable

import pytest

from broker.moves import BOOM, claim, finish, make_expired
from broker.state import A, new
from headrace_broker import (
    Broker,
    Discarded,
    Enqueued,
    Failed,
    Outcome,
    RequestIdReused,
    Retried,
    State,
    Succeeded,
)
from headrace_broker.job import HOUR

Move = Callable[[Broker], Awaitable[object]]


async def _waits(_broker: Broker) -> None:
    """Nothing has happened to it."""


def _ran(outcome: Outcome) -> Move:
    async def run(broker: Broker) -> None:
        await claim(broker)
        await finish(broker, A, outcome)

    return run


async def _expired(broker: Broker) -> None:
    await make_expired(broker, A)
    await broker.expire(shard=0, queues=["default"])


async def _trimmed(broker: Broker) -> None:
    await _ran(Failed(failure=BOOM))(broker)
    assert await broker.trim(shard=0, queues=["default"], retention_ms=-1) == 1


KEPT: dict[str, tuple[dict[str, int], Move, State, int]] = {
    "queued": ({}, _waits, State.QUEUED, 1),
    "scheduled": ({"delay_ms": HOUR}, _waits, State.SCHEDULED, 1),
    "running": ({}, claim, State.PROCESSING, 2),
    "retrying": ({}, _ran(Retried(delay_ms=HOUR, failure=BOOM)), State.RETRYING, 3),
    "succeeded": ({}, _ran(Succeeded()), State.SUCCEEDED, 3),
    "failed": ({}, _ran(Failed(failure=BOOM)), State.FAILED, 3),
    "discarded": ({}, _ran(Discarded(reason="no need")), State.CANCELLED, 3),
    "expired": ({"expire_time_ms": 4_000_000_000_000}, _expired, State.EXPIRED, 2),
}
GONE: dict[str, tuple[dict[str, int], Move]] = {
    "no retention": ({"retention_ms": 0}, _ran(Succeeded())),
    "trimmed": ({}, _trimmed),
}


@pytest.mark.parametrize("stage", KEPT)
async def test_a_request_id_is_taken_for_as_long_as_the_record_is_kept(store_broker: Broker, stage: str) -> None:
    """F03: the same request finds its job where it is by now; another one under the same request_id is refused; neither
    changes anything.
    """
    spec, move, state, version = KEPT[stage]
    await store_broker.enqueue([new("a", **spec)])
    await move(store_broker)
    before = await store_broker.get(A)

    [same, other] = await store_broker.enqueue([new("a", **spec), new("a", **spec, payload=b"another")])

    assert isinstance(same, Enqueued)
    assert (same.deduplicated, same.job_id, same.state, same.version) == (True, A, state, version)
    assert isinstance(other, RequestIdReused)
    assert await store_broker.get(A) == before


@pytest.mark.parametrize("payload", [b"{}", b"another"])
@pytest.mark.parametrize("stage", GONE)
async def test_a_request_id_is_free_again_when_the_record_is_gone(
    store_broker: Broker, eventually: Callable[..., Awaitable[object]], stage: str, payload: bytes
) -> None:
    """F03: the same request, or another, makes a new job then."""
    spec, move = GONE[stage]
    await store_broker.enqueue([new("a", **spec)])
    await move(store_broker)

    async def gone() -> bool:
        return not await store_broker.redis.exists(store_broker.shard(0).job(A))

    await eventually(gone)
    [answer] = await store_broker.enqueue([new("a", **spec, payload=payload)])
    assert isinstance(answer, Enqueued)
    assert (answer.deduplicated, answer.job_id, answer.state, answer.version) == (False, A, State.QUEUED, 1)
    assert (await store_broker.get(A)).spec.payload == payload
