"""The input of the demo: every module of the running Python's standard library, or of a directory of yours."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import islice
from pathlib import Path

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))

# Python's own tests bring files that cannot be parsed, to test just that. Some installations leave them out.
_BROKEN = ("test/tokenizedata/bad*.py", "lib2to3/tests/data/*.py")
_LEAST_BROKEN = 3
_NOT_OURS = {"site-packages", "dist-packages"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One file to measure. `name` is its path inside the library."""

    name: str
    path: Path
    broken: bool
    """It is known that no parser of Python can read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What to measure. `stand_ins` of the modules are binary ones, which no parser of Python can read."""

    modules: tuple[Module, ...]
    stand_ins: int


def find(root: Path = STANDARD_LIBRARY, *, limit: int | None = None) -> Library:
    """The .py files below `root`, those known to be broken first; no more than `limit`.

    Where fewer than three are known to be broken, some of the installation's binary extension modules stand in.
    """
    broken = {path for pattern in _BROKEN for path in root.glob(pattern)}
    others = {path for path in root.rglob("*.py") if path.is_file() and _is_ours(path, root)} - broken
    stand_ins = set(islice(_binaries(), _LEAST_BROKEN)) if others and len(broken) < _LEAST_BROKEN else set()
    bad = [_module(path, root, broken=True) for path in sorted(broken | stand_ins)]
    good = [_module(path, root, broken=False) for path in sorted(others)]
    return Library(modules=tuple([*bad, *good][:limit]), stand_ins=len(stand_ins))


def _binaries() -> Iterable[Path]:
    """Binary extension modules: the library's own, then those of installed packages."""
    for place in (sysconfig.get_config_var("DESTSHARED"), sysconfig.get_path("platlib")):
        if place:
            yield from sorted(path for path in Path(place).rglob("*") if path.name.endswith(tuple(EXTENSION_SUFFIXES)))


def _is_ours(path: Path, root: Path) -> bool:
    return _NOT_OURS.isdisjoint(path.relative_to(root).parts)


def _module(path: Path, root: Path, *, broken: bool) -> Module:
    name = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
    return Module(name=name, path=path, broken=broken)
