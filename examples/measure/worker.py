"""The worker of the demo: each job measures one Python file. Run it: headrace-worker examples.measure.worker:worker."""

from __future__ import annotations

import ast
import os
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace_worker import Worker

# Twice as many jobs at hand as run at a time: when a process has done its job, the next one is there already.
_PROCESSES = min(os.cpu_count() or 1, 8)
worker = Worker(processes=_PROCESSES, concurrency=2 * _PROCESSES)

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The payload of a job: the file to measure, as this worker finds it."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """The result of a job."""

    lines: int
    functions: int
    classes: int
    branches: int


# Parsing is pure work for the CPU. An `async def` would hold up the worker's event loop, and a plain `def` runs in a
# thread, which Python lets take turns with all others; with process=True every core has its share, and a file that
# takes too long can be stopped.
#
# A broken file stays broken, so a worker of your own would say `fatal=(SyntaxError, ValueError)` here and spare itself
# the retries. This one wants them to be seen.
@worker.handler("measure.module", process=True, timeout=30)
def measure(source: Source) -> Measures:
    """Parse one file and count what is in it. What `ast.parse` raises fails the attempt."""
    text = Path(source.path).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of doubtful escapes and the like: they are the file's own business
        tree = ast.parse(text, source.path)
    found = Counter(type(node) for node in ast.walk(tree))
    return Measures(
        lines=len(text.splitlines()),
        functions=sum(found[kind] for kind in _FUNCTIONS),
        classes=found[ast.ClassDef],
        branches=sum(found[kind] for kind in _BRANCHES),
    )


@worker.handler("echo.process")
async def echo(payload: Any) -> Any:
    """Return the payload: something to play with, when the stack of the demo is left up."""
    return payload
