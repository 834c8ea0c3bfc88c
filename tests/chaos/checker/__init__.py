"""The checker: files in, verdict out. `python -m chaos.checker DIRECTORY` judges a run again.

Checked are the invariants that apply to what headrace does today: I1 no loss, I2 no phantom, I3 idempotency, I4 at
least once, I5 single winner, I6 no overlap under a lease, I7 no run without a cause, I8 state machine, I9 attempts, I10
versions and times, I11 watches, I12 due times, I13 retry delays, I14 one place, I15 no rests, I16 known keys, I17 the
same after a crash of the store, I18 no process dies unasked, I19 work goes on, I21 cancelled jobs stay so,
I22 no secret is told.
Where processes were only restarted in their turn: R1 no call fails, R2 no attempt is burned and nothing dies.
I20, the order of jobs, is checked where no fault was injected.
"""

from chaos.checker import cancels, enqueues, places, processes, rolling, runs, steps, watches
from chaos.checker.history import History
from chaos.checker.verdict import Check, Violation

CHECKS: tuple[Check, ...] = (
    enqueues.no_loss,
    enqueues.ends_as_it_should,
    enqueues.no_phantom,
    enqueues.idempotent,
    runs.done_before_told,
    runs.one_winner,
    runs.leases_hold,
    runs.each_run_has_a_claim,
    runs.each_loss_has_a_cause,
    steps.allowed_states,
    steps.attempts_counted,
    steps.versions_and_times,
    steps.not_before_due,
    steps.retries_wait,
    steps.first_come_first_served,
    watches.told_in_order,
    places.one_place,
    places.no_rests,
    places.known_keys,
    places.survives_a_crash,
    processes.none_dies_unasked,
    processes.work_goes_on,
    processes.nothing_leaks,
    cancels.cancelled_jobs_stay_so,
    processes.no_secret_told,
    rolling.no_call_fails,
    rolling.no_attempt_burns,
)


def check(history: History) -> list[Violation]:
    """Returns every violation, in the order of the invariants' checks."""
    return [violation for one in CHECKS for violation in one(history)]
