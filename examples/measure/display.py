"""The tally, live: a picture where there is a terminal, else a line a second."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.measure.tally import Note, Tally
from headrace import JobState

_PICTURES = 8  # a second
_WORDS = {
    JobState.SCHEDULED: ("scheduled", "cyan"),
    JobState.QUEUED: ("queued", "blue"),
    JobState.PROCESSING: ("processing", "yellow"),
    JobState.RETRYING: ("retrying", "magenta"),
    JobState.SUCCEEDED: ("succeeded", "green"),
    JobState.FAILED: ("dead letters", "red"),
}


async def show(tally: Tally, console: Console) -> None:
    """Show the tally as it grows, until cancelled; then once more."""
    if not console.is_terminal:
        await _lines(tally, console)
        return
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(_picture(tally), refresh=True)
                await asyncio.sleep(1 / _PICTURES)
        finally:  # the summary names what failed
            live.update(Group(_bar(tally), Text(), _counts(tally)), refresh=True)


async def _lines(tally: Tally, console: Console) -> None:
    try:
        while True:
            await asyncio.sleep(1)
            console.print(_line(tally), soft_wrap=True)
    finally:
        console.print(_line(tally), soft_wrap=True)


def _line(tally: Tally) -> Text:
    counts = ", ".join(f"{tally.states[state]:,} {word}" for state, (word, _) in _WORDS.items())
    return Text(f"{tally.elapsed:5.1f} s  {tally.done:,} of {tally.total:,} done, {tally.rate:.0f} jobs/s: {counts}")


def _picture(tally: Tally) -> Group:
    latest, failures = _notes("Done", tally.latest, height=4), _notes("Failed", tally.failures, height=6)
    # The last line is an empty one: a ^C that the terminal echoes there does not break the picture.
    return Group(_bar(tally), Text(), _counts(tally), Text(), latest, Text(), failures, Text())


def _bar(tally: Tally) -> Table:
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    for _ in range(3):
        row.add_column(justify="right", no_wrap=True)
    row.add_row(
        ProgressBar(total=tally.total, completed=tally.done),
        Text(f"{tally.done:,} of {tally.total:,} jobs", "bold"),
        f"{tally.rate:.0f} jobs/s",
        f"{tally.elapsed:.1f} s",
    )
    return row


def _counts(tally: Tally) -> Table:
    table = Table(box=None, pad_edge=False)
    for word, style in _WORDS.values():
        table.add_column(word, justify="right", style=style, header_style=style)
    table.add_row(*(f"{tally.states[state]:,}" for state in _WORDS))
    return table


def _notes(title: str, notes: Sequence[Note], *, height: int) -> Table:
    """The notes, one a line, in a table that has always the same height."""
    table = Table(box=None, pad_edge=False, expand=True, header_style="dim")
    table.add_column(title, no_wrap=True, min_width=6)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for note in notes:
        table.add_row(f"{note.after:.1f} s", note.name, Text(note.text, _WORDS[note.state][1]))
    for _ in range(height - len(notes)):
        table.add_row()
    return table
