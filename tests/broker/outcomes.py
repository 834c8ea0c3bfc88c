"""Every outcome of an attempt, and what finish makes of job A that was claimed once: its state, its event."""

from typing import Any

from broker.moves import BOOM
from broker.state import GONE, HERE, TIME, A, claimed, counted, record, streams
from headrace_broker import Discarded, Failed, Outcome, Released, Retried, Snoozed, Succeeded
from headrace_broker.job import HOUR, MINUTE

DONE = claimed(f"normal {GONE}")
"""What a claim leaves in the record of a job whose attempt is over."""
ERROR = {
    "reason": "HANDLER_ERROR",
    "type": "ValueError",
    "message": "boom",
    "trace": "Traceback",
    "attempt": 1,
}

OUTCOMES: dict[str, tuple[Outcome, dict[str, Any]]] = {
    "succeeded": (
        Succeeded(result=b'{"ok":true}'),
        {
            **counted(QUEUED=0, PROCESSING=0, SUCCEEDED=1),
            **streams(),
            f"job:{A}": record(
                "SUCCEEDED",
                "q",
                "p 1 - w1",
                "+ 1",
                **DONE,
                finished=TIME,
                result='{"ok":true}',
                result_type="application/json",
                ttl=True,
            ),
        },
    ),
    "succeeded without result": (
        Succeeded(),
        {
            **counted(QUEUED=0, PROCESSING=0, SUCCEEDED=1),
            **streams(),
            f"job:{A}": record("SUCCEEDED", "q", "p 1 - w1", "+ 1", **DONE, finished=TIME, ttl=True),
        },
    ),
    "retried": (
        Retried(delay_ms=HOUR, failure=BOOM),
        {
            **counted(QUEUED=0, PROCESSING=0, RETRYING=1),
            **streams(),
            "due:default": [A],
            f"job:{A}": record(
                "RETRYING",
                "q",
                "p 1 - w1",
                "r 1 HANDLER_ERROR ValueError: boom",
                **DONE,
                due=TIME,
                error=ERROR,
                errored=TIME,
            ),
        },
    ),
    "failed": (
        Failed(failure=BOOM),
        {
            **counted(QUEUED=0, PROCESSING=0, FAILED=1),
            **streams(),
            "dead:default": [A],
            f"job:{A}": record(
                "FAILED",
                "q",
                "p 1 - w1",
                "- 1 HANDLER_ERROR ValueError: boom",
                **DONE,
                finished=TIME,
                error=ERROR,
                errored=TIME,
            ),
        },
    ),
    "released": (
        Released(),
        {
            **counted(QUEUED=1, PROCESSING=0),
            **streams(high=[A]),
            f"job:{A}": record(
                "QUEUED", "q", "p 1 - w1", "q 0 RELEASED", **(DONE | {"attempt": "0", "entry": f"high {HERE}"})
            ),
        },
    ),
    "snoozed": (
        Snoozed(delay_ms=MINUTE),
        {
            **counted(QUEUED=0, PROCESSING=0, SCHEDULED=1),
            **streams(),
            "due:default": [A],
            f"job:{A}": record("SCHEDULED", "q", "p 1 - w1", "s 0 SNOOZED", **(DONE | {"attempt": "0"}), due=TIME),
        },
    ),
    "discarded": (
        Discarded(reason="too, old\nreally"),
        {
            **counted(QUEUED=0, PROCESSING=0, CANCELLED=1),
            **streams(),
            f"job:{A}": record(
                "CANCELLED", "q", "p 1 - w1", "c 1 DISCARDED too, old really", **DONE, finished=TIME, ttl=True
            ),
        },
    ),
}
EVENTS = {
    "succeeded": "3 SUCCEEDED 1 - -",
    "succeeded without result": "3 SUCCEEDED 1 - -",
    "retried": "3 RETRYING 1 HANDLER_ERROR ValueError: boom",
    "failed": "3 FAILED 1 HANDLER_ERROR ValueError: boom",
    "released": "3 QUEUED 0 RELEASED -",
    "snoozed": "3 SCHEDULED 0 SNOOZED -",
    "discarded": "3 CANCELLED 1 DISCARDED too, old really",
}
