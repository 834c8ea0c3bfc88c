"""Everything that can go wrong in the broker room, drawn as a tree.

BrokerError
├── JobNotFound          no such job: never stored, or its record has aged out
├── QueueNotFound        no such queue: it has never had a job, nor been set up
├── RequestIdReused      the request_id already stands for another job
├── WrongState           the job is not in a state in which this can be done
├── BadPageToken         the page token is not one of ours, or belongs to another query
├── DurabilityUnsupported  this store cannot keep a job as safely as was asked; nothing was written
├── DurabilityNotReached   the job is stored, but not confirmed as safely as was asked
├── StoreUnavailable     Valkey is down, loading, failing over, or busy: try again
│   └── StoreMoved       it has refused: another one is the primary of this shard now
├── StoreFull            Valkey is at its maxmemory: new work is refused, running work completes
└── StoreUnfit           Valkey answers, but must not be used as it is set up
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace_broker.job import Durability


class BrokerError(Exception):
    """Base of all errors that the broker raises on purpose."""


class JobNotFound(BrokerError):
    """No record of this job: it was never stored, or its retention has passed."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id}")
        self.job_id = job_id


class QueueNotFound(BrokerError):
    """No such queue: it has never had a job, nor been set up."""

    def __init__(self, queue: str) -> None:
        super().__init__(f"no queue {queue}")
        self.queue = queue


class RequestIdReused(BrokerError):
    """The request_id was used before, for a job that differs from this one."""

    def __init__(self, request_id: str, job_id: str) -> None:
        super().__init__(f"request_id {request_id!r} already stands for job {job_id}, which differs from this one")
        self.request_id = request_id
        self.job_id = job_id


class WrongState(BrokerError):
    """What was asked for cannot be done to a job in its state. Nothing was changed. `verb` as in «be cancelled»."""

    def __init__(self, job_id: str, state: str, verb: str) -> None:
        super().__init__(f"job {job_id} is {state}, and cannot be {verb}")
        self.job_id = job_id
        self.state = state
        self.verb = verb


class BadPageToken(BrokerError):
    """The page token was not made by this store, or was made for another query."""


class DurabilityUnsupported(BrokerError):
    """The store, as it is set up, does not offer this level of durability. Nothing was written."""

    def __init__(self, durability: Durability, why: str) -> None:
        super().__init__(f"{durability.upper()} cannot be had here: {why}")
        self.durability = durability
        self.why = why


class DurabilityNotReached(BrokerError):
    """The job is stored and may run, but nothing confirmed in time that it is as safe as was asked."""

    def __init__(self, job_id: str, durability: Durability, why: str) -> None:
        super().__init__(f"job {job_id} is stored, but not {durability.upper()}: {why}")
        self.job_id = job_id
        self.durability = durability
        self.why = why


class StoreUnavailable(BrokerError):
    """Valkey or Redis cannot answer now. Whether the call took effect is unknown; repeating it is safe."""


class StoreMoved(StoreUnavailable):
    """Valkey or Redis is not, or no longer, the primary of this shard: it has refused, and nothing was changed."""


class StoreFull(BrokerError):
    """Valkey or Redis is at its `maxmemory`. Of a call with several jobs, the first ones may be stored."""


class StoreUnfit(BrokerError):
    """Valkey or Redis is reachable, but its setup would lose jobs. The message says what to change."""
