"""The lines at the end of a run that say what it had under it."""

from typing import Any

import pytest

from harness.stores import Store, redis_version

_USED = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Start with nothing used."""
    config.stash[_USED] = {}


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest) -> object:
    """Note each shared store that a test really asked for."""
    value = yield
    if isinstance(value, Store):
        request.config.stash[_USED].setdefault(fixturedef.argname, value.version)
    return value


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what this process has used to the one that prints the summary, where tests run in several processes."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["stores"] = session.config.stash[_USED]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take it."""
    node.config.stash[_USED].update(getattr(node, "workeroutput", {}).get("stores", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what the suite ran against."""
    used = config.stash[_USED]
    compose = [report for report in terminalreporter.stats.get("passed", []) if "compose" in report.keywords]
    installed = redis_version()
    terminalreporter.section("ran against")
    terminalreporter.line(f"Valkey   {used.get('valkey_store', 'not used')}")
    without = f"not used ({installed} is installed)" if installed else "no: redis-server is not installed"
    terminalreporter.line(f"Redis    {used.get('redis7_store', without)}")
    terminalreporter.line(f"compose  {'yes' if compose else 'no (make test-compose)'}")
