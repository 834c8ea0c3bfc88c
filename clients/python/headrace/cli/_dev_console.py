"""What `headrace dev` writes: the lines of its programs, each under its name, and its own."""

import re
import sys

from rich.console import Console
from rich.text import Text

_STYLES = {"valkey": "magenta", "server": "cyan", "worker": "green", "headrace": "bold"}
_VALKEY_STAMP = re.compile(r"^\d+:(\w \d\d \w{3} \d{4} [\d:.]+ [-.*#]|signal-handler \(\d+\)) ")


class DevConsole:
    """Standard output, coloured where it is a terminal (NO_COLOR and FORCE_COLOR are heard). When nobody reads it
    any more, `closed` turns true and nothing is written.
    """

    def __init__(self) -> None:
        self.closed = False
        self._console = Console(highlight=False, soft_wrap=True)

    def line(self, name: str, text: str) -> None:
        """One line of a program's output."""
        self._write(_prefixed(name, Text.from_ansi(_VALKEY_STAMP.sub("", text) if name == "valkey" else text)))

    def say(self, text: str, style: str = "") -> None:
        """One line of our own among those of the programs."""
        self._write(_prefixed("headrace", Text(text, style)))

    def show(self, text: Text) -> None:
        """A block of our own, without a prefix."""
        self._write(text)

    def _write(self, text: Text) -> None:
        if self.closed:
            return
        try:
            self._console.print(text)
        except BrokenPipeError:
            self.closed = True
            sys.stdout = None  # nothing may flush into the broken pipe at exit


def _prefixed(name: str, text: Text) -> Text:
    return Text.assemble((f"{name:<8} │ ", _STYLES.get(name, "")), text)
