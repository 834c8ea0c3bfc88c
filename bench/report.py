"""The results as JSON, as a table for the terminal, and as one in Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from bench.machine import Machine
from bench.numbers import Measurement


def as_table(found: Sequence[Measurement]) -> Table:
    """For the terminal."""
    table = Table("measured", "of", "median", "unit", "spread", "target", "lost", "twice", box=None)
    for one in found:
        table.add_row(*_cells(one), style="" if _is_met(one) is not False else "yellow")
    return table


def as_markdown(found: Sequence[Measurement], machine: Machine) -> str:
    """For a page that people read."""
    lines = [
        machine.in_words(),
        "",
        "| measured | of | median | unit | spread | target | lost | run twice |",
        "|---|---|---:|---|---:|---|---:|---:|",
        *(f"| {' | '.join(_cells(one))} |" for one in found),
    ]
    return "\n".join(lines) + "\n"


def save(found: Sequence[Measurement], machine: Machine, directory: Path) -> None:
    """Write results.json and table.md."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"machine": asdict(machine), "measurements": [asdict(one) for one in found]}
    (directory / "results.json").write_text(json.dumps(content, indent=1) + "\n")
    (directory / "table.md").write_text(as_markdown(found, machine))


def _cells(one: Measurement) -> list[str]:
    met = {True: "met", False: "**missed**", None: ""}[_is_met(one)]
    target = "" if one.target is None else f"{'≥' if one.target.at_least else '≤'} {_number(one.target.bound)} {met}"
    counts = [_number(one.notes[name]) if name in one.notes else "" for name in ("lost", "duplicated")]
    return [one.row, one.contender, _number(one.median), one.unit, f"{one.spread:.0%}", target, *counts]


def _is_met(one: Measurement) -> bool | None:
    return None if one.target is None else one.target.met_by(one.median)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == 0 or abs(value) >= 100 else f"{value:.2g}"  # noqa: PLR2004  three digits or two
