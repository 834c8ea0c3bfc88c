"""module:attribute, and what is said when there is no worker there."""

import sys

import pytest

from headrace_worker import Worker
from headrace_worker._load import CannotLoad, load

GOOD = "from headrace_worker import Worker\nworker = Worker()\nother = 5\n"


@pytest.fixture
def code(tmp_path, monkeypatch):
    """`code(name, text)`: a module in the current directory, forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    path_before, modules_before = list(sys.path), set(sys.modules)

    def write(name, text):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    yield write
    sys.path[:] = path_before
    for name in set(sys.modules) - modules_before:
        del sys.modules[name]


def test_a_worker_in_the_current_directory_is_found(code):
    """The current directory is on the path, in whichever way the process was started."""
    code("good_app", GOOD)
    assert isinstance(load("good_app:worker"), Worker)


def test_a_worker_in_a_package_or_an_object_is_found(code):
    """Dots work on both sides of the colon."""
    code("deep_app/__init__", "")
    code("deep_app/jobs", GOOD + "class Box:\n    inner = worker\n")
    assert isinstance(load("deep_app.jobs:Box.inner"), Worker)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("bad_app", "'bad_app' does not name a worker: write module:attribute, such as app:worker"),
        (":worker", "':worker' does not name a worker"),
        ("bad_app:", "'bad_app:' does not name a worker"),
        ("bad_app.py:worker", "'bad_app.py' is a file: write its module, bad_app:worker"),
        ("./jobs/bad_app.py:worker", "write its module, jobs.bad_app:worker"),
        ("no_such_app:worker", "there is no module 'no_such_app' in "),
        ("bad_app:missing", "module 'bad_app' has no 'missing'; its workers: bad_app:worker"),
        ("bad_app:other", "bad_app:other is no Worker but of type int; its workers: bad_app:worker"),
    ],
)
def test_a_wrong_target_is_answered_with_the_fix(code, target, complaint):
    """One line says what to write instead."""
    code("bad_app", GOOD)
    with pytest.raises(CannotLoad) as refusal:
        load(target)
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = (\n\ndef f(:\n", "broken_app.py:3: SyntaxError: invalid syntax"),
        ("x = 1\nimport no_such_thing\n", "broken_app.py:2: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def f():\n    return 1 / 0\nf()\n", "broken_app.py:2: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", "broken_app.py:1: SystemExit: 3"),
        (
            "from headrace_worker import Worker\nworker = Worker()\n@worker.handler('x')\ndef f(a, b): ...\n",
            "broken_app.py:3: TypeError: handler 'x' (f, ",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_shown_with_file_and_line(code, text, complaint):
    """The line is the user's, not one of the import machinery or of headrace."""
    code("broken_app", text)
    with pytest.raises(CannotLoad) as refusal:
        load("broken_app:worker")
    assert complaint in str(refusal.value)
    assert "module 'broken_app' cannot be imported" in str(refusal.value)


def test_a_module_without_a_worker_is_told_to_make_one(code):
    """Nothing to guess from, so the message shows the line to add."""
    code("empty_app", "x = 1\n")
    with pytest.raises(CannotLoad, match=r"it has no Worker at all: add  worker = Worker\(\)"):
        load("empty_app:worker")
