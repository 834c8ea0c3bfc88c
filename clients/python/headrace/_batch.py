"""Storing many jobs: cut into requests that a server takes, answered one by one, in order."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headrace._coalesce import MAX_BYTES, MAX_ITEMS
from headrace._convert import request_from
from headrace.errors import DeadlineExceeded, HeadraceError, InvalidRequest, RequestError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headrace._coalesce import Send
    from headrace.models import NewJob
    from headrace.v1.job_service_pb2 import EnqueueRequest, EnqueueResponse


@dataclass(slots=True, kw_only=True)
class Entry:
    """One job on its way: with a request from the start, or an answer; with an answer in the end."""

    job: NewJob
    request: EnqueueRequest | None
    answer: EnqueueResponse | HeadraceError | None = None


async def enqueue_all(jobs: Iterable[NewJob], *, send: Send, within: float) -> list[Entry]:
    """Every job with its answer, in order. `within` bounds each request, in seconds.

    Once a request has met an outage, what is left gets the same answer untried: each try would wait as long.
    """
    entries: list[Entry] = []
    outage: HeadraceError | None = None
    for chunk in chunks(_prepared(job) for job in jobs):
        if outage is None:
            outage = await _send_chunk(chunk, send, within)
        for entry in chunk:
            entry.answer = entry.answer or outage
        entries += chunk
    return entries


def chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """The entries in order, in lists of at most MAX_ITEMS jobs and MAX_BYTES bytes, and of one durability; a larger job
    is alone.
    """
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        entry_size = 0 if entry.request is None else entry.request.ByteSize()
        other = chunk and entry.job.durability != chunk[0].job.durability
        if chunk and (other or len(chunk) == MAX_ITEMS or size + entry_size > MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(entry)
        size += entry_size
    if chunk:
        yield chunk


def _prepared(job: NewJob) -> Entry:
    job = job if job.request_id else replace(job, request_id=str(uuid.uuid4()))
    try:
        return Entry(job=job, request=request_from(job))
    except InvalidRequest as error:
        return Entry(job=job, request=None, answer=error)


async def _send_chunk(chunk: list[Entry], send: Send, within: float) -> HeadraceError | None:
    """Answer the entries of a chunk. Returns the outage that it met, if any."""
    open_entries = [entry for entry in chunk if entry.request is not None]
    requests = [entry.request for entry in chunk if entry.request is not None]
    try:
        answers = await send(requests, within) if requests else []
    except RequestError as error:
        for entry in open_entries:
            entry.answer = error
        return error if isinstance(error, Unavailable | DeadlineExceeded) else None
    for entry, answer in zip(open_entries, answers, strict=True):
        entry.answer = answer
    return None
