"""What all scripts have in common: their headers, the laws that can be read off their text, and how they are loaded."""

import re
from pathlib import Path

import pytest

from broker.audit import patterns
from broker.moves import BOOM, LEASE_OVER, WORKER, age, claim, finish, ids, make_due, make_expired, now_ms
from broker.state import A, B, C, D, all_keys, ident, new
from headrace_broker import Broker, Failed, Finished, Held, State, Succeeded
from headrace_broker._repair import RepairStep
from headrace_broker.job import DAY, HOUR
from headrace_broker.queues import Queues
from headrace_broker.scripts import PRELUDE, load, names, source

NAMES = names()
METHODS = {name: getattr(Broker, name, None) for name in NAMES} | {
    "progress": Broker.report_progress,
    "pause": Queues.pause,
    "resume": Queues.resume,
    "stats": Queues.get_many,
}
GROWS = {"enqueue", "requeue"}
"""Scripts that bring new work, and are refused when memory is out. Promote is none of them: it moves what the store
holds already, and a due job that cannot move never ends, so a store full of scheduled jobs could never drain.
"""

_SLOT = re.compile(r"(?:KEYS|ARGV)\[\d+\]")
_COMMENT = re.compile(r"--.*$", re.MULTILINE)
_PCALL = re.compile(r"""pcall\(\s*'([A-Z]+)'(?:\s*,\s*'([A-Z]+)')?""")


def head(name: str) -> str:
    """Returns the comment lines at the beginning of a script."""
    lines = source(name).splitlines()[1:]
    return "\n".join(lines[: next(n for n, line in enumerate(lines) if not line.startswith("--"))])


def body(name: str) -> str:
    """Returns a script, and the prelude that it is loaded with, without comments."""
    return _COMMENT.sub("", source(PRELUDE) + source(name))


def test_there_are_scripts() -> None:
    """The package ships the scripts of this room."""
    assert NAMES == [
        "cancel", "claim", "delete", "depart", "enqueue", "expire", "finish", "forget", "pause", "progress", "promote",
        "reclaim", "renew", "repair", "requeue", "resume", "stats", "trim",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_a_script_loads(store_broker: Broker, name: str) -> None:
    """Each script compiles, and the store knows it under the name that it is called by."""
    script = load(name)
    assert await store_broker.redis.script_load(script.text) == script.sha


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_what_is_read(name: str) -> None:
    """Law 6: a script opens with `#!lua`, documents exactly the KEYS and ARGV that it reads, and its reply."""
    assert source(name).startswith(("#!lua\n", "#!lua flags=allow-oom\n"))
    assert set(_SLOT.findall(head(name))) == set(_SLOT.findall(body(name)))
    assert re.search(r"^-- Reply    \S", head(name), re.MULTILINE)
    reads_on = re.search(r"#ARGV|unpack\(ARGV", body(name)) is not None
    assert (re.search(r"^-- ARGV     \S", head(name), re.MULTILINE) is not None) == reads_on


@pytest.mark.parametrize("name", NAMES)
def test_only_new_work_is_refused_when_memory_is_out(name: str) -> None:
    """Law 6: under maxmemory new work is refused, running work completes."""
    first = source(name).splitlines()[0]
    assert first == ("#!lua" if name in GROWS else "#!lua flags=allow-oom")


@pytest.mark.parametrize("name", NAMES)
def test_no_error_of_a_write_is_swallowed(name: str) -> None:
    """No pcall, but where a group is made (it may exist), where one is read (it may be gone), and around one read."""
    found = _PCALL.findall(body(name))
    assert len(found) == body(name).count("pcall")
    assert set(found) <= {("XGROUP", "CREATE"), ("XREADGROUP", "GROUP"), ("HMGET", "")}


@pytest.mark.parametrize("name", NAMES)
def test_payloads_are_never_parsed(name: str) -> None:
    """No script uses cjson: it rounds large numbers, and confuses empty lists with empty objects."""
    assert not re.search(r"cjson|cmsgpack|struct\.", body(name))


@pytest.mark.parametrize("name", NAMES)
def test_time_is_the_store_s(name: str) -> None:
    """Law 2: only TIME says when it is."""
    assert "os.time" not in body(name)
    assert "os.clock" not in body(name)
    assert body(name).count("'TIME'") == 1


@pytest.mark.parametrize("name", NAMES)
def test_ack_and_delete_go_together(name: str) -> None:
    """Law 5: XACK and XDEL stand in one place, one after the other; no script trims a stream."""
    own = _COMMENT.sub("", source(name))
    assert not re.search(r"'(XACK|XDEL|XTRIM)'|MAXLEN", own)
    assert re.search(r"'XACK'[^\n]*\n\s*redis\.call\('XDEL'", body(name))


@pytest.mark.parametrize("name", NAMES)
def test_groups_are_made_at_the_beginning(name: str) -> None:
    """Law 5: every group is made at 0, never at $."""
    assert "'$'" not in body(name)
    assert re.findall(r"'XGROUP', 'CREATE', [^)]*\)", body(name)) == [
        "'XGROUP', 'CREATE', key, 'workers', '0', 'MKSTREAM')"
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_a_method_and_a_test_module(name: str) -> None:
    """One transition, one script, one method, one test module, one name."""
    assert callable(METHODS[name])
    assert (Path(__file__).parent / f"test_{name}.py").is_file()


async def test_all_keys_are_those_of_keys_py(store_broker: Broker) -> None:
    """After every script has run, each kind of key that keys.py knows is there, and no other."""
    now = await now_ms(store_broker)
    await exercise(store_broker, expire_time_ms=now + HOUR)

    allowed = patterns(store_broker.shard(0))
    found = await all_keys(store_broker)
    for key in found:
        [kind] = [kind for pattern, kind in allowed.items() if re.fullmatch(pattern, key)]
        assert (await store_broker.redis.type(key)).decode() == kind
    missing = [pattern for pattern in allowed if not any(re.fullmatch(pattern, key) for key in found)]
    assert missing == []


async def exercise(broker: Broker, *, expire_time_ms: int) -> None:
    """Runs every script so that it has something to do."""
    await broker.enqueue([new(name, expire_time_ms=expire_time_ms) for name in "abc"])
    await broker.enqueue([new("d", delay_ms=HOUR)])
    await claim(broker, 2)
    assert await broker.renew(worker=WORKER, held=[Held(job_id=A, token="t1")]) == [True]
    assert await broker.report_progress(A, "t1", fraction=0.1, message="")
    await age(broker, A, LEASE_OVER)
    assert (await broker.reclaim(shard=0, queues=["default"])).requeued == 1
    assert await finish(broker, B, Failed(failure=BOOM)) is Finished.WRITTEN
    await make_due(broker, D)
    assert (await broker.promote(shard=0, queues=["default"])).moved == 1
    await make_expired(broker, C)
    assert await broker.expire(shard=0, queues=["default"]) == 1
    assert await broker.trim(shard=0, queues=["default"], retention_ms=DAY) == 0
    await broker.forget(shard=0, queues=["default"])
    assert await broker.depart(worker="w9", queues=["default"]) == 0
    assert (await broker.dead_letters()).total == 1
    assert (await broker.queues.pause("default")).paused_at_ms is not None
    assert (await broker.queues.resume("default")).paused_at_ms is None
    assert (await broker.repair(RepairStep(shard=0, who="r1"))).kinds == {}
    await broker.enqueue([new("e", delay_ms=HOUR)])
    await broker.enqueue([new("f")])
    assert (await broker.cancel(ident("f"))).state is State.CANCELLED
    await broker.delete(ident("f"))
    await broker.enqueue([new("g")])
    assert ids(await claim(broker, 5, token="t2"))[-1] == ident("g")
    assert await finish(broker, ident("g"), Failed(failure=BOOM), token="t2") is Finished.WRITTEN
    assert len((await broker.dead_letters(page_size=1)).next_page_token) > 0
    assert (await broker.requeue_dead_letters(job_ids=[ident("g")])).done == 1


async def test_scripts_that_the_store_has_forgotten_are_taught_again(spare_broker: Broker) -> None:
    """After SCRIPT FLUSH, a restart or a failover every script works at its next call (F17)."""
    for name in NAMES:
        assert await spare_broker.redis.script_exists(load(name).sha) == [False]

    await exercise(spare_broker, expire_time_ms=await now_ms(spare_broker) + HOUR)

    for name in NAMES:
        assert await spare_broker.redis.script_exists(load(name).sha) == [True]


async def test_a_store_that_forgets_all_the_time_loses_nothing(spare_broker: Broker) -> None:
    """100 jobs go through while SCRIPT FLUSH runs between all calls."""
    for n in range(100):
        await spare_broker.enqueue([new(f"n{n}")])
        await spare_broker.redis.script_flush()
        [job] = (await claim(spare_broker, token=f"t{n}")).jobs
        await spare_broker.redis.script_flush()
        assert await finish(spare_broker, job.job_id, Succeeded(), token=f"t{n}") is Finished.WRITTEN
    assert await spare_broker.redis.hgetall(spare_broker.shard(0).queue("default")) == {
        b"QUEUED": b"0",
        b"PROCESSING": b"0",
        b"SUCCEEDED": b"100",
    }
