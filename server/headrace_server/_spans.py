"""Durations and moments of the contract as whole milliseconds, and the ranges that they must keep.

A part of a millisecond is rounded up, so that nothing runs too early and nothing is stopped too soon.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from headrace_broker.job import DAY, HOUR

if TYPE_CHECKING:
    from headrace_server._violations import Violations

_NANOS_PER_MS = 1_000_000
_NANOS_PER_S = 1_000_000_000
_MAX_SECONDS = 315_576_000_000  # what google.protobuf.Duration allows, either way
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799  # years 1 to 9999, what Timestamp allows

YEAR = 365 * DAY
MAX_EXPIRY_MS = 10 * YEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The range of a duration, in ms, and how a person says it."""

    low: int
    high: int
    words: str


DELAY = Span(low=0, high=YEAR, words="0 to 1 year (31536000s)")
ATTEMPT_TIMEOUT = Span(low=1, high=7 * DAY, words="1 ms (0.001s) to 7 days (604800s)")
RETENTION = Span(low=0, high=YEAR, words="0 to 365 days (31536000s)")
INITIAL_BACKOFF = Span(low=0, high=24 * HOUR, words="0 to 24 hours (86400s)")
MAX_BACKOFF = Span(low=0, high=30 * DAY, words="0 to 30 days (2592000s)")


def duration_ms(duration: Duration, field: str, span: Span, bad: Violations) -> int:
    """The duration in ms, at least `span.low`. One that is malformed or out of the span is noted in `bad`."""
    seconds, nanos = duration.seconds, duration.nanos
    mixed = (seconds > 0 > nanos) or (seconds < 0 < nanos)
    if abs(seconds) > _MAX_SECONDS or abs(nanos) >= _NANOS_PER_S or mixed:
        bad.add(field, f"must be a valid duration; got {seconds} seconds and {nanos} nanos")
        return span.low
    total = seconds * _NANOS_PER_S + nanos
    if not span.low * _NANOS_PER_MS <= total <= span.high * _NANOS_PER_MS:
        bad.add(field, f"must be {span.words}; got {_decimal(total)}s")
        return span.low
    return -(-total // _NANOS_PER_MS)


def moment_ms(moment: Timestamp, field: str, bad: Violations) -> int | None:
    """The moment in ms since the epoch. One that is malformed is noted in `bad`, and None is returned."""
    if not _valid(moment):
        bad.add(field, f"must be a valid timestamp; got {told(moment)}")
        return None
    return moment.seconds * 1_000 - (-moment.nanos // _NANOS_PER_MS)


def told(moment: Timestamp) -> str:
    """The moment as a person reads it: RFC 3339, or its bare numbers where it is malformed."""
    if not _valid(moment):
        return f"{moment.seconds} seconds and {moment.nanos} nanos"
    whole = datetime.fromtimestamp(moment.seconds, UTC).replace(tzinfo=None)
    return f"{whole.isoformat()}Z"


def duration(ms: int) -> Duration:
    """`ms` milliseconds as the contract says it."""
    return Duration(seconds=ms // 1_000, nanos=ms % 1_000 * _NANOS_PER_MS)


def moment(ms: int) -> Timestamp:
    """`ms` milliseconds since the epoch as the contract says it."""
    return Timestamp(seconds=ms // 1_000, nanos=ms % 1_000 * _NANOS_PER_MS)


def _valid(moment: Timestamp) -> bool:
    return _FIRST_SECOND <= moment.seconds <= _LAST_SECOND and 0 <= moment.nanos < _NANOS_PER_S


def _decimal(nanos: int) -> str:
    sign = "-" if nanos < 0 else ""
    seconds, rest = divmod(abs(nanos), _NANOS_PER_S)
    return f"{sign}{seconds}.{rest:09}".rstrip("0").rstrip(".")
