"""`headrace get` and `headrace watch`: one job, as it is now or as it goes on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli import _document
from headrace.cli._options import JobIdArgument, JsonOption, ServerOption, settings_of
from headrace.cli._session import UNSUCCESSFUL, run
from headrace.models import JobState

if TYPE_CHECKING:
    from headrace.aio import AsyncClient
    from headrace.cli._options import Settings
    from headrace.models import Job, StatusEvent


def get(ctx: typer.Context, job_id: JobIdArgument, *, as_json: JsonOption = False, server: ServerOption = "") -> None:
    """Show one job with its history."""
    settings = settings_of(ctx, server=server, as_json=as_json)
    run(settings, lambda client: _get(client, job_id, settings))


def watch(
    ctx: typer.Context,
    job_id: JobIdArgument,
    *,
    after_version: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Only what follows version N; 0 tells the whole story."),
    ] = None,
    as_json: JsonOption = False,
    server: ServerOption = "",
) -> None:
    """Show every step of one job, live, until it has ended.

    The exit code is 1 when it ended as FAILED, CANCELLED or EXPIRED. With --json each event is one line.
    """
    settings = settings_of(ctx, server=server, as_json=as_json)
    run(settings, lambda client: follow(client, job_id, after_version=after_version, settings=settings))


async def follow(client: AsyncClient, job_id: str, *, after_version: int | None, settings: Settings) -> int:
    """Show the events of a job until it has ended. Returns the exit code."""
    state: JobState | None = None
    async with contextlib.aclosing(client.watch(job_id, after_version=after_version)) as events:
        async for event in events:
            _show_event(event, settings)
            state = event.state
    if state is None:  # It had ended before `after_version`.
        state = (await client.get(job_id)).state
    return exit_code(state)


async def report(client: AsyncClient, job_id: str, *, settings: Settings) -> int:
    """Wait for the end of a job and show what it came to. Returns the exit code."""
    job: Job | None = None
    async with contextlib.aclosing(client.watch(job_id)) as events:
        async for event in events:
            job = event.job
    job = job or await client.get(job_id)
    _show_outcome(job, settings)
    return exit_code(job.state)


def exit_code(state: JobState) -> int:
    """0 for a job that succeeded, 1 for one that ended otherwise."""
    return 0 if state is JobState.SUCCEEDED else UNSUCCESSFUL


async def _get(client: AsyncClient, job_id: str, settings: Settings) -> int:
    job = await client.get(job_id)
    if settings.as_json:
        _document.show(_document.of_job(job))
        return 0
    from headrace.cli import _page  # noqa: PLC0415 - rich is not needed for JSON

    console = _page.console()
    for part in _page.job_page(job):
        console.print(part)
    return 0


def _show_event(event: StatusEvent, settings: Settings) -> None:
    if settings.as_json:
        _document.show(_document.of_event(event), line=True)
        return
    from headrace.cli import _page  # noqa: PLC0415 - rich is not needed for JSON

    console = _page.console()
    console.print(_page.event_line(event), soft_wrap=True)
    if event.job is not None and event.state.is_terminal and (outcome := _page.outcome_text(event.job)):
        console.print(outcome, soft_wrap=True)


def _show_outcome(job: Job, settings: Settings) -> None:
    if settings.as_json:
        _document.show(_document.of_job(job))
        return
    from headrace.cli import _page  # noqa: PLC0415 - rich is not needed for JSON

    if job.state is JobState.SUCCEEDED:
        typer.echo(_page.outcome_text(job))
    else:
        typer.echo(f"headrace: the job ended as {job.state}: {_page.ending_text(job)}".rstrip(": "), err=True)
