"""The plan of a chaos run: all of it comes from the seed."""

from collections import Counter

from chaos.nemesis import Nemesis
from chaos.plan import CALM, KINDS, draw


def test_the_same_seed_is_the_same_plan() -> None:
    """A run that found something can be planned again; another seed plans another one."""
    plans = [draw(seed=seed, seconds=60, workers=3, servers=2) for seed in (7, 7, 8)]

    assert plans[0] == plans[1]
    assert plans[0] != plans[2]


def test_every_kind_of_fault_comes_more_than_once_a_minute() -> None:
    """Whatever the seed: no kind is left to chance."""
    for seed in range(50):
        counts = Counter(planned.kind for planned in draw(seed=seed, seconds=60, workers=3, servers=2))
        assert {kind.name for kind in KINDS if counts[kind.name] < 2} == set(), f"seed {seed}"


def test_faults_stay_within_the_run() -> None:
    """They begin after the calm, in order, and before the end; none lasts so long that nothing could go on."""
    plan = draw(seed=1, seconds=30, workers=3, servers=2)

    times = [planned.at for planned in plan]
    assert times == sorted(times)
    assert CALM <= times[0] <= times[-1] < 30
    assert max(planned.seconds for planned in plan) <= 3.5


def test_a_plan_may_be_of_some_kinds_alone() -> None:
    """For a closer look at one of them; for a rolling restart under load."""
    plan = draw(seed=1, seconds=30, workers=3, servers=2, only=["stop worker", "stop server"])

    assert {planned.kind for planned in plan} == {"stop worker", "stop server"}


def test_the_nemesis_knows_every_kind() -> None:
    """No fault of the plan is left undone."""
    assert {kind.name for kind in KINDS} == set(Nemesis.KNOWN)
