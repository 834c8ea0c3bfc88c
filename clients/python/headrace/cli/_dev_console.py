"""What `headrace dev` writes: the lines of its programs, each under its name, and its own."""

import asyncio
import os
import re
import stat
import sys
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

_STYLES = {"valkey": "magenta", "server": "cyan", "worker": "green", "headrace": "bold"}
_VALKEY_STAMP = re.compile(r"^\d+:(\w \d\d \w{3} \d{4} [\d:.]+ [-.*#]|signal-handler \(\d+\)) ")


class DevConsole:
    """Standard output, coloured where it is a terminal (NO_COLOR and FORCE_COLOR are heard). When its reader has gone
    away, nothing more is written, and `on_closed`, if somebody has set it, is called once.
    """

    def __init__(self) -> None:
        self.on_closed: Callable[[], None] = _nothing
        self._console = _Console(self._close)
        self._watched = -1

    def watch_reader(self) -> None:
        """Also notice a reader that goes away while there is nothing to write. On Linux: a poll of the writing end of a
        pipe tells nothing but that. Elsewhere the next line finds out.
        """
        out = sys.stdout.fileno()
        if sys.platform == "linux" and stat.S_ISFIFO(os.fstat(out).st_mode):
            self._watched = os.dup(out)  # one of our own, for `on_broken_pipe` turns the other into something else
            asyncio.get_running_loop().add_reader(self._watched, self._console.on_broken_pipe)

    def unwatch_reader(self) -> None:
        """The end of `watch_reader`. Safe twice, and without it."""
        watched, self._watched = self._watched, -1
        if watched >= 0:
            asyncio.get_running_loop().remove_reader(watched)
            os.close(watched)

    def line(self, name: str, text: str) -> None:
        """One line of a program's output."""
        self._console.print(_prefixed(name, Text.from_ansi(_VALKEY_STAMP.sub("", text) if name == "valkey" else text)))

    def say(self, text: str, style: str = "") -> None:
        """One line of our own among those of the programs."""
        self._console.print(_prefixed("headrace", Text(text, style)))

    def show(self, text: Text) -> None:
        """A block of our own, without a prefix."""
        self._console.print(text)

    def _close(self) -> None:
        self.unwatch_reader()
        self.on_closed()


class _Console(Console):
    """A broken pipe ends rich's own console with SystemExit, in whatever task happens to write; ours asks to stop."""

    def __init__(self, on_closed: Callable[[], None]) -> None:
        super().__init__(highlight=False, soft_wrap=True)
        self._on_closed = on_closed

    def on_broken_pipe(self) -> None:
        """The reader is gone: write to nobody from now on, also when Python flushes at the exit."""
        self.quiet = True
        nobody = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nobody, sys.stdout.fileno())
        os.close(nobody)
        self._on_closed()


def _nothing() -> None:
    return


def _prefixed(name: str, text: Text) -> Text:
    return Text.assemble((f"{name:<8} │ ", _STYLES.get(name, "")), text)
