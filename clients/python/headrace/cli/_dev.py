"""`headrace dev`: a whole headrace on this machine, until Ctrl-C."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli import _dev_plan as plan
from headrace.cli._dev_banner import banner
from headrace.cli._dev_console import DevConsole
from headrace.cli._dev_keeper import Keeper, ProgramFailedError
from headrace.cli._dev_plan import DEFAULT_HTTP_LISTEN, DEFAULT_LISTEN, DEFAULT_WORKER, BadOptionsError, Options
from headrace.cli._dev_stack import Stack


def dev(
    *,
    worker: Annotated[
        str, typer.Option("--worker", metavar="MODULE:ATTR", help="Your worker; the default answers `echo.process`.")
    ] = DEFAULT_WORKER,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Where the embedded Valkey keeps its data.")
    ] = Path(".headrace"),
    listen: Annotated[
        str,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            envvar="HEADRACE_LISTEN",
            help="Where the server listens; port 0 picks a free one.",
        ),
    ] = DEFAULT_LISTEN,
    http_listen: Annotated[
        str,
        typer.Option(
            "--http-listen",
            metavar="HOST:PORT",
            envvar="HEADRACE_HTTP_LISTEN",
            help="Where the server speaks HTTP/JSON; 0: nowhere.",
        ),
    ] = DEFAULT_HTTP_LISTEN,
    redis_url: Annotated[
        str,
        typer.Option(
            "--redis-url",
            metavar="URL",
            envvar=["HEADRACE_REDIS_URL", "REDIS_URL"],
            help="Use this Valkey or Redis in place of the embedded one; redis+sentinel:// and redis+cluster:// too.",
        ),
    ] = "",
    redis_port: Annotated[
        int,
        typer.Option(
            "--redis-port", metavar="N", min=0, max=65_535, help="Also open the embedded Valkey on 127.0.0.1:N."
        ),
    ] = 0,
    reload: Annotated[bool, typer.Option("--reload", help="Restart the worker when its source changes.")] = False,
    concurrency: Annotated[
        int,
        typer.Option(
            "--concurrency", metavar="N", min=0, max=10_000, help="Jobs the worker runs at once; 0: its own setting."
        ),
    ] = 0,
) -> None:
    """Run a whole headrace here: a real Valkey, the server and a worker, until Ctrl-C.

    The data stays in DIR for the next start. A program that dies is started
    again. Ctrl-C and SIGTERM stop the worker (running jobs may finish), then
    the server, then Valkey; a second Ctrl-C kills them. On Linux they also
    stop when this command is killed; elsewhere, the next start names what was
    left running.
    """
    console = DevConsole()
    try:
        options = plan.check(
            Options(
                worker=worker,
                data=data,
                listen=listen,
                http_listen=http_listen,
                redis_url=redis_url,
                redis_port=redis_port,
                reload=reload,
                concurrency=concurrency,
            )
        )
        code = asyncio.run(_run(options, console))
    except BadOptionsError as refusal:
        typer.echo(f"headrace: {refusal}", err=True)
        raise typer.Exit(1) from None
    except ProgramFailedError as failure:
        typer.echo(f"headrace: {failure}", err=True)
        raise typer.Exit(failure.exit_code) from None
    raise typer.Exit(code)


async def _run(options: Options, console: DevConsole) -> int:
    begun = time.monotonic()
    async with Stack(console=console) as stack:
        store = None if options.redis_url else Keeper(program=plan.store(options), console=console, quiet_start=True)
        if store is None or await stack.start(store):
            url = store.find(r"url=(\S+)") if store else options.redis_url
            server = Keeper(program=plan.server(options, url), console=console)
            worker = Keeper(program=plan.worker(options, url), console=console)
            if await stack.start(server, worker):
                allocator = store.find(r"allocator=(.*) data=") if store else ""
                seconds = time.monotonic() - begun
                console.show(banner(options, redis_url=url, allocator=allocator, seconds=seconds))
                await stack.run()
    console.say("stopped")
    return stack.exit_code
