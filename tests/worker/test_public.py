"""What `import headrace_worker` offers, and what it must not bring along."""

import subprocess
import sys

import headrace_worker
from headrace_broker import State
from headrace_worker import echo
from worker.conftest import HERE

SMALLEST = """
import sys
import headrace_worker
print([name for name in ("grpc", "google.protobuf", "headrace", "watchfiles") if name in sys.modules])
"""


def test_the_public_names_are_the_ones_that_are_listed():
    """Sorted, and each of them there."""
    names = [name for name in vars(headrace_worker) if not name.startswith("_")]
    modules = {name for name in names if type(getattr(headrace_worker, name)).__name__ == "module"}
    assert headrace_worker.__all__ == sorted(set(names) - modules)


def test_importing_the_sdk_imports_no_grpc_and_no_client():
    """A worker's image needs neither."""
    printed = subprocess.run([sys.executable, "-c", SMALLEST], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


async def test_the_shipped_worker_echoes(serve, jobs):
    """What `headrace dev` runs without a worker of one's own."""
    await serve(echo.worker)
    job = await jobs.ended(await jobs.put("echo.process", b'{"msg":"hello"}'))
    assert (job.state, job.result) == (State.SUCCEEDED, b'{"msg":"hello"}')
    assert job.progress.fraction == 1.0


async def test_the_example_echoes(launch, jobs):
    """examples/echo, as its README says to run it."""
    launch("echo:worker", directory=HERE.parent.parent / "examples" / "echo")
    job = await jobs.ended(await jobs.put("echo.process", b'{"msg":"hello"}'))
    assert (job.state, job.result) == (State.SUCCEEDED, b'{"msg":"hello"}')
