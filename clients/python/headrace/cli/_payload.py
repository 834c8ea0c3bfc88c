"""Where the payload of `headrace enqueue` comes from: an option, a file or standard input."""

from __future__ import annotations

import json
import mimetypes
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import typer

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Bytes as they were given, so that no number is changed, and their media type."""

    data: bytes | None
    content_type: str | None


def read_payload(
    *, json_text: str | None, text: str | None, file: Path | None, source: str, kind: str | None
) -> Payload:
    """The payload from the one place that was named; none where none was. `kind` is the content type, if given."""
    if sum(given is not None for given in (json_text, text, file)) + bool(source) > 1:
        raise typer.BadParameter("give one of --json, --payload, --file and - (standard input), not several")
    if source not in {"", "-"}:
        raise typer.BadParameter(f"{source!r} follows the type; a payload is given with --json, --payload, --file or -")
    if json_text is not None:
        return _checked(json_text.encode(), kind or JSON, "--json")
    if text is not None:
        return Payload(data=text.encode(), content_type=kind or "text/plain")
    if source == "-" or file == Path("-"):
        return _checked(sys.stdin.buffer.read(), kind or JSON, "standard input")
    if file is not None:
        return _checked(_read(file), kind or _guess(file), str(file))
    return Payload(data=None, content_type=kind)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot read {file}: {error.strerror}", param_hint="--file") from None


def _guess(file: Path) -> str:
    return mimetypes.guess_type(file.name)[0] or "application/octet-stream"


def _checked(data: bytes, content_type: str, origin: str) -> Payload:
    """The payload, once it is known to be what it is called: a typing mistake is best found here."""
    if content_type == JSON:
        try:
            json.loads(data, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            raise typer.BadParameter(f"{origin} is not JSON at {place}: {error.msg}{_hint(origin)}") from None
        except (ValueError, RecursionError) as error:
            raise typer.BadParameter(f"{origin} is not JSON: {error}{_hint(origin)}") from None
    return Payload(data=data, content_type=content_type)


def _hint(origin: str) -> str:
    return "" if origin == "--json" else "; say --content-type text/plain to send it as text"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
