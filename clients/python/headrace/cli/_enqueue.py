"""`headrace enqueue`: store one job, and follow it on request."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli import _document
from headrace.cli._jobs import follow, report
from headrace.cli._options import ServerOption, parse_duration, parse_labels, parse_time, settings_of
from headrace.cli._payload import read_payload
from headrace.cli._session import run
from headrace.models import Durability, NewJob, Priority, RetryPolicy

if TYPE_CHECKING:
    from headrace.aio import AsyncClient, AsyncJobHandle
    from headrace.cli._options import Settings


def enqueue(
    ctx: typer.Context,
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="Name of the handler that runs the job.")],
    source: Annotated[str, typer.Argument(metavar="-", help="- reads the payload from standard input.")] = "",
    *,
    json_text: Annotated[
        str | None, typer.Option("--json", metavar="JSON", help="Payload as JSON, sent exactly as it is.")
    ] = None,
    text: Annotated[str | None, typer.Option("--payload", metavar="TEXT", help="Payload as plain text.")] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Payload from a file.")] = None,
    content_type: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Media type of the payload; else by its origin or the file's name."),
    ] = None,
    queue: Annotated[str, typer.Option("--queue", "-q", metavar="QUEUE", help="Queue to wait in.")] = "default",
    priority: Annotated[Priority, typer.Option(help="How soon it is claimed.")] = Priority.NORMAL,
    delay: Annotated[
        timedelta | None,
        typer.Option(parser=parse_duration, metavar="DURATION", help="Wait until it may run: 3s, 1m30s, 2h."),
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            parser=parse_time, metavar="TIME", help="When it may run: ISO 8601; local time unless it names a zone."
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="A fact to find it by; repeatable.")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1_000, help="Attempts in all; else 5.")
    ] = None,
    timeout: Annotated[
        timedelta | None,
        typer.Option(parser=parse_duration, metavar="DURATION", help="Longest run of one attempt; else no limit."),
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Names this request: the same again finds the first job.")
    ] = None,
    durability: Annotated[
        Durability | None,
        typer.Option(help="How safely it must be stored before the answer; else as the server is set."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the end, and print the result.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show every step, live, until the end.")] = False,
    id_only: Annotated[bool, typer.Option("--id-only", help="Print nothing but the job's id.")] = False,
    server: ServerOption = "",
) -> None:
    """Store one job of a TYPE.

    With --wait or --watch the exit code is 1 when the job did not succeed. For an answer in JSON, say
    `headrace --json enqueue …`.
    """
    if wait + watch + id_only > 1:
        raise typer.BadParameter("give one of --wait, --watch and --id-only, not several")
    if delay is not None and at is not None:
        raise typer.BadParameter("give either --delay or --at, not both")
    payload = read_payload(json_text=json_text, text=text, file=file, source=source, kind=content_type)
    job = NewJob(
        type_,
        payload.data,
        queue=queue,
        priority=priority,
        delay=delay,
        schedule_time=at,
        attempt_timeout=timeout,
        retry=None if max_attempts is None else RetryPolicy(max_attempts=max_attempts),
        labels=parse_labels(label or []),
        request_id=request_id,
        content_type=payload.content_type,
        durability=durability,
    )
    settings = settings_of(ctx, server=server)
    run(settings, lambda client: _enqueue(client, job, settings, wait=wait, watch=watch, id_only=id_only))


async def _enqueue(
    client: AsyncClient, job: NewJob, settings: Settings, *, wait: bool, watch: bool, id_only: bool
) -> int:
    handle = await _store(client, job)
    if id_only:
        typer.echo(handle.job_id)
    elif settings.as_json and not wait:
        _document.show(_document_of(handle), line=watch)
    elif not settings.as_json:
        # Standard output is for the result where one was asked for.
        typer.echo(_sentence(handle, job, follow=not (wait or watch)), err=wait)
    if watch:
        return await follow(client, handle.job_id, after_version=0, settings=settings)  # a fast job is told whole, too
    return await report(client, handle.job_id, settings=settings) if wait else 0


async def _store(client: AsyncClient, job: NewJob) -> AsyncJobHandle:
    (outcome,) = await client.enqueue_many([job])
    if isinstance(outcome, Exception):
        raise outcome.error
    return outcome


def _sentence(handle: AsyncJobHandle, job: NewJob, *, follow: bool) -> str:
    stored = "was there before" if handle.deduplicated else "enqueued"
    sentence = f"{job.type} {stored} as {handle.job_id}, {handle.state}."
    return f"{sentence} Follow it: headrace watch {handle.job_id}" if follow else sentence


def _document_of(handle: AsyncJobHandle) -> dict[str, object]:
    return {
        "job_id": handle.job_id,
        "state": handle.state,
        "version": handle.version,
        "create_time": None if handle.create_time is None else _document.time_text(handle.create_time),
        "deduplicated": handle.deduplicated,
        "durability": handle.durability,
    }
