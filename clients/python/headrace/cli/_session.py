"""From a verb to the server and back: one connection, one exit code, one line for what went wrong."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import typer

from headrace import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.aio import AsyncClient
    from headrace.cli._options import Settings

INTERRUPTED = 130
UNSUCCESSFUL = 1
_USAGE = 2
_RPC = 64


def run(settings: Settings, work: Callable[[AsyncClient], Awaitable[int]]) -> None:
    """Do `work` with a client that has reached its server, then end with the exit code that it returns."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # What gRPC's core logs is not for the person at the terminal.
    try:
        code = asyncio.run(_connected(settings, work))
    except errors.HeadraceError as error:
        for line in _explain(error, settings):
            typer.echo(f"headrace: {line}", err=True)
        code = _exit_code(error)
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


async def _connected(settings: Settings, work: Callable[[AsyncClient], Awaitable[int]]) -> int:
    from headrace.aio import AsyncClient  # noqa: PLC0415 - gRPC is slow to import, and help and usage errors need none

    async with AsyncClient(settings.server or None) as client:
        # Fails at once where nobody listens; the calls themselves would wait for the server to come up.
        await client.ping()
        return await work(client)


def _explain(error: errors.HeadraceError, settings: Settings) -> list[str]:
    if isinstance(error, errors.Unavailable) and not error.reason:
        where = settings.server or os.environ.get("HEADRACE_ADDRESS") or "localhost:50051"
        return [f"no server answers at {where}. Start one with `headrace dev`, or name another with --server."]
    if isinstance(error, errors.InvalidRequest) and error.violations:
        return [f"{violation.field}: {violation.description}" for violation in error.violations]
    return [str(error)]


def _exit_code(error: errors.HeadraceError) -> int:
    match error:
        case errors.RequestError():
            return _RPC + error.code
        case errors.JobUnsuccessful():
            return UNSUCCESSFUL
        case errors.InvalidAddress():
            return _USAGE
        case _:
            return _RPC + errors.ServerFault.status
