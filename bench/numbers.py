"""What a measurement gives: a number for each repeat, and how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What design and promise ask of a number: at least, or at most."""

    bound: float
    at_least: bool = True

    def met_by(self, value: float) -> bool:
        """Whether the number keeps to the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One line of the table."""

    row: str
    """What was measured: "process", "pickup p99", …"""
    contender: str
    unit: str
    values: tuple[float, ...]
    """One for each repeat."""
    target: Target | None = None
    notes: dict[str, float] = field(default_factory=dict)
    """Counts to be read beside the number: done, lost, duplicated."""

    @property
    def median(self) -> float:
        """The number to quote."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Distance between the best and the worst repeat, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def throughput(times: Sequence[float], *, warm_up: float = 0.1) -> float:
    """Jobs a second over the runs that began at `times`, the first tenth left out as warm-up."""
    ordered = sorted(times)
    first = int(len(ordered) * warm_up)
    return (len(ordered) - 1 - first) / (ordered[-1] - ordered[first])
