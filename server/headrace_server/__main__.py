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

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from headrace_server.settings import ServerSettings

WRONG_SETTINGS = 2
CANNOT_START = 1
_SECRET = frozenset({"redis_url", "HEADRACE_REDIS_URL", "REDIS_URL"})  # may hold a password


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the server. Exit code 0 after a clean stop, 1 when it cannot start, 2 when a setting is wrong."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # grpc's own lines on stderr; must be set before it is imported
    from headrace_broker import configure_logging  # noqa: PLC0415  after the line above
    from headrace_server.errors import CannotStart  # noqa: PLC0415  after the line above
    from headrace_server.settings import ServerSettings  # noqa: PLC0415  after the line above

    try:
        settings = CliApp.run(ServerSettings, cli_args=list(sys.argv[1:] if arguments is None else arguments))
    except ValidationError as error:
        _leave(WRONG_SETTINGS, *_problems(error))
    configure_logging(log_format=settings.log_format, log_level=settings.log_level)
    logging.getLogger("grpc").setLevel(logging.WARNING)  # its debug lines speak of grpc's own insides
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
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
        if await _before(stop, server.start()):
            await stop.wait()
    finally:
        await server.stop()


async def _before(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do the work unless `stop` is set first. Whether it was done."""
    working = asyncio.create_task(work, name="start")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.wait({working})
        return False
    await working
    return True


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415  an extra
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _problems(error: ValidationError) -> list[str]:
    """One line for each setting that is wrong, under the name that it has in the environment."""
    lines = []
    for one in error.errors(include_url=False, include_context=False):
        name = str(one["loc"][0]) if one["loc"] else ""
        message = one["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:] if message[1:2].islower() else message
        if not name:
            lines.append(message)
            continue
        shown = "" if name in _SECRET else f"; got {one['input']!r}"
        variable = name if name.isupper() else f"HEADRACE_{name.upper()}"
        lines.append(f"{variable}: {message}{shown}")
    return lines


def _leave(code: int, *lines: str) -> NoReturn:
    for line in lines:
        sys.stderr.write(f"headrace-server: {line}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
