"""A disk that stalls, and a machine that loses its power: for stores whose fsyncs go through disk.c."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.stores import Store

HAS_COMPILER = shutil.which("cc") is not None
_SOURCE = Path(__file__).with_name("disk.c")


class Disk:
    """What lies below a store's append-only file. Give `environment` to the store, and keep one disk for each."""

    def __init__(self, directory: Path) -> None:
        """Compiles the library that comes between; needs `cc` and Linux."""
        directory.mkdir(parents=True, exist_ok=True)
        self._stall = directory / "stall"
        self._synced = directory / "synced"
        library = directory / "disk.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
        self.environment = {
            "LD_PRELOAD": str(library), "DISK_STALL": str(self._stall), "DISK_SYNCED": str(self._synced)
        }  # fmt: skip

    def stall(self) -> None:
        """No fsync returns from now on."""
        self._stall.touch()

    def go_on(self) -> None:
        """They do again."""
        self._stall.unlink(missing_ok=True)

    def lose_power(self, store: Store) -> None:
        """Kills the store, and takes away what no fsync had confirmed. A kill alone leaves what the kernel has."""
        store.kill()
        self.go_on()
        kept = self._kept()
        for file in (store.data / "appendonlydir").glob("*.incr.aof"):
            size = kept.get(str(file), 0)
            assert size <= file.stat().st_size
            os.truncate(file, size)

    def holds_all(self, store: Store) -> bool:
        """Whether all that the store has written so far is on disk."""
        kept = self._kept()
        files = (store.data / "appendonlydir").glob("*.incr.aof")
        return all(kept.get(str(file), 0) == file.stat().st_size for file in files)

    def _kept(self) -> dict[str, int]:
        """Path → bytes of each file that are on disk."""
        if not self._synced.exists():
            return {}
        lines = (line.partition(" ") for line in self._synced.read_text().splitlines())
        return {path: int(size) for size, _, path in lines}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """See Disk."""
    one = Disk(tmp_path / "disk")
    yield one
    one.go_on()
