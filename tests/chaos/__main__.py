"""One chaos run: start everything, hurt it by plan, heal it, wait until it is quiet, and judge what happened.

`make chaos` runs this for a minute, `make soak` for longer. The same seed makes the same plan of faults; what they meet
differs from run to run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from chaos import leaks, plan, scan
from chaos.checker import check
from chaos.checker.history import read
from chaos.nemesis import Nemesis
from chaos.report import show
from chaos.stage import LEASE, Stage
from chaos.witness import Witness
from harness.shim import compiler

SECONDS = 60.0
CALM_LEASE = 10.0
"""Seconds of a lease where nothing may run twice, though the machine be slow at times."""
STANDSTILL = 40.0
"""Seconds in which the backlog must get smaller, after everything is healed and the last round of jobs is sent."""
LOAD_PATIENCE = 240.0

console = Console(stderr=False)


def main() -> int:
    """Reads the command line, runs, prints the table; the exit code is 1 where a promise was broken."""
    options = _options()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    directory = Path(tempfile.mkdtemp(prefix=f"headrace-chaos-{seed}-"))
    console.print(f"seed {seed}, {options.seconds:g} s, files in {directory}", soft_wrap=True, highlight=False)
    asyncio.run(run(options, seed, directory))
    history = read(directory)
    violations = check(history)
    show(history, violations, console)
    if (violations or options.keep) and not options.discard:
        console.print(f"the files are kept in {directory}", soft_wrap=True, highlight=False)
    else:
        shutil.rmtree(directory)
    if violations:
        console.print(f"the same plan again: {_again(options, seed)}", soft_wrap=True, highlight=False, markup=False)
    return 1 if violations else 0


def _again(options: argparse.Namespace, seed: int) -> str:
    if options.rolling:
        return f"make rolling TIMES={options.rolling} SEED={seed}"
    only = " ".join(f"--only '{kind}'" for kind in options.only)
    words = [f"--seconds {options.seconds:g}" if options.seconds != SECONDS else "", only]
    more = " ".join(filter(None, [*words, "--calm" if options.calm else ""]))
    return f"make chaos SEED={seed}" + (f' ARGS="{more}"' if more else "")


async def run(options: argparse.Namespace, seed: int, directory: Path) -> None:
    """The run itself. Leaves its files in the directory."""
    machines = {"workers": options.workers, "servers": options.servers}
    lease = CALM_LEASE if options.calm or options.rolling else LEASE
    faults = _plan(options, seed)
    names = {"lease": lease, "rate": options.rate, "seed": seed, "gentle": options.rolling > 0, **machines}
    ran: dict[str, Any] = {"seed": seed, "lease_ms": int(lease * 1_000), "faults": bool(faults) or options.rolling > 0}
    ran |= {"rolling": options.rolling}
    async with Stage(directory=directory, **names) as stage:
        started = time.monotonic()
        load = await stage.begin_load()
        nemesis = Nemesis(stage)
        notes = await _witnesses(stage)
        async with asyncio.TaskGroup() as group:
            group.create_task(nemesis.run(faults), name="nemesis")
            group.create_task(nemesis.roll(options.rolling), name="rolling restarts")
            if not options.rolling:
                group.create_task(asyncio.sleep(options.seconds), name="the run's time")
        await _heal(stage, nemesis)
        ran |= {"healed_ms": time.time() * 1_000}
        console.print(f"healed after {time.monotonic() - started:.0f} s; waiting until all is quiet")
        ran |= {"quiet": await _settle(stage, load)}
        for note in notes:
            note.cancel()
        await _write_store(stage)
        if ran["quiet"]:
            ran |= {"burst_ms": time.time() * 1_000, "held": await leaks.measure(stage)}
        await stage.end()
        _write(directory / "processes.json", [life for one in stage.lives.values() for life in one.lives()])
        _write(directory / "run.json", ran)
        stage.keep_store_log()


def _plan(options: argparse.Namespace, seed: int) -> list[plan.Planned]:
    if options.calm or options.rolling:
        return []
    lacking = [] if compiler() else [kind.name for kind in plan.KINDS if kind.shim]
    if lacking:
        console.print(f"there is no C compiler here, so these faults are left out: {', '.join(lacking)}")
    machines = {"workers": options.workers, "servers": options.servers}
    return plan.draw(seed=seed, seconds=options.seconds, only=options.only, lacking=lacking, **machines)


async def _witnesses(stage: Stage) -> list[asyncio.Task[None]]:
    witness = Witness(stage)
    looks = {"clock": witness.watch_the_clock(), "store": witness.watch_the_store()}
    return [asyncio.create_task(look, name=f"watch the {name}") for name, look in looks.items()]


async def _heal(stage: Stage, nemesis: Nemesis) -> None:
    await nemesis.relieve_memory()
    for link in stage.links.values():
        link.pass_on()


async def _settle(stage: Stage, load: Any) -> bool:
    """Ends the load, and waits for the backlog. False: it stopped getting smaller before it was gone."""
    async with load.lock:
        code = await asyncio.to_thread(load.process.stop, within=LOAD_PATIENCE)
        load.expected_end = code == 0
        await load.bury(stage.directory / "logs")
    least, deadline = sys.maxsize, 0.0
    while left := await scan.unfinished(stage.broker):
        if left < least:
            least, deadline = left, time.monotonic() + STANDSTILL
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
    await asyncio.sleep(2 * LEASE)  # what comes late, comes now
    return True


async def _write_store(stage: Stage) -> None:
    """Reads the store, kills it, and reads it again."""
    _write(stage.directory / "final.json", await scan.scan(stage.broker))
    await asyncio.to_thread(stage.store.kill)
    await asyncio.to_thread(stage.store.start_again)
    _write(stage.directory / "reloaded.json", await scan.scan(stage.broker))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, help="the plan of faults; default: a random one, which is printed")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="how long faults are injected (default: %(default)s)"
    )
    parser.add_argument(
        "--rolling", type=int, default=0, help="in place of faults: restart each process in its turn, so many times"
    )
    parser.add_argument("--rate", type=float, default=100, help="jobs a second (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=3, help="worker processes (default: %(default)s)")
    parser.add_argument("--servers", type=int, default=2, help="server processes (default: %(default)s)")
    kinds = [kind.name for kind in plan.KINDS]
    parser.add_argument(
        "--only", action="append", default=[], choices=kinds, help="this kind of fault; may be repeated"
    )
    parser.add_argument("--calm", action="store_true", help="inject no faults: then nothing may run twice")
    parser.add_argument("--keep", action="store_true", help="keep the files of a run that went well, too")
    parser.add_argument("--discard", action="store_true", help="keep no files, whatever was found")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
