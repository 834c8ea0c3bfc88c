"""What producers ask for: a mix of every kind of job, drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace import NewJob, RetryPolicy

CANARY = "canary-3f9a7c"
"""Part of every payload; what the logs must never show."""
QUEUES = ("alpha", "beta")
SHARES = {
    "quick": 500, "sleeps": 150, "thread": 80, "process": 8, "blocks": 1, "flaky": 50, "retries": 40, "snoozes": 50,
    "discards": 40, "doomed": 25, "fatal": 20, "overruns": 15,
}  # fmt: skip
"""How often each type comes. Poison is not drawn: each such job costs four workers, so producers send a few by hand."""

GENTLE = ("quick", "sleeps", "thread", "process", "snoozes")
"""Types that succeed at their first attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One job, as it is asked for: sent again it is the same."""

    request_id: str
    type: str
    payload: dict[str, Any]
    variant: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def job(self) -> NewJob:
        """Returns what the client takes."""
        labels = {**self.labels, "rid": self.request_id, **({"variant": self.variant} if self.variant else {})}
        return NewJob(self.type, self.payload, request_id=self.request_id, labels=labels, **self.options)

    def forged(self, variant: str) -> Request:
        """Returns another job under the same request_id: to be refused, if this one was stored."""
        return replace(self, variant=variant, payload={**self.payload, "forged": variant})


def draw(rng: random.Random, request_id: str, *, kind: str = "") -> Request:
    """Returns a job of a type, or of any."""
    kind = kind or rng.choices(list(SHARES), list(SHARES.values()))[0]
    labels: dict[str, str] = {}
    options: dict[str, Any] = {
        "queue": rng.choice(QUEUES),
        "priority": rng.choices(("high", "normal", "low"), (1, 7, 2))[0],
    }
    payload: dict[str, Any] = {"canary": CANARY, "work_ms": _work_ms(rng, kind)}
    if rng.random() < 0.02:
        payload["filler"] = "x" * rng.randrange(1_000, 20_000)
    _policy(rng, kind, labels, options)
    _timing(rng, kind, labels, options)
    return Request(request_id=request_id, type=kind, payload=payload, labels=labels, options=options)


def _work_ms(rng: random.Random, kind: str) -> int:
    match kind:
        case "sleeps":
            return rng.choices((rng.randrange(5, 100), rng.randrange(1_200, 3_000)), (9, 1))[0]
        case "blocks":
            return rng.randrange(1_100, 1_800)
        case "thread":
            return rng.randrange(5, 300)
        case _:
            return rng.randrange(5, 60)


def _policy(rng: random.Random, kind: str, labels: dict[str, str], options: dict[str, Any]) -> None:
    match kind:
        case "flaky" | "doomed":
            backoff = rng.choice((0.05, 0.2, 0.5))
            attempts = 4 if kind == "flaky" else rng.choice((1, 2, 3))
            options["retry"] = RetryPolicy(max_attempts=attempts, initial_backoff=backoff, multiplier=1, jitter=0)
            labels["backoff_ms"] = str(round(backoff * 1_000))
        case "retries":
            labels["backoff_ms"] = "300"
        case "overruns":
            options["attempt_timeout"] = 0.3
            options["retry"] = RetryPolicy(max_attempts=2, initial_backoff=0.1, jitter=0)
            labels["backoff_ms"] = "100"


def _timing(rng: random.Random, kind: str, labels: dict[str, str], options: dict[str, Any]) -> None:
    chance = rng.random()
    if chance < 0.12:
        delay = rng.choice((rng.randrange(20, 400), rng.randrange(400, 4_000)))
        options["delay"] = delay / 1_000
        labels["delay_ms"] = str(delay)
    if kind != "poison" and rng.random() < 0.04:
        soon = rng.choice((0.3, 1.0, 3.0))
        options["expire_time"] = datetime.now(UTC) + timedelta(seconds=soon)


def draw_gentle(rng: random.Random, request_id: str) -> Request:
    """Returns a job that succeeds at its first attempt, however long it waits."""
    one = draw(rng, request_id, kind=rng.choice(GENTLE))
    return replace(one, options={name: value for name, value in one.options.items() if name != "expire_time"})
