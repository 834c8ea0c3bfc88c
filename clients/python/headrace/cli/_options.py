"""Options that several verbs share, and the parsers of what people type."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, TypeAlias

import typer

ServerOption: TypeAlias = Annotated[
    str, typer.Option("--server", "-s", metavar="ADDRESS", help="HOST:PORT of the server.")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Answer with JSON for programs.")]
JobIdArgument: TypeAlias = Annotated[str, typer.Argument(metavar="JOB_ID", help="The job, as `enqueue` named it.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the global options say."""

    server: str
    as_json: bool


def settings_of(ctx: typer.Context, *, server: str = "", as_json: bool = False) -> Settings:
    """The global options, with those of the verb itself on top."""
    settings: Settings = ctx.obj
    return replace(settings, server=server or settings.server, as_json=as_json or settings.as_json)


_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = r"(\d+(?:\.\d+)?)(d|h|ms|m|s)"


def parse_duration(text: str) -> timedelta:
    """A duration such as 3s, 1m30s, 2h or 500ms; a bare number is seconds."""
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        text += "s"
    if not re.fullmatch(f"(?:{_PART})+", text):
        raise typer.BadParameter(f"{text!r} is not a duration such as 3s, 1m30s, 2h or 500ms")
    try:
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text)))
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is longer than a duration can be") from None


def parse_time(text: str) -> datetime:
    """A time in ISO 8601; local time where it names no zone."""
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone()
    except (ValueError, OverflowError):
        example = "2026-12-24T18:00:00Z or 2026-12-24T18:00 (local time)"
        raise typer.BadParameter(f"{text!r} is not a time in ISO 8601, such as {example}") from None


def parse_labels(texts: list[str]) -> dict[str, str]:
    """KEY=VALUE texts as a mapping."""
    labels: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--label")
        if key in labels:
            raise typer.BadParameter(f"{key!r} is given twice", param_hint="--label")
        labels[key] = value
    return labels
