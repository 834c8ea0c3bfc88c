"""From "module:attribute" to a Worker, or to one message that says what to fix."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from types import ModuleType

from headrace_worker._failure import HERE
from headrace_worker.worker import Worker


class CannotLoad(Exception):
    """There is no such worker; the message is for people."""


def load(target: str) -> Worker:
    """Imports a worker. The current directory is looked at first.

    Raises:
        CannotLoad: the target is malformed, its module missing or broken, its attribute missing or no Worker.
    """
    name, colon, attribute = target.partition(":")
    if not colon or not name or not attribute:
        raise CannotLoad(f"{target!r} does not name a worker: write module:attribute, such as app:worker")
    here = os.getcwd()  # noqa: PTH109  sys.path holds strings
    if here not in sys.path:
        sys.path.insert(0, here)
    return _attribute(_module(name, target), attribute)


def _module(name: str, target: str) -> ModuleType:
    if name.endswith(".py") or "/" in name:
        proper = name.removesuffix(".py").strip("./").replace("/", ".")
        raise CannotLoad(f"{name!r} is a file: write its module, {proper}:{target.partition(':')[2]}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CannotLoad(
                f"there is no module {error.name!r} in {os.getcwd()} or among the installed packages; "  # noqa: PTH109  as above
                "start the worker in the directory that holds it"
            ) from error
        raise CannotLoad(f"module {name!r} cannot be imported: {_where(error)}") from error
    except BaseException as error:  # whatever the user's module raises, even SystemExit, is shown with its line
        if isinstance(error, KeyboardInterrupt):
            raise
        raise CannotLoad(f"module {name!r} cannot be imported: {_where(error)}") from error


def _attribute(module: ModuleType, path: str) -> Worker:
    found: object = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CannotLoad(f"module {module.__name__!r} has no {path!r}{_workers_in(module)}") from None
    if not isinstance(found, Worker):
        kind = type(found).__name__
        raise CannotLoad(f"{module.__name__}:{path} is no Worker but of type {kind}{_workers_in(module)}")
    return found


def _workers_in(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Worker)]
    if names:
        return "; its workers: " + ", ".join(f"{module.__name__}:{name}" for name in names)
    return "; it has no Worker at all: add  worker = Worker()  and handlers"


def _where(error: BaseException) -> str:
    """Returns the error with the file and line of the user's code that it comes from."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((HERE, "<frozen")) and frame.filename != importlib.__file__
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}: {said}" if frames else said
