"""Judges the files of a run: `python -m chaos.checker DIRECTORY [JOB …]`. With job ids, tells their stories instead."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from chaos.checker import check
from chaos.checker.history import read
from chaos.checker.story import story
from chaos.report import show


def main(arguments: list[str]) -> int:
    """Returns the exit code: 1 where there are violations."""
    if not arguments or not (Path(arguments[0]) / "run.json").exists():
        sys.stderr.write("usage: python -m chaos.checker DIRECTORY [JOB …]; the directory is one that a run has left\n")
        return 2
    history, console = read(Path(arguments[0])), Console()
    if len(arguments) > 1:
        for job_id in arguments[1:]:
            console.print(story(history, job_id), markup=False, highlight=False, soft_wrap=True)
        return 0
    violations = check(history)
    show(history, violations, console)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
