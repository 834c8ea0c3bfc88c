"""`headrace version`: what runs here. Asks no server and imports no gRPC."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of

import typer

from headrace.cli import _document
from headrace.cli._options import JsonOption, settings_of


def version(ctx: typer.Context, *, as_json: JsonOption = False) -> None:
    """Show the versions of headrace and of what it runs on."""
    _show(as_json=settings_of(ctx, as_json=as_json).as_json)


def show_and_exit(asked: bool) -> None:  # noqa: FBT001 - typer calls it with the option's value
    """What --version does."""
    if asked:
        _show(as_json=False)
        raise typer.Exit


def _show(*, as_json: bool) -> None:
    versions = {
        "headrace": version_of("headrace"),
        "python": platform.python_version(),
        "grpcio": version_of("grpcio"),
        "protobuf": version_of("protobuf"),
    }
    if as_json:
        _document.show(versions)
        return
    for name, number in versions.items():
        typer.echo(f"{name:<9} {number}")
