"""Makes the disk of a process slow, or its wall clock wrong: a few lines of C, compiled here and preloaded into it."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

_SOURCE = Path(__file__).with_name("shim.c")


def compiler() -> str:
    """Returns the C compiler; "" where there is none, or nothing can be preloaded: then these faults are left out."""
    return (shutil.which("cc") or "") if sys.platform == "linux" else ""


def compiled(directory: Path) -> Path:
    """Compiles it into the directory; returns the library."""
    library = directory / "shim.so"
    subprocess.run(
        [compiler(), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(_SOURCE)], check=True
    )
    return library


class Shim:
    """What one process is told. `environment` is what it is to be started with."""

    def __init__(self, *, library: Path, control: Path) -> None:
        self._control = control
        self._fsync_ns = self._clock_ns = 0
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_SHIM": str(control)}
        self._write()

    def slow_disk(self, seconds: float) -> None:
        """Lets each fsync wait that much longer; 0 for none. Calls that wait already go on when it gets shorter."""
        self._fsync_ns = int(seconds * 1e9)
        self._write()

    def shift_clock(self, seconds: float) -> None:
        """Sets the wall clock off by that much; 0 for none."""
        self._clock_ns = int(seconds * 1e9)
        self._write()

    def _write(self) -> None:
        if not self._control.exists():
            self._control.write_bytes(bytes(16))
        with self._control.open("r+b") as file:
            file.write(struct.pack("qq", self._fsync_ns, self._clock_ns))
