"""What the nemesis is going to do: drawn from a seed, before anything starts. The same seed is the same plan."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CALM = 2.0
"""Seconds without faults at the start."""
PACE = 0.85
"""Seconds from one fault to the next, on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One fault: when it starts, in seconds from the start of the run; what it hits; how long it lasts."""

    at: float
    kind: str
    target: str
    seconds: float = 0.0
    amount: int = 0


Length = Callable[[random.Random], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of fault. `targets`: worker, server, store, any of the links between two of them, or all processes."""

    name: str
    targets: str
    weight: int
    shortest: float = 0.0
    longest: float = 0.0
    most: int = 0
    shim: bool = False
    """Whether it needs a C compiler."""


KINDS = (
    Kind(name="kill worker", targets="worker", weight=4, shortest=0, longest=1.5),
    Kind(name="kill server", targets="server", weight=3, shortest=0, longest=1.5),
    Kind(name="pause worker", targets="worker", weight=4, shortest=1.2, longest=3.5),
    Kind(name="pause server", targets="server", weight=2, shortest=0.3, longest=2.5),
    Kind(name="stop worker", targets="worker", weight=3, shortest=0, longest=0.5),
    Kind(name="stop server", targets="server", weight=2, shortest=0, longest=0.5),
    Kind(name="kill store", targets="store", weight=2, shortest=0, longest=2.5),
    Kind(name="pause store", targets="store", weight=2, shortest=0.5, longest=2.5),
    Kind(name="flush scripts", targets="store", weight=4),
    Kind(name="kill connections", targets="store", weight=3),
    Kind(name="destroy groups", targets="store", weight=2),
    Kind(name="slow disk", targets="store", weight=2, shortest=0.5, longest=2.0, most=1_500, shim=True),
    Kind(name="shift clock", targets="worker", weight=2, shortest=1.0, longest=4.0, most=1_200, shim=True),
    Kind(name="rolling restart", targets="all", weight=2),
    Kind(name="fill memory", targets="store", weight=2, shortest=0.5, longest=2.0),
    Kind(name="delay", targets="link", weight=3, shortest=0.5, longest=2.5, most=400),
    Kind(name="lose replies", targets="link", weight=5, shortest=0.2, longest=1.0),
    Kind(name="reset", targets="link", weight=5),
    Kind(name="swallow", targets="link", weight=4, shortest=0.5, longest=2.5),
    Kind(name="cut", targets="link", weight=5, shortest=0.3, longest=1.5, most=3_000),
)


def draw(
    *, seed: int, seconds: float, workers: int, servers: int, only: Sequence[str] = (), lacking: Sequence[str] = ()
) -> list[Planned]:
    """Returns the plan for a run of `seconds`, in the order of its times; of these kinds alone, where some are given,
    and without those that this machine lacks the means for.

    Kinds are dealt like cards, so that each comes in its turn, and as often as its weight says.
    """
    kinds = [kind for kind in KINDS if (not only or kind.name in only) and kind.name not in lacking]
    rng = random.Random(seed)
    names = {
        "worker": [f"worker-{n}" for n in range(workers)],
        "server": [f"server-{n}" for n in range(servers)],
        "store": ["store"],
        "all": ["all"],
    }
    names["link"] = [f"{one} to store" for one in names["worker"] + names["server"]]
    names["link"] += [f"clients to {one}" for one in names["server"]]
    plan: list[Planned] = []
    deck: list[Kind] = []
    at = CALM
    while at < seconds:
        deck = deck or _shuffled(rng, kinds)
        kind = deck.pop()
        plan.append(
            Planned(
                at=round(at, 3),
                kind=kind.name,
                target=rng.choice(names[kind.targets]),
                seconds=round(rng.uniform(kind.shortest, kind.longest), 3),
                amount=rng.randint(1, kind.most) if kind.most else 0,
            )
        )
        at += rng.uniform(0.3, 1.7) * PACE
    return plan


def _shuffled(rng: random.Random, kinds: Sequence[Kind]) -> list[Kind]:
    """Two of each kind first, then the rest by weight: even a short run meets every kind twice."""
    twice = [kind for kind in kinds for _ in range(2)]
    rest = [kind for kind in kinds for _ in range(kind.weight - 2)]
    rng.shuffle(twice)
    rng.shuffle(rest)
    return rest + twice
