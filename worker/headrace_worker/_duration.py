"""Durations as people write them: seconds, or a timedelta."""

from __future__ import annotations

import math
from datetime import timedelta

Duration = float | timedelta
"""Seconds as a number, or a timedelta."""

YEAR = timedelta(days=365)


def milliseconds(name: str, value: Duration, *, least: timedelta = timedelta(0), most: timedelta = YEAR) -> int:
    """Returns a duration in whole milliseconds, rounded up. `name` is what the errors call it.

    Raises:
        TypeError: it is neither a number nor a timedelta.
        ValueError: it is not finite, or outside of `least` and `most`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise TypeError(f"{name} must be a number of seconds or a timedelta, not {type(value).__name__}")
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not least.total_seconds() <= seconds <= most.total_seconds():
        raise ValueError(f"{name} is {seconds} s: it must be from {least.total_seconds():g} s to {most}")
    return math.ceil(seconds * 1000 - 1e-6)
