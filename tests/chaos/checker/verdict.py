"""What the checker says: violations, each with the invariant that it breaks and the job that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from chaos.checker.history import History


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept. `job_id` is "" where it is about no job in particular."""

    invariant: str
    job_id: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.job_id or '-'}: {self.what}"


Check: TypeAlias = Callable[[History], Iterator[Violation]]
