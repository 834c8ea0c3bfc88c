"""`headrace-server`, or `python -m headrace_server`: serve until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from pydantic import ValidationError
from pydantic_settings import CliApp

from headrace_broker import CannotStart, configure_logging, loop_factory, setting_problems, unless_stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace_server.settings import ServerSettings

WRONG_SETTINGS = 2
CANNOT_START = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the server. Exit code 0 after a clean stop, 1 when it cannot start, 2 when a setting is wrong."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # grpc's own lines on stderr; must be set before it is imported
    from headrace_server.settings import ServerSettings  # noqa: PLC0415  after the line above

    try:
        settings = CliApp.run(ServerSettings, cli_args=list(sys.argv[1:] if arguments is None else arguments))
    except ValidationError as error:
        _leave(WRONG_SETTINGS, *setting_problems(error))
    configure_logging(log_format=settings.log_format, log_level=settings.log_level)
    logging.getLogger("grpc").setLevel(logging.WARNING)  # its debug lines speak of grpc's own insides
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(settings))
    except CannotStart as error:
        _leave(CANNOT_START, str(error))


async def _serve(settings: ServerSettings) -> None:
    from headrace_server.app import Server  # noqa: PLC0415  imports grpc

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = Server(settings)
    try:
        if await unless_stopped(stop, server.start()):
            await stop.wait()
    finally:
        await server.stop()


def _leave(code: int, *lines: str) -> NoReturn:
    for line in lines:
        sys.stderr.write(f"headrace-server: {line}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
