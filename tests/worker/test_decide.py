"""What returns, exceptions and stops mean for a job."""

from datetime import timedelta

import pytest

from headrace_broker import Discarded, Failed, Reason, Released, Retried, Snoozed, Succeeded
from headrace_worker import Discard, Retry, Snooze, Verdict, _decide
from headrace_worker._run import Stop
from worker.make import claimed

LIMIT = 100


def raised(error: BaseException) -> BaseException:
    """The error, with a traceback."""
    try:
        raise error  # noqa: TRY301  to have it caught is the point
    except BaseException as caught:  # noqa: BLE001  any of them
        return caught


def test_a_returned_value_is_success():
    """The result travels with the outcome."""
    assert _decide.returned(claimed(), {"a": 1}, limit=LIMIT) == Succeeded(result=b'{"a":1}')


@pytest.mark.parametrize("value", [object(), "x" * LIMIT])
def test_a_bad_result_is_a_dead_letter_at_once(value):
    """The work is done, so it is not repeated for the sake of its result."""
    outcome = _decide.returned(claimed(), value, limit=LIMIT)
    assert isinstance(outcome, Failed)
    assert outcome.failure.reason == Reason.BAD_RESULT


def test_an_exception_is_retried_by_the_policy_until_the_attempts_are_used_up():
    """Two retries after 1 and 2 s, then the dead letter queue."""
    outcomes = [_decide.threw(claimed(attempt=n), raised(ValueError("no")), fatal=()) for n in (1, 2, 3)]
    assert [getattr(outcome, "delay_ms", None) for outcome in outcomes] == [1_000, 2_000, None]
    assert isinstance(outcomes[2], Failed)
    assert [outcome.failure.attempt for outcome in outcomes] == [1, 2, 3]
    assert outcomes[0].failure.reason == Reason.HANDLER_ERROR
    assert outcomes[0].failure.error_type == "ValueError"
    assert outcomes[0].failure.message == "no"
    assert outcomes[0].failure.stack_trace.endswith("ValueError: no\n")


def test_a_fatal_exception_is_a_dead_letter_at_once():
    """Subclasses count; others are retried."""
    assert isinstance(_decide.threw(claimed(), KeyError("x"), fatal=(LookupError,)), Failed)
    assert isinstance(_decide.threw(claimed(), ValueError("x"), fatal=(LookupError,)), Retried)


@pytest.mark.parametrize("way", [_decide.said, lambda job, verdict: _decide.returned(job, verdict, limit=LIMIT)])
def test_verdicts_mean_the_same_returned_or_raised(way):
    """Retry counts as an attempt, Snooze does not, Discard ends the job."""
    assert way(claimed(), Retry(after=5, reason="busy")).delay_ms == 5_000
    assert way(claimed(), Retry(reason="busy")).delay_ms == 1_000
    assert way(claimed(), Retry(reason="busy")).failure.message == "busy"
    assert isinstance(way(claimed(attempt=3), Retry(after=5)), Failed)
    assert way(claimed(attempt=3), Snooze(timedelta(minutes=1))) == Snoozed(delay_ms=60_000)
    assert way(claimed(), Discard("gone")) == Discarded(reason="gone")


def test_a_verdict_of_the_users_own_is_an_ordinary_failure():
    """Only the three have a meaning."""
    assert _decide.returned(claimed(), Verdict("?"), limit=LIMIT).failure.message == "?"


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), timedelta(days=366)])
def test_a_verdict_with_an_impossible_wait_is_refused(after):
    """The mistake is raised in the handler, where it is made."""
    for verdict in (Retry, Snooze):
        with pytest.raises(ValueError, match="it must be from 0 s to 365 days"):
            verdict(after)


def test_no_handler_is_retried_and_then_a_dead_letter():
    """A newer worker may know the type."""
    first, last = _decide.no_handler(claimed()), _decide.no_handler(claimed(attempt=3))
    assert isinstance(first, Retried)
    assert isinstance(last, Failed)
    assert last.failure.reason == Reason.NO_HANDLER
    assert "no handler for type 'a.type'" in last.failure.message


def test_an_undecodable_payload_is_a_dead_letter_at_once():
    """No later attempt could read it."""
    assert _decide.undecodable(claimed(), "why").failure.reason == Reason.BAD_PAYLOAD


@pytest.mark.parametrize(
    ("stop", "ended", "outcome"),
    [
        (Stop.LOST, Succeeded(), None),
        (Stop.SHUTDOWN, None, Released()),
        (Stop.SHUTDOWN, Succeeded(), Succeeded()),
        (Stop.FENCED, None, Released()),
        (Stop.FENCED, Snoozed(delay_ms=1), Snoozed(delay_ms=1)),
    ],
)
def test_a_stop_gives_the_job_back_unless_it_reached_its_end(stop, ended, outcome):
    """An outcome that was reached counts; for a lost lease nothing is written at all."""
    assert _decide.stopped(claimed(), stop, ended, limit_ms=None) == outcome


def test_an_error_during_a_shutdown_is_the_shutdowns():
    """The attempt is not burned by what the stop itself has caused."""
    error = _decide.threw(claimed(), ValueError("cancelled"), fatal=())
    assert _decide.stopped(claimed(), Stop.SHUTDOWN, error, limit_ms=None) == Released()


def test_a_timeout_is_a_failed_attempt_even_if_the_handler_returned_in_the_end():
    """Time is up is up; the message says after how long."""
    outcome = _decide.stopped(claimed(), Stop.TIMEOUT, Succeeded(), limit_ms=1_500)
    assert isinstance(outcome, Retried)
    assert (outcome.failure.reason, outcome.failure.message) == (Reason.TIMEOUT, "stopped after 1.5 s")


def test_texts_are_cut_to_the_limits_of_the_contract_and_valid_as_utf_8():
    """2,000 characters of message, 8,000 of traceback, no lone surrogates."""

    def deep(n: int) -> None:
        if n:
            exec(
                f"def step_{n}(): deep({n - 1})\nstep_{n}()", {"deep": deep}
            )  # no two frames alike, so none are folded
        raise ValueError("\ud800" + "x" * 5_000)

    try:
        deep(200)
    except ValueError as error:
        failure = _decide.threw(claimed(), error, fatal=()).failure
    assert len(failure.message) == 2_000
    assert len(failure.stack_trace) == 8_000
    assert failure.stack_trace.startswith("…")
    failure.message.encode()


def test_an_error_that_cannot_be_printed_is_still_a_failure():
    """Even then its type is told."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    failure = _decide.threw(claimed(), Mute(), fatal=()).failure
    assert failure.message == "<Mute that cannot be printed>"
    assert "Mute" in failure.error_type
