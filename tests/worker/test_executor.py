"""Run one job once, and decide: without a store, for the executor writes nothing."""

import asyncio
import threading
from typing import Any

import pytest

from headrace_broker import Broker, Failed, Outcome, Reason, Released, Retried, Succeeded
from headrace_worker import JobCancelled, Retry, Worker
from headrace_worker._child import Logs
from headrace_worker._executor import Executor
from headrace_worker._processes import Processes
from headrace_worker._run import Run, Stop
from worker.make import claimed


class Rig:
    """An executor for the handlers of a worker, and the runs it was given."""

    def __init__(self) -> None:
        self.worker = Worker(fatal=LookupError)
        self.executor = Executor(
            handlers=self.worker.handlers,
            broker=Broker(url="unix:///nowhere"),
            processes=Processes(size=1, logs=Logs(format="json", level="info"), limit=100),
            limit=100,
        )

    def start(self, **job: Any) -> Run:
        """Begins to run a job."""
        run = Run(job=claimed(**job), leased_until=0.0, on_timeout=lambda run: run.mark_stopped(Stop.TIMEOUT))
        run.task = asyncio.create_task(self.executor.execute(run))
        return run

    async def outcome(self, **job: Any) -> Outcome | None:
        """Runs a job to its end."""
        return await self.start(**job).task


@pytest.fixture
def rig():
    """See Rig."""
    one = Rig()
    yield one
    one.executor.close()


async def test_a_coroutine_a_thread_and_their_results(rig):
    """The same handler gives the same outcome on the loop and in a thread, and each runs where it should."""
    threads = []

    @rig.worker.handler("on.loop")
    async def on_loop(payload):
        threads.append(threading.current_thread())
        return payload

    @rig.worker.handler("in.thread")
    def in_thread(payload):
        threads.append(threading.current_thread())
        return payload

    for kind in ("on.loop", "in.thread"):
        assert await rig.outcome(type=kind) == Succeeded(result=b'{"n":1}')
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        JobCancelled(),
        ExceptionGroup("g", [OSError()]),
    ],
)
@pytest.mark.parametrize("on_loop", [True, False])
async def test_whatever_a_handler_raises_fails_its_attempt_alone(rig, error, on_loop):
    """Not even SystemExit takes the worker with it."""

    async def coroutine():
        raise error

    def function():
        raise error

    rig.worker.handler("raises")(coroutine if on_loop else function)
    outcome = await rig.outcome(type="raises")
    assert isinstance(outcome, Retried)
    assert outcome.failure.reason == Reason.HANDLER_ERROR
    assert outcome.failure.error_type.endswith(type(error).__name__)


async def test_fatal_exceptions_come_from_the_worker_and_from_the_handler(rig):
    """Both lists count."""

    @rig.worker.handler("fatal", fatal=OSError)
    async def fatal(payload):
        raise KeyError if payload["n"] == 1 else FileNotFoundError

    assert isinstance(await rig.outcome(type="fatal", payload=b'{"n":1}'), Failed)
    assert isinstance(await rig.outcome(type="fatal", payload=b'{"n":2}'), Failed)


async def test_a_raised_verdict_is_heard_through_the_callers(rig):
    """Retry, raised deep down, is no error."""

    @rig.worker.handler("deep")
    def deep():
        def deeper():
            raise Retry(after=7)

        deeper()

    assert (await rig.outcome(type="deep")).delay_ms == 7_000


async def test_an_undecodable_payload_never_reaches_the_handler(rig):
    """On the loop and in a thread alike."""

    async def coroutine(payload: int):
        pytest.fail("called")

    def function(payload: int):
        pytest.fail("called")

    rig.worker.handler("on.loop")(coroutine)
    rig.worker.handler("in.thread")(function)
    for kind in ("on.loop", "in.thread"):
        outcome = await rig.outcome(type=kind)
        assert isinstance(outcome, Failed)
        assert outcome.failure.reason == Reason.BAD_PAYLOAD
        assert outcome.failure.message == "the payload does not fit: payload: Input should be a valid integer"


async def test_a_handler_that_cancels_itself_has_failed(rig):
    """A CancelledError that nobody asked for is the handler's error, not the worker's end."""

    @rig.worker.handler("suicide")
    async def suicide():
        raise asyncio.CancelledError

    outcome = await rig.outcome(type="suicide")
    assert outcome.failure.error_type == "asyncio.exceptions.CancelledError"


async def test_a_cancelled_task_of_the_worker_stays_cancelled(rig):
    """Whoever cancels the task itself, and not the job, gets a cancelled task."""

    @rig.worker.handler("waits")
    async def waits():
        await asyncio.get_running_loop().create_future()

    run = rig.start(type="waits")
    await asyncio.wait([run.task], timeout=0.01)
    run.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run.task


@pytest.mark.parametrize(
    ("stop", "outcome"), [(Stop.SHUTDOWN, Released()), (Stop.LOST, None), (Stop.FENCED, Released())]
)
async def test_a_job_stopped_before_its_first_step_never_runs(rig, stop, outcome):
    """It is given back, or left alone where its lease is lost."""

    @rig.worker.handler("early")
    async def early():
        pytest.fail("called")

    run = rig.start(type="early")
    run.mark_stopped(stop)
    assert await run.task == outcome


async def test_after_a_stop_nothing_of_the_cancellation_stays_behind(rig):
    """The task that writes the outcome is no longer being cancelled, even if the handler swallowed it."""

    @rig.worker.handler("swallows")
    async def swallows():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return "done"

    run = rig.start(type="swallows")
    await asyncio.wait([run.task], timeout=0.01)
    run.mark_stopped(Stop.SHUTDOWN)
    run.interrupt()
    assert await run.task == Succeeded(result=b'"done"')
    assert run.task.cancelling() == 0
