"""What the numbers were measured on: they mean little without it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from bench.stage import fresh_stage

BUSY = 0.5
"""Load at the start above which other programs are in the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine at one time."""

    at: str
    headrace: str
    python: str
    processor: str
    cores: int
    store: str
    allocator: str
    load: float
    """One-minute load average before the first measurement."""

    @property
    def is_busy(self) -> bool:
        """Whether other programs will spoil the numbers."""
        return self.load > BUSY

    def in_words(self) -> str:
        """One sentence for the reader of the table."""
        busy = f", with a load of {self.load:.1f} from other programs" if self.is_busy else ""
        return (
            f"Measured {self.at[:10]} with headrace {self.headrace} on {self.cores} cores of {self.processor}{busy}; "
            f"Python {self.python}, {self.store} ({self.allocator})."
        )


def look() -> Machine:
    """Find out about this machine."""
    load = os.getloadavg()[0]
    with fresh_stage() as stage, stage.store as store:
        info = store.info()
        allocator = stage.programs[0].wait_for(r" allocator=(.+?) data=")[1]
    name, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    return Machine(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        headrace=metadata.version("headrace"),
        python=platform.python_version(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        store=f"{name} {version}",
        allocator=allocator,
        load=load,
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
