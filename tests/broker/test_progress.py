"""progress.lua and Broker.report_progress."""

import pytest

from broker.hearing import Hearing
from broker.moves import claim, corrupt, fingerprint, finish, lose, start
from broker.state import TIME, A, Dump, new, wipe
from headrace_broker import Broker, Progress, Succeeded


async def report(broker: Broker, fraction: float = 0.5, message: str = "half", *, token: str = "t1") -> bool:
    """Reports progress of job A."""
    return await broker.report_progress(A, token, fraction=fraction, message=message)


async def test_progress_is_recorded_and_published(store_broker: Broker, dump: Dump, heard: Hearing) -> None:
    """The latest progress stands in the record; it is no transition, so version and history stay."""
    await start(store_broker, new("a"))
    before = await dump()
    await heard.of(A)

    for _ in range(2):
        assert await report(store_broker)
        expected = before[f"job:{A}"] | {"progress": f"{TIME}|0.5|half"}
        assert await dump() == before | {f"job:{A}": expected}
    assert await report(store_broker, 1.0, "")

    assert await heard.events(A) == ["2 PROGRESS 1 0.5 half", "2 PROGRESS 1 0.5 half", "2 PROGRESS 1 1 -"]
    progress = (await store_broker.get(A)).progress
    assert progress is not None
    assert (progress.fraction, progress.message) == (1.0, "")
    assert (await heard.decoded(A))[-1] == progress


@pytest.mark.parametrize("message", ["", "a|b|c", "line\nline\r\nline", "\0", "🐢 é", "x" * 5_000])
async def test_any_message_comes_through(store_broker: Broker, heard: Hearing, message: str) -> None:
    """Any text is kept as it is in the record; the event has it on one line."""
    await start(store_broker, new("a"))
    await heard.of(A)

    await report(store_broker, 1 / 3, message)

    progress = (await store_broker.get(A)).progress
    assert progress is not None
    assert progress.message == message
    assert progress.fraction == pytest.approx(1 / 3, abs=1e-4)
    [event] = await heard.decoded(A)
    assert isinstance(event, Progress)
    assert event.message == message.replace("\r", " ").replace("\n", " ")


@pytest.mark.parametrize("why", ["stale token", "unknown", "waits", "finished", "reclaimed"])
async def test_a_lost_lease_reports_nothing(store_broker: Broker, dump: Dump, heard: Hearing, why: str) -> None:
    """Law 4: where the lease is not the caller's, the answer is False; nothing is recorded, nothing published."""
    if why == "waits":
        await store_broker.enqueue([new("a")])
    elif why != "unknown":
        await start(store_broker, new("a"))
    if why == "finished":
        await finish(store_broker, A, Succeeded())
    elif why == "reclaimed":
        await lose(store_broker, A)
        await claim(store_broker, worker="w2", token="t2")
    state = await dump()
    await heard.of(A)

    assert not await report(store_broker, token="t0" if why == "stale token" else "t1")

    assert await dump() == state
    assert await heard.events(A) == []


async def test_a_broken_record_takes_no_progress(store_broker: Broker) -> None:
    """The record that was overwritten is left as it is."""
    await start(store_broker, new("a"))
    await corrupt(store_broker, f"job:{A}")
    before = await fingerprint(store_broker)

    assert not await report(store_broker)

    assert await fingerprint(store_broker) == before
    await wipe(store_broker)
