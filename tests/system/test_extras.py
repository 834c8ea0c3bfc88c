"""What a person is told who has installed the client alone."""

import sys
from pathlib import Path

import pytest

from harness.processes import Spawn

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("package", ["headrace_server.__main__", "headrace_worker.__main__", "headrace_broker"])
def test_a_room_without_its_extra_says_what_to_install(package: str, spawn: Spawn) -> None:
    """Where redis and the like are not installed, the last line names the extras to install."""
    rooms = ":".join(str(_ROOT / room) for room in ("broker", "server", "worker"))
    process = spawn(sys.executable, "-S", "-c", f"import {package}", environment={"PYTHONPATH": rooms})
    assert process.wait() == 1
    assert process.lines[-1].startswith("ModuleNotFoundError: pydantic_settings, redis, structlog not installed")
    assert "pip install 'headrace[server]', 'headrace[worker]'" in process.lines[-1]
