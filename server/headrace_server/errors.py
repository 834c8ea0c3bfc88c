"""What can go wrong in the server room itself; status.py says how each of them is told to a client.

Refused                  one call is answered with an error
├── InvalidRequest   fields that break the contract
├── Malformed        bytes that are not the message they should be
├── VersionAhead     after_version is greater than the job's version
├── HistoryRewound   what a watcher was told has never happened: a failover lost it
├── HistoryTrimmed   after_version is older than what the record still remembers
├── TooManyWatchers  the quota of watchers is used up
├── NoSuchMethod     there is no such method
├── TookTooLong      the call was not answered within the server's own limit
└── GoingAway        the server is about to end
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace_server._violations import Violation


class Refused(Exception):
    """A call that is answered with an error. The message may be shown to the client."""


class InvalidRequest(Refused):
    """The request breaks the contract at one or more of its fields."""

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__("; ".join(f"{one.field}: {one.description}" for one in violations))
        self.violations = violations


class Malformed(Refused):
    """The bytes of the request are not the message that the method takes."""

    def __init__(self, message_name: str) -> None:
        super().__init__(f"the request is not a valid {message_name}")


class VersionAhead(Refused):
    """A watcher wants to resume after a version that the job has not reached."""

    def __init__(self, *, after_version: int, version: int) -> None:
        super().__init__(
            f"after_version {after_version} is greater than the job's version, {version}; "
            "leave after_version out to start with a snapshot"
        )


class HistoryRewound(Refused):
    """A failover has set the record back, and the job went on differently than a watcher was told."""

    def __init__(self, *, after_version: int) -> None:
        super().__init__(
            f"version {after_version} is not the one that was told: the store has lost it, and the job went on from an "
            "earlier one; leave after_version out to start with a snapshot"
        )


class HistoryTrimmed(Refused):
    """A watcher wants transitions that the record no longer remembers."""

    def __init__(self, *, after_version: int, oldest: int) -> None:
        super().__init__(
            f"the transitions after version {after_version} are no longer kept, the oldest is version {oldest}; "
            "leave after_version out to start with a snapshot"
        )


class TooManyWatchers(Refused):
    """All seats for watchers are taken."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"this server already serves {limit} watchers, its limit; try again later")


class NoSuchMethod(Refused):
    """No service of this server has that method."""

    def __init__(self) -> None:
        super().__init__("this server has no such method")


class TookTooLong(Refused):
    """The server's own limit for a unary call has passed. Whether the call took effect is unknown."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the call was not answered within {seconds:g} s")


class GoingAway(Refused):
    """The server is about to end and closes the streams that are still open."""

    def __init__(self) -> None:
        super().__init__("the server is going away; call again")
