"""keys.py: ids, tokens and the names of keys."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.moves import start
from broker.state import A, new
from headrace_broker import Broker, JobNotFound, Priority, is_job_id, new_token
from headrace_broker.keys import ID_LENGTH, MAX_SHARDS, Shard, job_id, shard_of

REQUESTS = st.text(min_size=1, max_size=200)
SHARDS = st.integers(1, MAX_SHARDS)


@given(REQUESTS, SHARDS)
def test_the_same_request_has_the_same_id(request_id: str, shards: int) -> None:
    """An id is 26 characters of Crockford base32, the same for the same request, and its end names its shard."""
    identifier = job_id(request_id, shards=shards)

    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", identifier)
    assert is_job_id(identifier)
    assert identifier == job_id(request_id, shards=shards)
    assert 0 <= shard_of(identifier) < shards


@given(st.lists(REQUESTS, unique=True, min_size=2, max_size=20), SHARDS)
def test_other_requests_have_other_ids(requests: list[str], shards: int) -> None:
    """Different requests have different ids."""
    assert len({job_id(request, shards=shards) for request in requests}) == len(requests)


@given(REQUESTS, SHARDS, SHARDS)
def test_only_the_shard_depends_on_the_number_of_shards(request_id: str, few: int, many: int) -> None:
    """The first 24 characters of an id are the hash alone."""
    assert job_id(request_id, shards=few)[:24] == job_id(request_id, shards=many)[:24]


def test_ids_are_pinned() -> None:
    """Ids that were given out stay valid: a change of the formula would make every repeated request a new job."""
    assert job_id("a", shards=1) == "SABR24PA3EYWNYP266SSM8YW00"
    assert job_id("order-1", shards=1024) == "1EQY48APT9MRR51VGR208HPK33"
    assert shard_of("0" * 24 + "00") == 0
    assert shard_of("0" * 24 + "10") == 32
    assert shard_of("0" * 24 + "ZZ") == MAX_SHARDS - 1


def test_jobs_without_a_request_have_random_ids_on_all_shards() -> None:
    """Without a request_id every id is new, and they spread evenly."""
    made = [job_id("", shards=4) for _ in range(4_000)]

    assert len(set(made)) == len(made)
    assert all(count > 800 for count in Counter(map(shard_of, made)).values())
    assert Counter(map(shard_of, made)).keys() == {0, 1, 2, 3}


def test_requests_spread_evenly() -> None:
    """Named requests spread over the shards as well."""
    counts = Counter(shard_of(job_id(f"request-{n}", shards=7)) for n in range(7_000))

    assert set(counts) == set(range(7))
    assert min(counts.values()) > 800


@pytest.mark.parametrize(
    "text",
    ["", "A" * 25, "A" * 27, "I" + "A" * 25, "L" + "A" * 25, "O" + "A" * 25, "U" + "A" * 25, "a" * 26, "Ä" * 26,
     "A" * 25 + "\n", "A" * 24 + "*:", " " * 26],
)  # fmt: skip
def test_what_is_no_id(text: str) -> None:
    """Anything but 26 upper-case characters of Crockford's alphabet is no id."""
    assert not is_job_id(text)


@given(st.text(max_size=40))
def test_no_text_is_too_odd_to_be_looked_at(text: str) -> None:
    """Whatever is_job_id accepts names a shard; the rest is refused without an error."""
    if is_job_id(text):
        assert len(text) == ID_LENGTH
        assert 0 <= shard_of(text) < MAX_SHARDS


@pytest.mark.parametrize("job", ["", "x", "I" * 26, "a" * 26, "A" * 24 + "\r\n"])
async def test_what_is_no_id_is_no_job(broker: Broker, job: str) -> None:
    """Neither get nor version of something that is no id finds a job, nor asks the store."""
    with pytest.raises(JobNotFound):
        await broker.get(job)
    with pytest.raises(JobNotFound):
        await broker.version(job)


async def test_a_job_that_was_never_stored_is_not_found(broker: Broker) -> None:
    """Nor does an id without a record."""
    with pytest.raises(JobNotFound) as found:
        await broker.get(A)
    assert found.value.job_id == A
    with pytest.raises(JobNotFound):
        await broker.version(A)


async def test_the_version_is_the_job_s(broker: Broker) -> None:
    """`version` is that of the record."""
    await start(broker, new("a"))

    assert await broker.version(A) == (await broker.get(A)).version == 2


def test_tokens_never_repeat() -> None:
    """A token is 22 characters, random."""
    tokens = {new_token() for _ in range(10_000)}

    assert len(tokens) == 10_000
    assert {len(token) for token in tokens} == {22}
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", token) for token in tokens)


def test_every_key_of_a_shard_has_its_hash_tag() -> None:
    """All keys and channels of a shard begin with the same tag, so that a cluster keeps them in one slot."""
    shard = Shard("ns", 7)
    names = [
        shard.queues(), shard.queue("q"), shard.job("j"), *(shard.ready("q", priority) for priority in Priority),
        shard.due("q"), shard.expiring("q"), shard.dead("q"), shard.workers(), shard.worker("w"), shard.pulse(),
        shard.secret(), shard.event("j"), shard.orders("w"), shard.wake(), shard.rates("q"), shard.paused(),
    ]  # fmt: skip

    assert all(name.startswith("{ns:7}:") for name in names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("shards", [0, -1, MAX_SHARDS + 1])
def test_the_number_of_shards_is_bounded(shards: int) -> None:
    """A broker has 1 to 1,024 shards; the message names the limit."""
    with pytest.raises(ValueError, match=f"1 to {MAX_SHARDS}, not {shards}"):
        Broker(url="unix:///nowhere", shards=shards)
