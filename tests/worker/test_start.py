"""The command: what it says when it cannot start, and what it lists when asked."""

import subprocess
import sys
from pathlib import Path

import pytest

from headrace_worker.__main__ import main
from headrace_worker.settings import WorkerSettings
from worker.conftest import HERE, environment

APP = "sample_app:worker"


@pytest.fixture
def command(spawn):
    """`command("app:worker", lease="1")`: run the command to its end; returns exit code and output."""

    def run(*words: str, directory: Path = HERE, **settings: str) -> tuple[int, str]:
        process = spawn(
            "python", "-m", "headrace_worker", *words, directory=directory, environment=environment(**settings)
        )
        return process.wait(within=15), process.output

    return run


@pytest.fixture
def refused(monkeypatch, capsys):
    """`refused("app:worker", lease="1")`: the same in this process, for what is refused before anything is started."""

    def run(*words: str, **settings: str) -> tuple[int, str]:
        monkeypatch.chdir(HERE)
        monkeypatch.syspath_prepend(HERE)
        for name, value in environment(**settings).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            main(words)
        return end.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "the following arguments are required: TARGET"),
        (("sample_app",), "'sample_app' does not name a worker: write module:attribute"),
        (("no_such_app:worker",), "there is no module 'no_such_app' in "),
        (("sample_app:nothing",), "module 'sample_app' has no 'nothing'; its workers: sample_app:worker"),
        (("sample_app:Work",), "sample_app:Work is no Worker but of type type"),
        ((APP, "--lease", "0"), "lease"),
        ((APP, "--queues", "a b"), "queues"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(refused, words, complaint):
    """The fix is in the message, a traceback is not."""
    code, output = refused(*words)
    assert code == 2
    assert complaint in output.lower() if complaint.islower() else complaint in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"lease": "0.1"}, "headrace-worker: HEADRACE_LEASE: input should be greater than or equal to 0.5; got '0.1'"),
        ({"concurrency": "many"}, "headrace-worker: HEADRACE_CONCURRENCY: input should be a valid integer"),
        ({"redis_url": "http://x"}, "headrace-worker: HEADRACE_REDIS_URL: must begin with redis:"),
    ],
)
def test_a_wrong_setting_is_named_as_in_the_environment(refused, settings, complaint):
    """Exit code 2, and a value that may hold a password is not shown."""
    code, output = refused(APP, **settings)
    assert code == 2
    assert complaint in output
    assert "Traceback" not in output


def test_a_broken_module_is_shown_with_file_and_line(command, tmp_path):
    """The user's line, not ours."""
    (tmp_path / "broken.py").write_text("x = 1\nif x\n")
    code, output = command("broken:worker", directory=tmp_path)
    assert code == 2
    assert f"{tmp_path}/broken.py:2: SyntaxError: expected ':'" in output
    assert "Traceback" not in output


def test_a_worker_without_handlers_is_refused(command, tmp_path):
    """It would turn every job into a dead letter."""
    (tmp_path / "empty.py").write_text("from headrace_worker import Worker\nworker = Worker()\n")
    code, output = command("empty:worker", directory=tmp_path)
    assert code == 1
    assert 'the worker has no handlers: register one with @worker.handler("type")' in output


def test_a_store_that_does_not_answer_is_waited_for_and_then_named(command):
    """Without the password of its URL."""
    code, output = command(APP, redis_url="redis://user:secret@127.0.0.1:1/0", store_timeout="0.3")
    assert code == 1
    assert "no store answers at redis://127.0.0.1:1/0 within 0.3 s: " in output
    assert "Start Valkey or Redis there, or set HEADRACE_REDIS_URL" in output
    assert "secret" not in output
    assert "Traceback" not in output


def test_a_store_that_refuses_the_login_is_not_waited_for(command, own_valkey):
    """No patience makes a password right: the worker ends at once, says which setting is wrong, and not what it was."""
    wrong = own_valkey().url.replace("unix://", "unix://nobody:hunter2@", 1)
    code, output = command(APP, redis_url=wrong, store_timeout="60")
    assert code == 1
    assert "refuses the login: " in output
    assert "Set HEADRACE_REDIS_URL with the right user and password" in output
    assert "waiting for the store" not in output
    assert "hunter2" not in output


def test_a_store_that_comes_up_late_is_waited_for(own_valkey, spawn):
    """Within the start's patience the worker becomes ready by itself."""
    store = own_valkey()
    store.kill()
    worker = spawn(
        "python", "-m", "headrace_worker", APP, directory=HERE, environment=environment(redis_url=store_url(store))
    )
    worker.wait_for_line("waiting for the store")
    store.start_again()
    worker.wait_for_line("worker ready")


def test_a_worker_that_waits_for_its_store_can_be_stopped(spawn):
    """SIGTERM ends it at once, in order."""
    nowhere = environment(redis_url="redis://127.0.0.1:1/0")
    worker = spawn("python", "-m", "headrace_worker", APP, directory=HERE, environment=nowhere)
    worker.wait_for_line("waiting for the store")
    assert worker.stop(within=2) == 0


def store_url(store):
    """The URL of a store that may be down."""
    return f"unix://{store.data}/valkey.sock"


def test_a_store_that_would_evict_jobs_is_refused_with_the_fix(command, own_valkey):
    """Exit code 1, and the command that puts it right."""
    store = own_valkey("--maxmemory-policy", "allkeys-lru")
    code, output = command(APP, redis_url=store.url)
    assert code == 1
    assert "maxmemory-policy is allkeys-lru" in output
    assert "CONFIG SET maxmemory-policy noeviction" in output
    assert "Traceback" not in output


def test_help_lists_every_setting_with_its_variable_and_default(command):
    """And says what each one means."""
    code, output = command("--help")
    assert code == 0
    flat = " ".join(output.split())
    for name, field in WorkerSettings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in flat
        assert f"HEADRACE_{name.upper()}" in flat
        assert " ".join((field.description or "?").split())[:40] in flat
    assert "--reload" in flat


def test_the_script_and_the_module_are_the_same_command(command):
    """`headrace-worker` and `python -m headrace_worker` differ in nothing."""
    script = subprocess.run(
        [sys.executable.replace("python", "headrace-worker"), "no_such:worker"],
        capture_output=True, text=True, check=False, cwd=HERE,
    )  # fmt: skip
    code, output = command("no_such:worker")
    assert (script.returncode, script.stderr.strip()) == (code, output.strip())


def test_a_program_of_its_own_can_run_its_worker(spawn, tmp_path, valkey, namespace):
    """`worker.run()` at the end of a script is all it takes; SIGTERM drains it."""
    (tmp_path / "program.py").write_text(
        "from headrace_worker import Worker\n"
        "worker = Worker()\n"
        "@worker.handler('x')\n"
        "async def x(): ...\n"
        "if __name__ == '__main__':\n"
        "    worker.run()\n"
    )
    environ = environment(redis_url=valkey, namespace=namespace)
    program = spawn("python", str(tmp_path / "program.py"), environment=environ)
    program.wait_for_line("worker ready")
    assert program.stop() == 0
