"""The shim slows exactly what it is told to slow, and shifts no other clock than the one it is told to shift."""

import json
import time
from pathlib import Path

import pytest

from harness.processes import Process, Spawn
from harness.shim import Shim, compiled

PROGRAM = """
import json, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
print("started", flush=True)
while True:
    before = time.monotonic()
    os.fsync(file)
    took = time.monotonic() - before
    print(json.dumps({"took": took, "wall": time.time(), "mono": time.monotonic()}), flush=True)
    time.sleep(0.01)
"""


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    """A shim that does nothing yet."""
    return Shim(library=compiled(tmp_path), control=tmp_path / "control")


@pytest.fixture
def program(shim: Shim, spawn: Spawn, tmp_path: Path) -> Process:
    """A process that tells again and again how long an fsync took, and what its clocks say."""
    process = spawn("python", "-c", PROGRAM, str(tmp_path / "file"), environment=shim.environment)
    process.wait_for_line("started")
    return process


def latest(process: Process) -> dict[str, float]:
    """Returns the second line from here on: what the program has begun after this call."""
    so_far = len(process.lines)
    process.wait_for_line(r"\{", after=so_far)
    while len(process.lines) < so_far + 2:
        process.wait_for_line(r"\{", after=so_far + 1)
    told: dict[str, float] = json.loads(process.lines[so_far + 1])
    return told


def test_a_slow_disk(shim: Shim, program: Process) -> None:
    """Each fsync takes that much longer, until the disk is mended: then the one that hangs is over, too."""
    shim.slow_disk(0.2)
    assert latest(program)["took"] >= 0.2

    shim.slow_disk(3_600)
    shim.slow_disk(0)
    assert latest(program)["took"] < 0.2


def test_a_wrong_clock(shim: Shim, program: Process) -> None:
    """The wall clock is off, the monotonic one is not; and it can be set right again."""
    shim.shift_clock(-600)
    told = latest(program)
    assert told["wall"] == pytest.approx(time.time() - 600, abs=5)
    assert told["mono"] == pytest.approx(time.monotonic(), abs=5)

    shim.shift_clock(0)
    assert latest(program)["wall"] == pytest.approx(time.time(), abs=5)
