"""The wait between two attempts."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_broker import JobSpec, NewJob, RetryPolicy
from headrace_worker import Worker, backoff

DAY_MS = 24 * 60 * 60 * 1000

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1_000),
    initial_backoff_ms=st.integers(0, DAY_MS),
    max_backoff_ms=st.integers(0, 30 * DAY_MS),
    multiplier=st.floats(1, 100),
    jitter=st.floats(0, 1),
)
draws = st.floats(0, 1, exclude_max=True)


@given(policy=policies, retry=st.integers(1, 1_000_000), draw=draws)
def test_every_wait_lies_between_the_sure_share_and_the_ceiling(policy, retry, draw):
    """Whatever the policy and the attempt, up to the millionth, the wait is finite and within its bounds."""
    ceiling = backoff.ceiling_ms(policy, retry=retry)
    wait = backoff.delay_ms(policy, retry=retry, draw=lambda: draw)
    assert 0 <= ceiling <= policy.max_backoff_ms
    assert ceiling * (1 - policy.jitter) - 1 <= wait <= ceiling + 1


@given(policy=policies, retry=st.integers(1, 999_999))
def test_the_ceiling_never_shrinks_from_one_retry_to_the_next(policy, retry):
    """Backoff grows until it has reached its maximum, and stays there."""
    assert backoff.ceiling_ms(policy, retry=retry) <= backoff.ceiling_ms(policy, retry=retry + 1)


@pytest.mark.parametrize(("retry", "wait"), [(1, 1_000), (2, 2_000), (3, 4_000), (10, 512_000), (11, 600_000)])
def test_without_jitter_the_wait_doubles_up_to_its_maximum(retry, wait):
    """The defaults of the contract: 1 s, twice as long each time, at most 10 minutes."""
    assert backoff.delay_ms(RetryPolicy(jitter=0.0), retry=retry) == wait


@pytest.mark.parametrize(("jitter", "least", "most"), [(0.0, 8_000, 8_000), (0.25, 6_000, 8_000), (1.0, 0, 8_000)])
def test_jitter_is_the_share_of_the_wait_that_is_random(jitter, least, most):
    """With jitter 0 the wait is exact, with 0.25 a quarter of it is drawn, with 1 all of it."""
    policy = RetryPolicy(jitter=jitter)
    assert backoff.delay_ms(policy, retry=4, draw=lambda: 0.0) == most
    assert backoff.delay_ms(policy, retry=4, draw=lambda: 1.0) == least


def test_the_retries_of_many_jobs_that_fail_together_are_spread():
    """No tenth of the wait gets more than twice its fair share of 10,000 retries."""
    policy = RetryPolicy()
    waits = [backoff.delay_ms(policy, retry=4) for _ in range(10_000)]
    tenths = [sum(1 for wait in waits if low <= wait < low + 800) for low in range(0, 8_000, 800)]
    assert max(tenths) < 2_000


async def test_a_worker_spreads_the_retries_of_jobs_that_fail_together(serve, broker, eventually):
    """F55: 500 jobs fail within a moment, as when what they all need is away; in no tenth of the time that they wait
    does more than twice its fair share come due. (It is long, so that none comes due while others still fail.)
    """
    worker = Worker(concurrency=100)

    @worker.handler("job")
    async def job():
        raise ConnectionError("the mail server is away")

    policy = RetryPolicy(max_attempts=1_000, initial_backoff_ms=30 * DAY_MS, max_backoff_ms=30 * DAY_MS, multiplier=1)
    await broker.enqueue([NewJob(spec=JobSpec(type="job", retry=policy)) for _ in range(500)])
    shard = broker.shard(0)
    await serve(worker)
    await eventually(lambda: _waiting(broker, shard.due("default"), 500), within=20)
    dues = sorted(score for _, score in await broker.redis.zrange(shard.due("default"), 0, -1, withscores=True))
    seconds, microseconds = await broker.redis.time()
    tenths = Counter(int((due - seconds * 1_000 - microseconds / 1_000) // (3 * DAY_MS)) for due in dues)
    assert max(tenths.values()) < 100
    assert len(tenths) >= 10


async def _waiting(broker, key, count):
    return await broker.redis.zcard(key) == count
