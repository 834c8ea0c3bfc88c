"""What is wrong with a request, field by field."""

from __future__ import annotations

from dataclasses import dataclass

from headrace_server.errors import InvalidRequest

MAX_SHOWN = 60
"""Characters of an offending value that an answer repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One field that breaks the contract: its path as the client wrote it, and what is wrong with its value."""

    field: str
    description: str


class Violations:
    """Collects the violations of one request, or of one item of a batch (`prefix`, such as `requests[3].`)."""

    __slots__ = ("_found", "_prefix")

    def __init__(self, prefix: str = "") -> None:
        self._found: list[Violation] = []
        self._prefix = prefix

    def add(self, field: str, description: str) -> None:
        """Note that `field` breaks the contract."""
        self._found.append(Violation(field=self._prefix + field, description=description))

    def check(self) -> None:
        """Raise InvalidRequest if anything was noted."""
        if self._found:
            raise InvalidRequest(tuple(self._found))


def shown(value: object) -> str:
    """A client's value as an answer may repeat it: printable ASCII, quoted where it is text, cut to size."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}... ({len(text)} characters)"


def escaped(text: str) -> str:
    """A client's text as a part of a field path: printable ASCII, cut to size, not quoted."""
    text = ascii(text)[1:-1]
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
