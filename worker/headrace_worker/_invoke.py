"""Call a plain function handler, in a thread or a process of its own, and decide what its end means."""

from __future__ import annotations

from headrace_broker import ClaimedJob, Outcome
from headrace_worker import _decide
from headrace_worker._handler import Handler
from headrace_worker._payload import BadPayload
from headrace_worker.context import Context


def invoke(handler: Handler, job: ClaimedJob, context: Context, *, limit: int) -> Outcome:
    """Decodes the payload, calls the handler, and returns the outcome. Raises nothing that the handler raises."""
    spec = job.spec
    try:
        arguments = handler.signature.arguments(spec.payload, spec.content_type, context)
        value = handler.recipe.function(*arguments)
    except BadPayload as error:
        return _decide.undecodable(job, str(error))
    except BaseException as error:  # noqa: BLE001  whatever the user's code raises, even SystemExit, fails this attempt alone
        return _decide.threw(job, error, fatal=handler.recipe.fatal)
    return _decide.returned(job, value, limit=limit)
