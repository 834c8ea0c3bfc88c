"""The example of an idempotent handler, with a worker that is killed between the effect and the outcome."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from harness.processes import Process, Spawn
from harness.waiting import Eventually
from headrace_broker import Broker, JobSpec, NewJob, State

_ROOT = Path(__file__).parents[2]
_EXAMPLE = _ROOT / "examples/payments"
JOBS = 20


def test_the_document_has_the_example_as_it_is() -> None:
    """docs/guarantees.md shows the program that is run here, word for word."""
    text = (_ROOT / "docs/guarantees.md").read_text()
    [code] = re.findall(r"<!-- test: examples/payments/payments.py -->\n```python\n(.*?)```", text, re.DOTALL)
    assert code == (_EXAMPLE / "payments.py").read_text()


async def test_a_kill_after_the_effect_books_no_payment_twice(
    spawn: Spawn, broker: Broker, tmp_path: Path, eventually: Eventually
) -> None:
    """A worker is killed when it has booked twenty payments and finished no job. All of them run again, and end well;
    the table has one row for each job.
    """
    place = tmp_path / "payments.db"

    def start_worker() -> Process:
        environment = {
            "HEADRACE_REDIS_URL": broker.url,
            "HEADRACE_NAMESPACE": broker.namespace,
            "HEADRACE_LEASE": "1",
            "PAYMENTS_DB": str(place),
        }
        process = spawn(
            "python", "-m", "headrace_worker", "payments:worker", directory=_EXAMPLE, environment=environment
        )
        process.wait_for_line("worker ready")
        return process

    spec = [
        JobSpec(type="payment.book", queue="payments", payload=b'{"account": "a%d", "cents": %d, "pause": 1}' % (n, n))
        for n in range(JOBS)
    ]
    ids = [one.job_id for one in await broker.enqueue([NewJob(spec=one) for one in spec])]
    first = start_worker()
    await eventually(lambda: len(_rows(place)) == JOBS, within=15)
    first.kill()
    start_worker()

    async def ended() -> bool:
        return all([(await broker.get(job_id)).state.is_terminal for job_id in ids])

    await eventually(ended, within=20)
    jobs = [await broker.get(job_id) for job_id in ids]
    assert {(job.state, job.crashes, job.result) for job in jobs} == {
        (State.SUCCEEDED, 1, b'{"booked_by_this_run":false}')
    }
    assert sorted(_rows(place)) == sorted((job_id, f"a{n}", n) for n, job_id in enumerate(ids))


def _rows(place: Path) -> list[tuple[str, str, int]]:
    if not place.exists():
        return []
    with closing(sqlite3.connect(place, timeout=10)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'payments'").fetchall():
            return []
        return database.execute("SELECT * FROM payments").fetchall()
