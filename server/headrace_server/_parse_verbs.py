"""From requests that do something to jobs to what the broker is asked. Like _parse.py, which has the fields of jobs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from headrace_server._parse import checked_job_id
from headrace_server._violations import Violations, shown

if TYPE_CHECKING:
    from headrace.v1.job_service_pb2 import CancelJobRequest

MAX_REASON = 200

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


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
