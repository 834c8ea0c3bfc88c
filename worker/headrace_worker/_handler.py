"""A handler as it was registered: the user's function and how to run it."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from headrace_worker._duration import Duration, milliseconds
from headrace_worker._signature import Signature, signature_of

MAX_TIMEOUT = timedelta(days=7)
LEAST_TIMEOUT = timedelta(milliseconds=1)
Fatal = tuple[type[BaseException], ...]


class Kind(Enum):
    """Where a handler runs."""

    LOOP = auto()
    THREAD = auto()
    PROCESS = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that a handler is made from; unlike the handler itself it can be sent to another process."""

    type: str
    function: Callable[..., Any]
    fatal: Fatal


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """The function for one job type."""

    recipe: Recipe
    kind: Kind
    timeout_ms: int | None
    signature: Signature

    @classmethod
    def of(cls, recipe: Recipe, *, process: bool = False, timeout: Duration | None = None) -> Handler:
        """Makes a handler of a function. Raises TypeError or ValueError, with the handler's name, where it is none."""
        where = f"handler {recipe.type!r} ({_describe(recipe.function)})"
        try:
            return cls(
                recipe=recipe,
                kind=_kind_of(recipe.function, process=process),
                timeout_ms=_timeout_ms(timeout),
                signature=signature_of(recipe.function),
            )
        except (TypeError, ValueError) as error:
            raise type(error)(f"{where}: {error}") from error

    def check_sendable(self) -> None:
        """Raises TypeError if this is a process handler whose function other processes cannot import."""
        if self.kind is not Kind.PROCESS:
            return
        try:
            pickle.dumps(self.recipe)
        except Exception as error:
            raise TypeError(
                f"handler {self.recipe.type!r} ({_describe(self.recipe.function)}): another process cannot import it "
                f"({error}). A process handler is a function at the top of a module, with @worker.handler as its "
                "outermost decorator"
            ) from error


def check_fatal(fatal: Any) -> Fatal:
    """Returns `fatal` as a tuple of exception types. Raises TypeError."""
    kinds = fatal if isinstance(fatal, tuple | list | set | frozenset) else (fatal,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"fatal must be exception types, and {kind!r} is none")
    return tuple(kinds)


def _kind_of(function: Callable[..., Any], *, process: bool) -> Kind:
    if not callable(function):
        raise TypeError("it is not a function")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError("it yields; a handler returns its result")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004  of an object, its __call__ may be the coroutine function
        if process:
            raise TypeError("process=True takes a plain `def`: the process has no event loop")
        return Kind.LOOP
    if not process:
        return Kind.THREAD
    name = getattr(function, "__qualname__", "")
    if "<" in name:
        raise TypeError("process=True takes a function at the top of a module: another process has to import it")
    return Kind.PROCESS


def _timeout_ms(timeout: Duration | None) -> int | None:
    return None if timeout is None else milliseconds("timeout", timeout, least=LEAST_TIMEOUT, most=MAX_TIMEOUT)


def _describe(function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    name = getattr(function, "__qualname__", repr(function))
    return name if code is None else f"{name}, {code.co_filename}:{code.co_firstlineno}"
