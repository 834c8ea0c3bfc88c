"""logs.py: what a log line says, and what it must not say."""

import json
import subprocess
import sys

_PROGRAM = """
import structlog
from headrace_broker import configure_logging

configure_logging(log_format="json", log_level="info")

def fail(payload):
    raise ValueError(len(payload))

try:
    fail(b"only-" + b"for-the-handler")
except ValueError:
    structlog.get_logger("test").exception("it broke")
"""


def test_a_logged_exception_does_not_show_the_values_of_variables() -> None:
    """Regression: JSON tracebacks came with the local variables of each frame: payloads, tokens and URLs among them."""
    ran = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)

    [line] = ran.stderr.splitlines()
    said = json.loads(line)
    assert (said["event"], said["exception"][0]["exc_type"]) == ("it broke", "ValueError")
    assert [frame["name"] for frame in said["exception"][0]["frames"]] == ["<module>", "fail"]
    assert "only-for-the-handler" not in line
