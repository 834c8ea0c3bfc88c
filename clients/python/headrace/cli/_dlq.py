"""`headrace dlq`: the dead letter queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli import _document
from headrace.cli._options import JsonOption, ServerOption, settings_of
from headrace.cli._session import run

if TYPE_CHECKING:
    from headrace.aio import AsyncClient
    from headrace.cli._options import Settings

DEFAULT_LIMIT = 50

app = typer.Typer(help="Jobs that failed for good.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Jobs that failed for good."""


@app.command("list")
def list_(
    ctx: typer.Context,
    *,
    queue: Annotated[str, typer.Option("--queue", "-q", metavar="QUEUE", help="Only of this queue; else of all.")] = "",
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1_000, help="How many to show.")] = DEFAULT_LIMIT,
    page_token: Annotated[str, typer.Option(metavar="TOKEN", help="Go on where the page before ended.")] = "",
    as_json: JsonOption = False,
    server: ServerOption = "",
) -> None:
    """List dead letters, those that failed last first."""
    settings = settings_of(ctx, server=server, as_json=as_json)
    run(settings, lambda client: _list(client, settings, queue=queue, limit=limit, page_token=page_token))


async def _list(client: AsyncClient, settings: Settings, *, queue: str, limit: int, page_token: str) -> int:
    page = await client.dlq_page(queue, page_size=limit, page_token=page_token)
    if settings.as_json:
        _document.show(_document.of_page(page))
        return 0
    from headrace.cli import _page  # noqa: PLC0415 - rich is not needed for JSON

    console = _page.console()
    query = (f" --queue {queue}" if queue else "") + (f" --limit {limit}" if limit != DEFAULT_LIMIT else "")
    for part in _page.dead_letters(page, query):
        console.print(part, soft_wrap=True)
    return 0
