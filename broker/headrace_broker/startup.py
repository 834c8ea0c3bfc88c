"""What the server and the worker do alike before their work begins: settings, event loop, store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from pydantic import ValidationError
from redis.exceptions import AuthenticationError

from headrace_broker._checks import StoreInfo
from headrace_broker.address import without_password
from headrace_broker.broker import Broker
from headrace_broker.errors import StoreUnavailable, StoreUnfit
from headrace_broker.settings import BrokerSettings

RETRY_EVERY = 0.25
"""Seconds between two looks for a store that does not answer yet."""
_SECRET = frozenset({"redis_url", "HEADRACE_REDIS_URL", "REDIS_URL"})  # may hold a password

log = structlog.get_logger("headrace.startup")


class CannotStart(Exception):
    """The process cannot start. The message is one line for the person at the terminal, and says what to change."""


def setting_problems(error: ValidationError) -> list[str]:
    """Returns one line for each setting that is wrong, under its name in the environment."""
    lines = []
    for one in error.errors(include_url=False, include_context=False):
        name = str(one["loc"][0]) if one["loc"] else ""
        message = one["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:] if message[1:2].islower() else message
        if not name:
            lines.append(message)
            continue
        shown = "" if name in _SECRET else f"; got {one['input']!r}"
        variable = name if name.isupper() else f"HEADRACE_{name.upper()}"
        lines.append(f"{variable}: {message}{shown}")
    return lines


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Returns what makes the event loop: uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415  an extra
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def open_broker(settings: BrokerSettings) -> Broker:
    """Returns the broker of these settings, not connected yet. Raises CannotStart where the URL cannot be read."""
    try:
        return settings.broker()
    except ValueError as error:
        raise CannotStart(f"HEADRACE_REDIS_URL cannot be read: {error}") from error


async def await_store(broker: Broker, settings: BrokerSettings) -> StoreInfo:
    """Returns what the store says of itself, as soon as it answers; logs what is weak about it.

    Raises:
        CannotStart: it does not answer within `store_timeout`, refuses the login, or must not be trusted with jobs.
    """
    place, patience = without_password(settings.redis_url), settings.store_timeout
    since = time.monotonic()
    told = False
    while True:
        try:
            info = await broker.check()
        except StoreUnfit as error:
            raise CannotStart(f"the store at {place} must not be used as it is: {error}") from error
        except StoreUnavailable as error:
            why = str(error.__cause__ or error).rstrip(".")
            if _refused_login(error):  # no waiting makes a password right
                raise CannotStart(
                    f"the store at {place} refuses the login: {why}. Set HEADRACE_REDIS_URL with the right user and "
                    "password: redis://user:password@host:port/db"
                ) from error
            if time.monotonic() - since >= patience:
                raise CannotStart(
                    f"no store answers at {place} within {patience:g} s: {why}. "
                    "Start Valkey or Redis there, or set HEADRACE_REDIS_URL"
                ) from error
        except Exception as error:  # no job is touched yet; whatever the store refused, the person must know
            raise CannotStart(f"the store at {place} refuses to say what it is: {error}") from error
        else:
            for warning in info.warnings:
                log.warning("the store is weak", store=place, warning=warning)
            return info
        if not told:
            log.warning("waiting for the store", store=place, error=why, at_most=patience)
            told = True
        await asyncio.sleep(RETRY_EVERY)


def _refused_login(error: BaseException | None) -> bool:
    """Whether the store refused user or password, however deep redis-py has wrapped that."""
    while error is not None and not isinstance(error, AuthenticationError):
        error = error.__cause__ or error.__context__
    return error is not None


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> bool:
    """Does some work, unless `stop` is set first: then cancels it. Returns whether the work was done."""
    working = asyncio.create_task(work, name="start")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
            return True
        return False
    finally:
        stopping.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
