"""The programs of `headrace dev` as one: kept up together, stopped together, in order."""

import asyncio
import signal
import time
from typing import Self

from headrace.cli._dev_console import DevConsole
from headrace.cli._dev_keeper import Keeper

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ONE_REQUEST = 0.3  # seconds; wrappers such as `timeout` send one request twice, to the process and to its group
_KILLED = 130  # exit code after a second Ctrl-C, as shells have it


class Stack:
    """Owns the keepers' tasks. An asynchronous context manager: inside it, the signals that would end this process are
    requests to stop; its end stops every program, the one started last first. A second signal kills them.
    """

    def __init__(self, *, console: DevConsole) -> None:
        self._console = console
        self._keepers: list[Keeper] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self._asked = 0.0  # when a signal asked us to stop, by the monotonic clock; 0: none yet
        self._killed = False

    async def __aenter__(self) -> Self:
        """Begin to listen to signals, and for the end of whoever reads the output."""
        self._console.on_closed = self._over.set
        self._console.watch_reader()
        for number in _STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop every program, however the block ended."""
        for keeper in reversed(self._keepers):
            await keeper.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # `start` and `run` have raised what there was
        self._console.unwatch_reader()
        for number in _STOP_SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # nothing is left to stop, so one more Ctrl-C is no crash

    @property
    def exit_code(self) -> int:
        """0 after an orderly stop."""
        return _KILLED if self._killed else 0

    async def start(self, *keepers: Keeper) -> bool:
        """Start programs at the same time and wait until all are up: True. False when it is time to stop instead.
        Raises ProgramFailedError when one cannot be kept running.
        """
        for keeper in keepers:
            task = asyncio.create_task(keeper.run(), name=f"keeper of {keeper.program.name}")
            task.add_done_callback(lambda _: self._over.set())
            self._keepers.append(keeper)
            self._tasks.append(task)
        up = asyncio.create_task(_all_up(keepers), name="all are up")
        over = asyncio.create_task(_wait(self._over), name="time to stop")
        await asyncio.wait({up, over}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        over.cancel()
        return not self._is_over()

    async def run(self) -> None:
        """Keep all programs up until it is time to stop. Raises ProgramFailedError as `start` does."""
        await self._over.wait()
        self._is_over()

    def _is_over(self) -> bool:
        for task in self._tasks:
            if task.done() and (failure := task.exception()):
                raise failure
        return self._over.is_set()

    def _on_signal(self) -> None:
        now = time.monotonic()
        if not self._asked:
            self._asked = now
            self._over.set()
            self._console.say("stopping: running jobs may finish; Ctrl-C again kills everything", "bold")
        elif now - self._asked > _ONE_REQUEST:
            self._killed = True
            self._console.say("killing everything", "bold red")
            for keeper in self._keepers:
                keeper.kill()


async def _all_up(keepers: tuple[Keeper, ...]) -> None:
    for keeper in keepers:
        await keeper.up.wait()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
