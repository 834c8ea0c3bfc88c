"""The store at the start: found, waited for, and fit for jobs; or one line that says what to do."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog

from headrace_broker import StoreUnavailable, StoreUnfit
from headrace_server.errors import CannotStart

if TYPE_CHECKING:
    from headrace_broker import Broker, StoreInfo
    from headrace_server.settings import ServerSettings

RETRY_EVERY = 0.25
"""Seconds between two looks for a store that does not answer yet."""

_log = structlog.get_logger("headrace_server.store")


def open_broker(settings: ServerSettings) -> Broker:
    """The broker of these settings, not connected yet. Raises CannotStart where the URL cannot be read."""
    try:
        return settings.broker()
    except ValueError as error:
        raise CannotStart(f"HEADRACE_REDIS_URL cannot be read: {error}") from None


async def await_store(broker: Broker, settings: ServerSettings) -> StoreInfo:
    """What the store says of itself, as soon as it answers. Raises CannotStart when it does not, or is not fit."""
    place = without_password(settings.redis_url)
    deadline = time.monotonic() + settings.store_timeout
    told = False
    while True:
        try:
            return await broker.check()
        except StoreUnfit as error:
            raise CannotStart(f"the store at {place} must not be used as it is: {error}") from None
        except StoreUnavailable as error:
            why = str(error.__cause__ or error)
        except Exception as error:  # noqa: BLE001  no job is touched yet; whatever the store refused, the person must know
            raise CannotStart(f"the store at {place} refuses to say what it is: {error}") from None
        if time.monotonic() >= deadline:
            raise CannotStart(
                f"no store answers at {place} within {settings.store_timeout:g} s: {why}. "
                "Start Valkey or Redis there, or set HEADRACE_REDIS_URL"
            )
        if not told:
            _log.warning("waiting for the store", store=place, error=why, at_most=settings.store_timeout)
            told = True
        await asyncio.sleep(RETRY_EVERY)


def without_password(url: str) -> str:
    """The URL as it may be shown: no user, no password, no query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
