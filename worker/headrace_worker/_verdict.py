"""What a handler may say of its job in place of a result: Retry, Snooze, Discard."""

from __future__ import annotations

from headrace_worker._duration import Duration, milliseconds


class Verdict(Exception):
    """Base of Retry, Snooze and Discard.

    Return one from the handler, or raise it where a return would have to travel through several calls: both mean the
    same.
    """


class Retry(Verdict):
    """The attempt has failed; try again later. It counts: after the last attempt the job is dead-lettered.

    Args:
        after: seconds or timedelta until the next attempt, up to 365 days; by the job's retry policy when left out.
        reason: why, for people; it becomes the message of the job's failure.
    """

    def __init__(self, after: Duration | None = None, *, reason: str = "") -> None:
        super().__init__(reason)
        self.after_ms = None if after is None else milliseconds("Retry(after)", after)
        self.reason = reason


class Snooze(Verdict):
    """Not now: run this job again later. The attempt does not count.

    Args:
        after: seconds or timedelta until then, up to 365 days.
    """

    def __init__(self, after: Duration) -> None:
        super().__init__()
        self.after_ms = milliseconds("Snooze(after)", after)


class Discard(Verdict):
    """The job need not be done: it ends as CANCELLED, and is no dead letter.

    Args:
        reason: why, for people; it is kept in the job's history.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
