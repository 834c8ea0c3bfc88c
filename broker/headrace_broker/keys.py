"""The names of all keys and channels. No other module spells one, but for lua/_prelude.lua, which mirrors this one.

Every key begins with the hash tag of its shard, `{namespace:shard}:`, so that one script may touch all keys of a
shard on a cluster too.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from headrace_broker.job import Priority

GROUP = "workers"
ID_LENGTH = 26

_HASH_BYTES = 15  # 120 bits: 24 characters of base32; the last two of an id are the shard
_RFC4648 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TO_CROCKFORD = bytes.maketrans(_RFC4648, _CROCKFORD)
_DIGITS = _CROCKFORD.decode()

MAX_SHARDS = len(_DIGITS) ** 2
"""1,024: what two characters can name."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The keys of one shard."""

    namespace: str
    number: int

    @property
    def tag(self) -> str:
        """What every key of the shard begins with."""
        return f"{{{self.namespace}:{self.number}}}:"

    def queues(self) -> str:
        """Set: the queues that have ever had a job. KEYS[1] of every script."""
        return f"{self.tag}queues"

    def queue(self, queue: str) -> str:
        """Hash: counters per state, and what operators have set: that it is paused, and its settings."""
        return f"{self.tag}queue:{queue}"

    def rates(self, queue: str) -> str:
        """Hash: jobs that came, ended and failed in each of the latest spells of 10 s; expires when nothing happens."""
        return f"{self.tag}rates:{queue}"

    def job(self, job_id: str) -> str:
        """Hash: the record."""
        return f"{self.tag}job:{job_id}"

    def ready(self, queue: str, priority: Priority) -> str:
        """Stream: queued jobs, one entry `j <id>` each."""
        return f"{self.tag}ready:{queue}:{priority}"

    def due(self, queue: str) -> str:
        """Sorted set by due time in ms: scheduled and retrying jobs."""
        return f"{self.tag}due:{queue}"

    def expiring(self, queue: str) -> str:
        """Sorted set by expire time in ms: jobs that have one and have not ended."""
        return f"{self.tag}expiring:{queue}"

    def dead(self, queue: str) -> str:
        """Sorted set by time of failure in ms: the dead letter queue."""
        return f"{self.tag}dead:{queue}"

    def workers(self) -> str:
        """Sorted set by time of the latest heartbeat in ms: live workers."""
        return f"{self.tag}workers"

    def worker(self, worker: str) -> str:
        """Hash: what a worker says of itself."""
        return f"{self.tag}worker:{worker}"

    def pulse(self) -> str:
        """Hash: when leases were last looked at, and until when reclaiming is held."""
        return f"{self.tag}pulse"

    def repairs(self) -> str:
        """Hash: who goes through the shard to repair it, and what was repaired, by kind."""
        return f"{self.tag}repairs"

    def secret(self) -> str:
        """String: what page tokens are signed with."""
        return f"{self.tag}secret"

    def event(self, job_id: str) -> str:
        """Channel: the transitions of one job."""
        return f"{self.tag}event:{job_id}"

    def orders(self, worker: str) -> str:
        """Channel: what a worker is to look at now. One word and a job's id, such as `cancel <id>`; the record says."""
        return f"{self.tag}orders:{worker}"

    def wake(self) -> str:
        """Channel: a job came to the head of a schedule."""
        return f"{self.tag}wake"

    def paused(self) -> str:
        """Channel: a queue was paused or resumed."""
        return f"{self.tag}paused"


def job_id(request_id: str, *, shards: int) -> str:
    """Returns the id that belongs to a request: the same for the same request_id, random where there is none.

    The hash picks the shard as well, so a repeated request looks where the first one was stored. Raising the number
    of shards moves that place: a request repeated across the change is a new job.
    """
    digest = hashlib.sha256(request_id.encode()).digest() if request_id else secrets.token_bytes(_HASH_BYTES + 4)
    shard = int.from_bytes(digest[_HASH_BYTES : _HASH_BYTES + 4]) % shards
    name = base64.b32encode(digest[:_HASH_BYTES]).translate(_TO_CROCKFORD).decode()
    return name + _DIGITS[shard // 32] + _DIGITS[shard % 32]


def is_job_id(text: str) -> bool:
    """True for 26 characters of Crockford base32, upper case."""
    return len(text) == ID_LENGTH and all(c in _DIGITS for c in text)


def shard_of(identifier: str) -> int:
    """Returns the number of the shard that a job lives in."""
    return _DIGITS.index(identifier[-2]) * 32 + _DIGITS.index(identifier[-1])


def by_shard(job_ids: Iterable[str]) -> dict[int, list[int]]:
    """Returns for each shard the places in the sequence of the jobs that live there."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, job in enumerate(job_ids):
        places[shard_of(job)].append(place)
    return places


def new_token() -> str:
    """Returns a name for one claim: 128 random bits in 22 characters. Equality is all that it is good for."""
    return secrets.token_urlsafe(16)
