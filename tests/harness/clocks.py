"""Processes whose wall clock is wrong, as on a host without NTP."""

import subprocess
from pathlib import Path
from typing import Protocol

import pytest

_SOURCE = Path(__file__).with_name("clock_shift.c")


class WrongClock(Protocol):
    """`wrong_clock(-600)`: the environment of a process whose wall clock is ten minutes slow. Needs `cc`."""

    def __call__(self, seconds: int) -> dict[str, str]:
        """For `spawn`."""
        ...


@pytest.fixture(scope="session")
def wrong_clock(tmp_path_factory: pytest.TempPathFactory) -> WrongClock:
    """See WrongClock."""
    library = tmp_path_factory.mktemp("clock") / "clock_shift.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)

    def environment(seconds: int) -> dict[str, str]:
        return {"LD_PRELOAD": str(library), "CLOCK_SHIFT_SECONDS": str(seconds)}

    return environment
