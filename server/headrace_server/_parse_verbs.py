"""From requests that do something to jobs to what the broker is asked. Like _parse.py, which has the fields of jobs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace_broker import DeadLetterFilter
from headrace_server import _spans
from headrace_server._parse import checked_job_id, checked_labels, checked_name
from headrace_server._violations import Violations, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.v1.job_service_pb2 import (
        CancelJobRequest,
        PurgeDLQRequest,
        RequeueDLQRequest,
    )
    from headrace.v1.job_service_pb2 import (
        DeadLetterFilter as FilterMessage,
    )

MAX_REASON = 200
MAX_IDS = 1_000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Letters:
    """Which dead letters a request means: `where` is None where it names them."""

    job_ids: tuple[str, ...]
    where: DeadLetterFilter | None


def parse_cancel(request: CancelJobRequest) -> tuple[str, str]:
    """The job, and the reason. Raises InvalidRequest."""
    bad = Violations()
    job_id = checked_job_id("job_id", request.job_id, bad)
    checked_reason("reason", request.reason, bad)
    bad.check()
    return job_id, request.reason


def checked_reason(field: str, reason: str, bad: Violations) -> str:
    """What a person says. What is too long, or would garble a terminal, is noted in `bad`."""
    if len(reason) > MAX_REASON:
        bad.add(field, f"must be at most {MAX_REASON} characters; got {len(reason)}")
    elif _CONTROL.search(reason):
        bad.add(field, f"must not hold control characters; got {shown(reason)}")
    return reason


def parse_letters(request: RequeueDLQRequest | PurgeDLQRequest) -> Letters:
    """The dead letters that are meant. Raises InvalidRequest."""
    bad = Violations()
    named, filtered = bool(request.job_ids), request.HasField("filter")
    if not named and not filtered:
        bad.add("job_ids", "or filter is required; an empty filter means all dead letters")
    if named and filtered:
        bad.add("filter", "must be left out where job_ids are given")
    if named and request.page_token:
        bad.add("page_token", "must be left out where job_ids are given")
    letters = Letters(job_ids=_job_ids(request.job_ids, bad), where=_filter(request.filter, bad) if filtered else None)
    bad.check()
    return letters


def _job_ids(job_ids: Sequence[str], bad: Violations) -> tuple[str, ...]:
    if len(job_ids) > MAX_IDS:
        bad.add("job_ids", f"must be at most {MAX_IDS:,} ids; got {len(job_ids):,}")
        return ()
    return tuple(checked_job_id(f"job_ids[{index}]", job_id, bad) for index, job_id in enumerate(job_ids))


def _filter(wanted: FilterMessage, bad: Violations) -> DeadLetterFilter:
    for field, name in (("filter.queue", wanted.queue), ("filter.type", wanted.type)):
        if name:
            checked_name(field, name, bad)
    if wanted.reason and not _REASON.fullmatch(wanted.reason):
        bad.add("filter.reason", f"must be a reason such as TIMEOUT; got {shown(wanted.reason)}")
    since = _moment(wanted, "start_time", bad)
    before = _moment(wanted, "end_time", bad)
    if since is not None and before is not None and before <= since:
        bad.add("filter.end_time", f"must be after filter.start_time; got {_spans.told(wanted.end_time)}")
    return DeadLetterFilter(
        queue=wanted.queue,
        type=wanted.type,
        labels=checked_labels("filter.labels", wanted.labels, bad),
        reason=wanted.reason,
        since_ms=since,
        before_ms=before,
    )


def _moment(wanted: FilterMessage, name: str, bad: Violations) -> int | None:
    if not wanted.HasField(name):
        return None
    return _spans.moment_ms(getattr(wanted, name), f"filter.{name}", bad)
