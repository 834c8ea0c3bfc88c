"""What the demo knows of its jobs: the events of their watches, added up."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from headrace import EventKind, JobState, StatusEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One event, as the display tells it."""

    after: float
    """Seconds since the demo's first job was enqueued."""
    name: str
    state: JobState
    text: str


@dataclass(slots=True, kw_only=True)
class Tally:
    """Grows with every event; `total` is the number of jobs that were enqueued."""

    total: int
    states: Counter[JobState] = field(default_factory=Counter)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By module: what its job returned."""
    retries: Counter[str] = field(default_factory=Counter)
    """By module: how often its job had to wait for another attempt."""
    latest: deque[Note] = field(default_factory=lambda: deque(maxlen=4))
    failures: deque[Note] = field(default_factory=lambda: deque(maxlen=5))
    _begun: float = field(default_factory=time.monotonic)
    _ended: float | None = None
    _state_of: dict[str, JobState] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return sum(count for state, count in self.states.items() if state.is_terminal)

    @property
    def elapsed(self) -> float:
        """Seconds from the first job's enqueue to now, or to the end of the last one."""
        return (time.monotonic() if self._ended is None else self._ended) - self._begun

    @property
    def rate(self) -> float:
        """Jobs done a second."""
        return self.done / self.elapsed

    def stored(self, name: str, state: JobState) -> None:
        """The job of this module was stored, in this state."""
        self._move(name, state)

    def take(self, name: str, event: StatusEvent) -> None:
        """Add one event of the watch of this module's job."""
        if event.kind is EventKind.PROGRESS:
            return
        self._move(name, event.state)
        self._note(name, event)
        if self.done == self.total:
            self._ended = time.monotonic()

    def _move(self, name: str, state: JobState) -> None:
        if (before := self._state_of.get(name)) is not None:
            self.states[before] -= 1
        self.states[state] += 1
        self._state_of[name] = state

    def _note(self, name: str, event: StatusEvent) -> None:
        note = Note(after=self.elapsed, name=name, state=event.state, text=f"attempt {event.attempt}: {event.detail}")
        match event.state:
            case JobState.RETRYING:
                self.retries[name] += 1
                self.failures.append(note)
            case JobState.FAILED:
                self.failures.append(note)
            case JobState.SUCCEEDED if event.job is not None:
                result = self.results[name] = event.job.result
                text = f"lines {result['lines']:,}, functions {result['functions']:,}, classes {result['classes']:,}"
                self.latest.append(Note(after=note.after, name=name, state=note.state, text=text))
