"""Group commit in the client: what goes out together, and who hears of it."""

import asyncio
from collections.abc import Sequence

import pytest

from headrace import DeadlineExceeded, HeadraceError, InvalidRequest, Unavailable
from headrace._coalesce import MAX_BYTES, MAX_ITEMS, Coalescer
from headrace.v1.job_service_pb2 import EnqueueRequest, EnqueueResponse

Answer = EnqueueResponse | HeadraceError


class Wire:
    """The seam: records each call, and answers when the test opens the gate."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.calls: list[list[str]] = []
        self.timeouts: list[float] = []
        self.gate = asyncio.Event()
        self.called = asyncio.Event()
        self.error: Exception | None = None
        if is_open:
            self.gate.set()

    async def send(self, requests: Sequence[EnqueueRequest], timeout: float) -> Sequence[Answer]:  # noqa: ASYNC109 - as gRPC
        """See _coalesce.Send."""
        self.calls.append([request.request_id for request in requests])
        self.timeouts.append(timeout)
        self.called.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [self._answer(request.request_id) for request in requests]

    def _answer(self, name: str) -> Answer:
        if name.startswith("away") and sum(name in call for call in self.calls) < 3:
            return Unavailable("its store is away", reason="STORE_UNAVAILABLE")
        return InvalidRequest(name) if name.startswith("bad") else EnqueueResponse(job_id=name)


def _request(name: str, *, size: int = 0) -> EnqueueRequest:
    request = EnqueueRequest(request_id=name)
    request.job.payload = b"x" * size
    return request


async def _submit(coalescer: Coalescer, name: str, *, within: float = 5.0, size: int = 0) -> str:
    return (await coalescer.submit(_request(name, size=size), within)).job_id


async def test_lone_request_goes_at_once_by_itself() -> None:
    """One after the other, each request is a call of its own."""
    wire = Wire()
    coalescer = Coalescer(send=wire.send)
    assert [await _submit(coalescer, name) for name in "abc"] == ["a", "b", "c"]
    assert wire.calls == [["a"], ["b"], ["c"]]


async def test_requests_gather_while_a_call_is_under_way() -> None:
    """What comes during a call goes out in the next one, in order, and each caller gets its own answer."""
    wire = Wire(is_open=False)
    coalescer = Coalescer(send=wire.send)
    first = asyncio.create_task(_submit(coalescer, "first"))
    await wire.called.wait()
    others = asyncio.gather(*(_submit(coalescer, f"n{n}") for n in range(50)))
    await asyncio.wait({others}, timeout=0.01)
    wire.gate.set()
    assert await first == "first"
    assert await others == [f"n{n}" for n in range(50)]
    assert wire.calls == [["first"], [f"n{n}" for n in range(50)]]


async def test_calls_stay_below_both_limits() -> None:
    """No call holds more than 1,000 requests or 3 MiB; a request that is larger goes alone."""
    wire = Wire()
    coalescer = Coalescer(send=wire.send)
    await asyncio.gather(*(_submit(coalescer, f"n{n}") for n in range(2_500)))
    assert [len(call) for call in wire.calls] == [MAX_ITEMS, MAX_ITEMS, 500]
    wire.calls.clear()
    third = MAX_BYTES // 3
    sizes = [third - 100, third - 100, third - 100, third, MAX_BYTES + 1, 10, 10]
    await asyncio.gather(*(_submit(coalescer, f"s{n}", size=size) for n, size in enumerate(sizes)))
    assert wire.calls == [["s0", "s1", "s2"], ["s3"], ["s4"], ["s5", "s6"]]


async def test_bad_request_harms_no_other() -> None:
    """An error of one request is raised in its caller alone."""
    wire = Wire()
    coalescer = Coalescer(send=wire.send)
    outcomes = await asyncio.gather(*(_submit(coalescer, name) for name in ("a", "bad", "c")), return_exceptions=True)
    assert (outcomes[0], outcomes[2]) == ("a", "c")
    assert isinstance(outcomes[1], InvalidRequest)


async def test_failed_call_is_told_to_each_of_its_callers() -> None:
    """An error of the call is raised in every caller, each its own object with the same cause; the next call works."""
    wire = Wire()
    wire.error = Unavailable("gone")
    wire.error.__cause__ = cause = OSError("refused")
    coalescer = Coalescer(send=wire.send)
    outcomes = await asyncio.gather(*(_submit(coalescer, name) for name in "abc"), return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert [str(error) for error in errors] == ["gone"] * 3
    assert len({id(error) for error in errors}) == 3
    assert all(error.__cause__ is cause for error in errors)
    wire.error = None
    assert await _submit(coalescer, "d") == "d"


async def test_no_caller_waits_beyond_its_deadline_behind_a_stuck_call() -> None:
    """A request that waits for its turn ends at its own deadline, and is then not sent any more."""
    wire = Wire(is_open=False)
    coalescer = Coalescer(send=wire.send)
    stuck = asyncio.create_task(_submit(coalescer, "stuck"))
    await wire.called.wait()
    late = asyncio.create_task(_submit(coalescer, "late", within=0.05))
    with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
        await late
    wire.gate.set()
    assert await stuck == "stuck"
    assert wire.calls == [["stuck"]]


async def test_call_has_the_longest_deadline_of_its_requests() -> None:
    """Nobody's answer is cut off by the shorter patience of another."""
    wire = Wire(is_open=False)
    coalescer = Coalescer(send=wire.send)
    tasks = [asyncio.create_task(_submit(coalescer, f"{within}", within=within)) for within in (1.0, 30.0, 2.0)]
    await wire.called.wait()
    wire.gate.set()
    await asyncio.gather(*tasks)
    assert 29 < wire.timeouts[0] <= 30


async def test_cancelled_caller_is_not_sent_and_harms_no_other() -> None:
    """A caller that is cancelled while it waits is left out of the next call."""
    wire = Wire(is_open=False)
    coalescer = Coalescer(send=wire.send)
    first = asyncio.create_task(_submit(coalescer, "first"))
    await wire.called.wait()
    gone, kept = (asyncio.create_task(_submit(coalescer, name)) for name in ("gone", "kept"))
    await asyncio.wait({gone, kept}, timeout=0.01)
    gone.cancel()
    wire.gate.set()
    assert (await first, await kept) == ("first", "kept")
    assert gone.cancelled() or gone.cancelling()
    assert wire.calls == [["first"], ["kept"]]


async def test_close_waits_for_what_was_submitted() -> None:
    """`aclose` returns when every request has its answer, and may be called again."""
    wire = Wire(is_open=False)
    coalescer = Coalescer(send=wire.send)
    first = asyncio.create_task(_submit(coalescer, "a"))
    await wire.called.wait()
    second = asyncio.create_task(_submit(coalescer, "b"))
    closing = asyncio.create_task(coalescer.aclose())
    await asyncio.wait({closing}, timeout=0.01)
    assert not closing.done()
    wire.gate.set()
    await closing
    assert wire.calls == [["a"], ["b"]]
    assert await asyncio.gather(first, second) == ["a", "b"]
    await coalescer.aclose()


async def test_an_item_whose_store_is_away_is_sent_again_and_holds_up_no_other() -> None:
    """One primary of several is down: its jobs are sent again after a pause, the others are answered at once. Closing
    waits for them.
    """
    wire = Wire(is_open=False)
    coalescer = Coalescer(send=wire.send)
    first = asyncio.create_task(_submit(coalescer, "first"))
    await wire.called.wait()
    away = asyncio.create_task(_submit(coalescer, "away"))
    other = asyncio.create_task(_submit(coalescer, "other"))
    await asyncio.wait({away}, timeout=0.01)
    wire.gate.set()
    assert [await first, await other] == ["first", "other"]
    assert not away.done()
    await coalescer.aclose()
    assert await away == "away"
    assert wire.calls == [["first"], ["away", "other"], ["away"], ["away"]]
