"""`python -m bench`: measure headrace, and its peers beside it."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

from rich.console import Console

from bench import machine, report
from bench.contenders import CONTENDERS
from bench.numbers import Measurement
from bench.plan import TARGETS, UNITS, Row, rows
from bench.rows.race import Result
from bench.stage import ProgramFailedError

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure, print, and write the results down."""
    options = _options()
    console = Console(highlight=False)
    wanted = [row for row in rows(peers=options.peers) if _is_wanted(row, options)]
    if options.list or not wanted:
        console.print(*(f"{row.name}  ({row.contender})" for row in wanted or rows(peers=True)), sep="\n")
        sys.exit(0 if options.list else f"bench: nothing is called {', '.join(options.only)}; these are the names")
    try:
        _prepare({row.contender for row in wanted}, console)
        here = machine.look()
        console.print(here.in_words())
        found = _measure(wanted, options.repeats, console)
    except ProgramFailedError as failure:
        sys.exit(f"bench: {failure}")
    console.print(report.as_table(found))
    report.save(found, here, options.output)
    console.print(f"\nWritten to {options.output}/results.json and table.md")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    only = "a row (see --list), or a contender; may be given several times"
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=only)
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="repeats of each row (default: 3)")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="measure the peers too")
    parser.add_argument("--list", action="store_true", help="list the rows and end")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results")
    return parser.parse_args()


def _is_wanted(row: Row, options: argparse.Namespace) -> bool:
    return not options.only or bool({row.name, row.contender} & set(options.only))


def _prepare(names: set[str], console: Console) -> None:
    for contender in CONTENDERS:
        if contender.name in names:
            with console.status(f"Installing {contender.name}"):
                contender.install()


def _measure(wanted: list[Row], repeats: int, console: Console) -> list[Measurement]:
    """Repeat by repeat, not row by row: what slows the machine down for a while, slows all rows down alike."""
    results: dict[int, list[Result]] = defaultdict(list)
    for repeat in range(repeats):
        for index, row in enumerate(wanted):
            begun = time.monotonic()
            with console.status(f"Repeat {repeat + 1} of {repeats}: {row.name} of {row.contender}"):
                result = row.measure()
            results[index].append(result)
            told = ", ".join(f"{name} {value:,.1f}" for name, value in result.numbers.items())
            console.print(f"{repeat + 1}  {row.name:11} {row.contender:14} {told}  [{time.monotonic() - begun:.0f} s]")
    return [one for index, row in enumerate(wanted) for one in _measurements(row, results[index])]


def _measurements(row: Row, results: list[Result]) -> list[Measurement]:
    notes = {name: max(result.counts[name] for result in results) for name in results[0].counts}
    return [
        Measurement(
            row=name,
            contender=row.contender,
            unit=UNITS.get(name, "jobs/s"),
            values=tuple(result.numbers[name] for result in results),
            target=TARGETS.get(name) if row.contender == "headrace" else None,
            notes=notes,
        )
        for name in results[0].numbers
    ]


if __name__ == "__main__":
    main()
