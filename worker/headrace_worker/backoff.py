"""How long a failed job waits before it is tried again. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable

from headrace_broker import RetryPolicy


def delay_ms(policy: RetryPolicy, *, retry: int, draw: Callable[[], float] = random.random) -> int:
    """Returns the wait in milliseconds before retry number `retry`, which is 1 after the first failed attempt.

    The wait is `min(max_backoff, initial_backoff * multiplier ** (retry - 1))`, of which the share `jitter` is drawn
    at random: 0 gives exactly that wait, 1 anything from nothing to all of it. `draw` returns a number in [0, 1).
    """
    return round(ceiling_ms(policy, retry=retry) * (1.0 - policy.jitter * draw()))


def ceiling_ms(policy: RetryPolicy, *, retry: int) -> float:
    """Returns the longest wait that `delay_ms` can give. Never overflows, whatever the number of the retry."""
    if policy.initial_backoff_ms <= 0:
        return 0.0
    try:
        grown = policy.initial_backoff_ms * policy.multiplier ** (retry - 1)
    except OverflowError:
        return float(policy.max_backoff_ms)
    return min(float(policy.max_backoff_ms), grown)
