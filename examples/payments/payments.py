"""Payments that are booked once, however often their job runs."""

import os
import sqlite3
import time
from contextlib import closing

from headrace_worker import Context, Worker

DATABASE = os.environ.get("PAYMENTS_DB", "payments.db")
TABLE = "CREATE TABLE IF NOT EXISTS payments (job_id TEXT PRIMARY KEY, account TEXT NOT NULL, cents INTEGER NOT NULL)"

worker = Worker(queues=["payments"], concurrency=20)


@worker.handler("payment.book")
def book(payment: dict, ctx: Context) -> dict:
    """Books one payment. A second run for the same job finds the row of the first, and adds none."""
    with closing(sqlite3.connect(DATABASE, timeout=30)) as database, database:  # one transaction
        database.execute(TABLE)
        row = (ctx.job.id, payment["account"], payment["cents"])
        new = database.execute("INSERT INTO payments VALUES (?, ?, ?) ON CONFLICT (job_id) DO NOTHING", row).rowcount
    time.sleep(payment.get("pause", 0))  # here a crash leaves a payment that is booked, and a job that is not done
    return {"booked_by_this_run": new == 1}
