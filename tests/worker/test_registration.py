"""Workers and handlers: what is accepted, and what is refused with which words."""

import functools
from dataclasses import dataclass
from datetime import timedelta

import pytest

from headrace_worker import Context, Worker
from headrace_worker._handler import Kind


@dataclass
class Mail:
    to: str


async def nothing():
    """Takes nothing."""


async def payload_only(payload):
    """Takes the payload."""


async def context_only(ctx):
    """Takes the context, by its name."""


async def both(payload, context):
    """Takes both, by their names."""


async def swapped(me: Context, mail: Mail):
    """Takes both, the other way round, by their annotations."""


async def text_annotations(mail: "Mail", me: "Context"):
    """Takes both, its annotations written as text."""


async def optional_context(mail: Mail, me: Context | None = None):
    """Takes both, the context with a default."""


async def with_defaults(payload: dict, *, verbose: bool = False):
    """Takes the payload, and an option that is left alone."""


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (nothing, ()),
        (payload_only, ({"to": "me"},)),
        (context_only, ("CONTEXT",)),
        (both, ({"to": "me"}, "CONTEXT")),
        (swapped, ("CONTEXT", Mail(to="me"))),
        (text_annotations, (Mail(to="me"), "CONTEXT")),
        (optional_context, (Mail(to="me"), "CONTEXT")),
        (with_defaults, ({"to": "me"},)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_handler_gets_what_its_parameters_ask_for(function, arguments):
    """Payload and context are told apart by annotation, then by name, whatever their order."""
    worker = Worker()
    assert worker.handler("a.type")(function) is function
    signature = worker.handlers["a.type"].signature
    assert signature.arguments(b'{"to":"me"}', "application/json", "CONTEXT") == arguments


async def two_payloads(one, two):
    """Impossible."""


async def two_contexts(ctx, context):
    """Impossible."""


async def spread(*values: int):
    """Impossible."""


async def keywords(**values: int):
    """Impossible."""


async def forced(*, payload):
    """Impossible."""


async def unknown_annotation(mail: "Missing"):  # noqa: F821  that is the point
    """Impossible."""


async def odd_annotation(mail: Worker):
    """Impossible."""


async def late_context(payload, option=1, ctx=None):
    """Impossible."""


async def yields():
    """Impossible."""
    yield 1


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (two_payloads, "what is 'two'? a handler takes (payload), (payload, ctx), (ctx) or ()"),
        (two_contexts, "takes the context 2 times"),
        (spread, "it takes *values: int"),
        (keywords, "it takes **values: int"),
        (forced, "keyword-only parameter 'payload' has no default"),
        (unknown_annotation, "the annotation 'Missing' of 'mail' cannot be resolved"),
        (odd_annotation, "no payload can be decoded to the annotation of 'mail'"),
        (late_context, "must be its first two parameters"),
        (yields, "it yields"),
        (None, "it is not a function"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_impossible_handler_is_refused_where_it_is_registered(function, complaint):
    """The message names the handler, its place in the code, and what is wrong."""
    with pytest.raises(TypeError) as refusal:
        Worker().handler("a.type")(function)
    assert complaint in str(refusal.value)
    assert "handler 'a.type'" in str(refusal.value)
    if function is not None:
        assert f"{function.__name__}, {__file__}:" in str(refusal.value)


class Service:
    """Handlers as methods and callable objects."""

    def method(self, payload):
        """A bound method."""

    async def __call__(self, payload) -> None:
        """A callable object."""


def at_the_top():
    """Importable by another process."""


@pytest.mark.parametrize(
    ("function", "process", "kind"),
    [
        (nothing, False, Kind.LOOP),
        (Service(), False, Kind.LOOP),
        (functools.partial(both, context=None), False, Kind.LOOP),
        (at_the_top, False, Kind.THREAD),
        (Service().method, False, Kind.THREAD),
        (lambda payload: payload, False, Kind.THREAD),
        (at_the_top, True, Kind.PROCESS),
    ],
)
def test_async_functions_run_on_the_loop_and_others_in_threads_or_processes(function, process, kind):
    """What a function is decides where it runs."""
    worker = Worker()
    worker.handler("a.type", process=process)(function)
    assert worker.handlers["a.type"].kind is kind


def test_a_process_handler_must_be_importable():
    """A lambda, a nested function or a coroutine function cannot run in another process, and is told so."""
    with pytest.raises(TypeError, match="at the top of a module"):
        Worker().handler("a.type", process=True)(lambda: None)
    with pytest.raises(TypeError, match="takes a plain `def`"):
        Worker().handler("a.type", process=True)(nothing)


def test_one_type_has_one_handler():
    """A second handler for a type is a mistake, not an override."""
    worker = Worker()
    worker.handler("a.type")(nothing)
    with pytest.raises(ValueError, match=r"already a handler for type 'a\.type'"):
        worker.handler("a.type")(payload_only)


@pytest.mark.parametrize("timeout", [0.25, timedelta(milliseconds=250)])
def test_a_timeout_is_seconds_or_a_timedelta(timeout):
    """Both ways of writing a duration mean the same."""
    worker = Worker()
    worker.handler("a.type", timeout=timeout)(nothing)
    assert worker.handlers["a.type"].timeout_ms == 250


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"queues": ()}, "one or more different names"),
        ({"queues": ("a", "a")}, "one or more different names"),
        ({"queues": ("a b",)}, "queue 'a b': a name is 1 to 128"),
        ({"queues": ("x" * 129,)}, "a name is 1 to 128"),
        ({"concurrency": 0}, "concurrency must be a whole number from 1 to 10,000, not 0"),
        ({"concurrency": 2.5}, "not 2.5"),
        ({"concurrency": True}, "not True"),
        ({"processes": -1}, "processes must be a whole number from 1 to 1,000, not -1"),
        ({"fatal": [ValueError, "x"]}, "fatal must be exception types, and 'x' is none"),
    ],
)
def test_a_worker_refuses_what_it_cannot_do(arguments, complaint):
    """Every argument is checked where it is given."""
    with pytest.raises((TypeError, ValueError)) as refusal:
        Worker(**arguments)
    assert complaint in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "arguments", "complaint"),
    [
        ("", {}, "job type ''"),
        ("a:b", {}, "job type 'a:b'"),
        ("a", {"timeout": 0}, "timeout is 0 s"),
        ("a", {"timeout": float("nan")}, "timeout is nan s"),
        ("a", {"timeout": timedelta(days=8)}, "it must be from 0.001 s to 7 days"),
        ("a", {"timeout": "5"}, "timeout must be a number of seconds or a timedelta, not str"),
        ("a", {"fatal": ValueError("x")}, "fatal must be exception types"),
    ],
)
def test_a_registration_refuses_what_it_cannot_do(kind, arguments, complaint):
    """Every argument is checked where it is given."""
    with pytest.raises((TypeError, ValueError)) as refusal:
        Worker().handler(kind, **arguments)(nothing)
    assert complaint in str(refusal.value)


def test_one_queue_may_be_given_as_a_plain_string():
    """`queues="mail"` means that queue, not four queues of one letter."""
    assert Worker(queues="mail").queues == ("mail",)
