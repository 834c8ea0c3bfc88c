"""Processes whose wall clock is wrong, as on a host without NTP."""

from typing import Protocol

import pytest

from harness.shim import Shim, compiled


class WrongClock(Protocol):
    """`wrong_clock(-600)`: the environment of a process whose wall clock is ten minutes slow. Needs `cc`."""

    def __call__(self, seconds: int) -> dict[str, str]:
        """For `spawn`."""
        ...


@pytest.fixture(scope="session")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> WrongClock:
    """See WrongClock."""
    place = tmp_path_factory.mktemp("clock")
    library = compiled(place)

    def environment(seconds: int) -> dict[str, str]:
        shim = Shim(library=library, control=place / f"{seconds} seconds")
        shim.shift_clock(seconds)
        return shim.environment

    return environment
