"""Failures in the words that the record keeps: cut to size, valid as UTF-8, without this package's own frames."""

from __future__ import annotations

import traceback
from pathlib import Path

from headrace_broker import ClaimedJob, Failure, Reason

MAX_MESSAGE = 2_000
MAX_STACK_TRACE = 8_000
HERE = str(Path(__file__).parent)
"""Frames of files that begin like this are ours, not the user's."""


def failure(job: ClaimedJob, reason: Reason, message: str, *, error_type: str = "", stack_trace: str = "") -> Failure:
    """Returns the failure of this attempt of a job. Its time is the store's, set when it is written."""
    return Failure(
        reason=reason,
        error_type=clean(error_type, limit=200),
        message=clean(message, limit=MAX_MESSAGE),
        stack_trace=clean(stack_trace, limit=MAX_STACK_TRACE),
        attempt=job.attempt,
    )


def raised(job: ClaimedJob, error: BaseException) -> Failure:
    """Returns the failure of an attempt whose handler raised `error`."""
    return failure(
        job, Reason.HANDLER_ERROR, _text_of(error), error_type=_name_of(type(error)), stack_trace=_trace_of(error)
    )


def clean(text: str, *, limit: int) -> str:
    """Returns text that every store and contract takes: lone surrogates replaced, and no longer than `limit`."""
    return text[:limit].encode("utf-8", "replace").decode("utf-8")


def _name_of(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  an error that cannot even be printed is still the failure of its job
        return f"<{type(error).__name__} that cannot be printed>"


def _trace_of(error: BaseException) -> str:
    """Returns the end of the traceback, from the first frame of the user's code on."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(HERE):
        frame = frame.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, frame))
    except Exception:  # noqa: BLE001  as above: the failure counts, with or without its traceback
        return ""
    return text if len(text) <= MAX_STACK_TRACE else "…" + text[-MAX_STACK_TRACE + 1 :]
