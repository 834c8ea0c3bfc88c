"""The root of the command line: its verbs, its global options, its help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from headrace.cli import _dlq, _enqueue, _jobs, _version
from headrace.cli._options import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

_HELP = """Enqueue jobs and follow them.

The server's address is --server, else $HEADRACE_ADDRESS, else localhost:50051. `headrace dev` starts a server here.

Exit codes: 0 done; 1 the job that was waited for ended as FAILED, CANCELLED or EXPIRED; 2 wrong usage;
64 + the code of a gRPC status when the server did not do it (69: no such job, 78: no server); 130 on Ctrl-C.
"""


def _dev() -> Callable[..., Any]:
    from headrace.cli._dev import dev  # noqa: PLC0415 - what it needs would slow down every other verb

    return dev


class _Root(TyperGroup):
    """Adds the verb `dev` when it is asked for, and in the help."""

    # The contexts and commands are click's, which newer typer keeps to itself: there is no type to name in common.
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name == "dev" and "dev" not in self.commands:
            lone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
            lone.command("dev")(_dev())
            self.add_command(typer.main.get_command(lone), "dev")
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is typer's
        return ["dev", "enqueue", "get", "watch", "dlq", "version"]


app = typer.Typer(cls=_Root, help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def root(
    ctx: typer.Context,
    *,
    server: Annotated[
        str,
        typer.Option("--server", "-s", metavar="ADDRESS", envvar="HEADRACE_ADDRESS", help="HOST:PORT of the server."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Answer with JSON for programs.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version.show_and_exit, help="Show versions and exit.")
    ] = False,
) -> None:
    """Keep the global options for the verb that follows."""
    del version
    ctx.obj = Settings(server=server, as_json=as_json)


app.command("enqueue")(_enqueue.enqueue)
app.command("get")(_jobs.get)
app.command("watch")(_jobs.watch)
app.add_typer(_dlq.app, name="dlq")
app.command("version")(_version.version)
