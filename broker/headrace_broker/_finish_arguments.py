"""How an outcome is told to finish.lua."""

from __future__ import annotations

from headrace_broker._job_control import DETAIL
from headrace_broker.job import Failure, Reason
from headrace_broker.outcome import Discarded, Failed, Finish, Outcome, Released, Retried, Snoozed, Succeeded
from headrace_broker.record import encode_failure


def finish_arguments(finish: Finish) -> tuple[str | bytes | int, ...]:
    """Returns what finish.lua takes for one outcome."""
    kind, reason, detail, word, data = _outcome_arguments(finish.outcome)
    return finish.job_id, finish.token, kind, reason, detail[:DETAIL], word, data


def _outcome_arguments(outcome: Outcome) -> tuple[str, str, str, str | int, str | bytes]:
    match outcome:
        case Succeeded(result=None):
            return "succeeded", "", "", "", ""
        case Succeeded(result=result, content_type=content_type):
            return "succeeded", "", "", content_type, result or b""
        case Retried(delay_ms=delay_ms, failure=failure):
            return "retried", failure.reason, _summary(failure), delay_ms, encode_failure(failure)
        case Failed(failure=failure):
            return "failed", failure.reason, _summary(failure), "", encode_failure(failure)
        case Released():
            return "released", Reason.RELEASED.value, "", "", ""
        case Snoozed(delay_ms=delay_ms):
            return "snoozed", Reason.SNOOZED.value, "", delay_ms, ""
        case Discarded(reason=reason):
            return "discarded", Reason.DISCARDED.value, reason, "", ""


def _summary(failure: Failure) -> str:
    return f"{failure.error_type}: {failure.message}" if failure.error_type else failure.message
