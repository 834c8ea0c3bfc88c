"""How many acknowledged jobs a crash of the store loses, setting by setting: `make loss`, or `python -m bench.loss`.

Each row is a run of its own: a real Valkey, a real server, a hundred producers over gRPC, and in the middle of it a
crash. Then the store comes back, or its replica takes over, and every job whose producer had an answer is looked up.

A *kill* is SIGKILL of the store alone: the kernel still writes down what it has. *Power* takes away what no fsync had
confirmed, too: the append-only file is cut back to its size at the last one. The disk *stalls* when fsyncs do not
return; both go through tests/harness/disk.c, which LD_PRELOAD puts between the store and its disk, and which needs cc.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.disk import HAS_COMPILER, Disk
from harness.pairs import Pair
from harness.processes import Process, start
from harness.stores import Store
from headrace import AsyncClient, HeadraceError, Unavailable
from headrace_broker import Broker

BEFORE = 1.5
"""Seconds of load before a fault begins."""
PRODUCERS = 100
PAYLOAD = {"note": "x" * 100}
NO_AOF = ("--appendonly", "no")
EVERYSEC = ("--appendfsync", "everysec")
ALWAYS = ("--appendfsync", "always")
COLUMNS = ("the store", "the crash", "`durability`", "acknowledged", "lost", "not confirmed")
_MARKS = re.compile(r"(<!-- loss: begin -->\n).*(<!-- loss: end -->)", re.DOTALL)

console = Console()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row: how the store is set, what happens to it, and what the producers ask for."""

    store: str
    crash: str
    options: tuple[str, ...] = EVERYSEC
    durability: str = "accepted"
    stalls: float = 0.0
    """Seconds that the disk stalls before the crash; for a pair, that nothing comes through to the replica."""
    power: bool = False
    pair: bool = False


STALLED = "disk stalls 3 s, then"
DEAD_LINK = "1 s without the replica, then a kill, and the replica takes over"
CASES = (
    Case(store="no persistence", crash="kill", options=NO_AOF),
    Case(store="`everysec`", crash="kill"),
    Case(store="`everysec`", crash="power", power=True),
    Case(store="`everysec`", crash=f"{STALLED} kill", stalls=3),
    Case(store="`everysec`", crash=f"{STALLED} power", stalls=3, power=True),
    Case(store="`always`", crash="kill", options=ALWAYS),
    Case(store="`always`", crash="power", options=ALWAYS, power=True),
    Case(store="`always`", crash=f"{STALLED} power", options=ALWAYS, stalls=3, power=True),
    Case(store="`always`", crash=f"{STALLED} power", options=ALWAYS, stalls=3, power=True, durability="fsynced"),
    Case(store="`everysec`, a replica", crash=DEAD_LINK, stalls=1, pair=True),
    Case(store="`everysec`, a replica", crash=DEAD_LINK, stalls=1, pair=True, durability="replicated"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a run has shown."""

    case: Case
    acknowledged: int
    lost: int
    unconfirmed: int
    """Calls that were told DURABILITY_NOT_REACHED."""

    def cells(self) -> tuple[str, ...]:
        """The row as texts, in the order of COLUMNS."""
        numbers = (self.acknowledged, self.lost, self.unconfirmed)
        return (self.case.store, self.case.crash, self.case.durability, *(f"{number:,}" for number in numbers))


class Producers:
    """A hundred callers of one client, each with one call at a time, and what they were told."""

    def __init__(self, client: AsyncClient, durability: str) -> None:
        self._client = client
        self._durability = durability
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.acknowledged: list[str] = []
        self.unconfirmed = 0

    def begin(self) -> None:
        """Starts them."""
        self._tasks = [asyncio.create_task(self._produce(), name=f"producer-{n}") for n in range(PRODUCERS)]

    async def end(self) -> None:
        """Returns when each has had the answer to its last call."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _produce(self) -> None:
        while not self._stopping:
            try:
                job = await self._client.enqueue("loss.measured", PAYLOAD, durability=self._durability)
            except Unavailable as error:
                self.unconfirmed += error.reason == "DURABILITY_NOT_REACHED"
            except HeadraceError:
                continue  # no answer that counts: the store is gone
            else:
                self.acknowledged.append(job.job_id)


async def measure(case: Case, directory: Path) -> Row:
    """Runs one case in a directory of its own."""
    async with AsyncExitStack() as stack:
        scene = await (_pair(case, directory, stack) if case.pair else _single(case, directory, stack))
        server = _server(scene.url, stack)
        client = await stack.enter_async_context(AsyncClient(server, timeout=3))
        producers = Producers(client, case.durability)
        producers.begin()
        await asyncio.sleep(BEFORE)
        if case.stalls:
            scene.disturb()
            await asyncio.sleep(case.stalls)
        scene.crash()
        acknowledged = list(producers.acknowledged)  # calls that the client repeats now find the store that comes back
        url = await scene.recover()
        await producers.end()
        lost = len(acknowledged) - await _kept(url, acknowledged)
        return Row(case=case, acknowledged=len(acknowledged), lost=lost, unconfirmed=producers.unconfirmed)


class _Single:
    """A store and its disk."""

    def __init__(self, store: Store, disk: Disk, *, power: bool) -> None:
        self.url = store.url
        self._store = store
        self._disk = disk
        self._power = power

    def disturb(self) -> None:
        self._disk.stall()

    def crash(self) -> None:
        if self._power:
            self._disk.lose_power(self._store)
        else:
            self._store.kill()
            self._disk.go_on()

    async def recover(self) -> str:
        await asyncio.to_thread(self._store.start_again)
        return self.url


class _Pair:
    """A primary and its replica."""

    def __init__(self, pair: Pair) -> None:
        self.url = pair.primary.url
        self._pair = pair

    def disturb(self) -> None:
        self._pair.link.mode.swallow = True

    def crash(self) -> None:
        self._pair.primary.kill()

    async def recover(self) -> str:
        return await self._pair.fail_over()


async def _single(case: Case, directory: Path, stack: AsyncExitStack) -> _Single:
    disk = Disk(directory / "disk")
    store = await asyncio.to_thread(
        lambda: Store(data=directory / "store", options=case.options, environment=disk.environment)
    )
    stack.callback(store.close)
    stack.callback(disk.go_on)
    return _Single(store, disk, power=case.power)


async def _pair(case: Case, directory: Path, stack: AsyncExitStack) -> _Pair:
    pair = Pair(directory=directory, options=case.options)
    await pair.begin(stack)
    return _Pair(pair)


def _server(url: str, stack: AsyncExitStack) -> str:
    """Starts a server; returns its address."""
    settings = {"REDIS_URL": url, "LISTEN": "127.0.0.1:0", "DURABILITY_TIMEOUT_MS": "500", "LOG_FORMAT": "json"}
    environment = {f"HEADRACE_{name}": value for name, value in settings.items()}
    process: Process = start("python", "-m", "headrace_server", environment=environment)
    stack.callback(process.close)
    port = process.wait_for_line(r'"port": (\d+)', within=20)[1]
    return f"127.0.0.1:{port}"


async def _kept(url: str, job_ids: Sequence[str]) -> int:
    """How many of these jobs the store has."""
    found = 0
    async with Broker(url=url) as broker:
        job_key = broker.shard(0).job
        for first in range(0, len(job_ids), 1_000):
            found += await broker.redis.exists(*(job_key(one) for one in job_ids[first : first + 1_000]))
    return found


def main() -> int:
    """Reads the command line, measures, prints the table. The exit code is 1 where a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.loss", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="WORD", help="only the rows that have this word in them")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also put the table between the marks in FILE")
    options = parser.parse_args()
    if not HAS_COMPILER or sys.platform != "linux":
        console.print(
            "Nothing is measured: making a disk slow, and cutting its power, needs Linux and a C compiler, cc."
        )
        return 2
    if options.write and not _MARKS.search(options.write.read_text()):
        parser.error(f"--write {options.write}: it has no <!-- loss: begin --> and <!-- loss: end -->")
    begun = time.monotonic()
    rows = asyncio.run(_measure_all(options.only))
    _print(rows)
    console.print(f"measured in {time.monotonic() - begun:.0f} s")
    if options.write:
        text = options.write.read_text()
        options.write.write_text(_MARKS.sub(lambda found: found[1] + _markdown(rows) + found[2], text))
    return 1 if any(row.lost and _promised(row.case) for row in rows) else 0


async def _measure_all(word: str) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory(prefix="headrace-loss-") as directory:
        for number, case in enumerate(CASES):
            if word in f"{case.store} {case.crash} {case.durability}":
                console.print(f"{case.store}, {case.durability}: {case.crash}", highlight=False)
                rows.append(await measure(case, Path(directory) / str(number)))
    return rows


def _promised(case: Case) -> bool:
    """Whether nothing may be lost."""
    return case.options == ALWAYS or case.durability != "accepted"


def _print(rows: Sequence[Row]) -> None:
    table = Table(*(column.strip("`") for column in COLUMNS))
    for row in rows:
        table.add_row(*(cell.replace("`", "") for cell in row.cells()))
    console.print(table)


def _markdown(rows: Sequence[Row]) -> str:
    lines = [COLUMNS, ("---",) * 3 + ("---:",) * 3, *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
