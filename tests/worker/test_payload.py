"""Payloads to values, values to results."""

import dataclasses
import datetime as dt
import enum
import uuid

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_worker._payload import BadAnnotation, BadPayload, BadResult, decode_any, decoder, encode

JSON = "application/json"
MIB = 1024 * 1024


@dataclasses.dataclass
class Place:
    city: str
    zip: int


@dataclasses.dataclass
class Person:
    name: str
    home: Place
    tags: list[str] = dataclasses.field(default_factory=list)


class Model(pydantic.BaseModel):
    n: int = pydantic.Field(ge=0)


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("payload", "content_type", "value"),
    [
        (b'{"a":[1,2.5,null,true,"x"]}', JSON, {"a": [1, 2.5, None, True, "x"]}),
        (b"9007199254740993", JSON, 9007199254740993),
        (b"null", JSON, None),
        (b"", JSON, None),
        (b"{}", "application/json; charset=utf-8", {}),
        (b"[]", "application/vnd.api+json", []),
        ("grün".encode(), "text/plain", "grün"),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
    ],
)
def test_without_an_annotation_the_content_type_decides(payload, content_type, value):
    """JSON is any JSON value, text is str, everything else stays bytes."""
    assert decode_any(payload, content_type) == value


@given(payload=st.binary(), content_type=st.sampled_from([JSON, "text/plain", "x/y"]))
def test_bytes_take_any_payload_as_it_is(payload, content_type):
    """`bytes` means: hands off."""
    assert decoder(bytes)(payload, content_type) == payload


@given(payload=st.binary())
def test_no_payload_whatsoever_raises_anything_but_bad_payload(payload):
    """Garbage is a verdict on the payload, never a crash of the worker."""
    for annotation in (None, str, dict, Person, Model, list[int]):
        for content_type in (JSON, "text/plain", "application/octet-stream"):
            try:
                decoder(annotation)(payload, content_type)
            except BadPayload:
                continue


@pytest.mark.parametrize(
    ("payload", "content_type"), [(b"plain", "text/plain"), (b'"plain"', JSON), (b"plain", "application/xml")]
)
def test_str_takes_text_and_json_strings(payload, content_type):
    """`str` means text, in whichever of its two forms a producer sent it."""
    assert decoder(str)(payload, content_type) == "plain"


def test_a_dataclass_is_filled_and_checked_down_to_its_nested_fields():
    """A dataclass annotation gives an instance, its fields instances of theirs."""
    payload = b'{"name":"Ada","home":{"city":"Ulm","zip":89073}}'
    assert decoder(Person)(payload, JSON) == Person(name="Ada", home=Place(city="Ulm", zip=89073))


def test_a_pydantic_model_is_filled_and_checked():
    """A model annotation gives an instance."""
    assert decoder(Model)(b'{"n":3}', JSON) == Model(n=3)


@pytest.mark.parametrize(
    ("annotation", "payload", "content_type", "complaint"),
    [
        (None, b"{", JSON, "is not JSON: EOF"),
        (None, b"NaN", JSON, "is not JSON"),
        (None, b"[" * 10_000, JSON, "recursion limit"),
        (None, b"\xff", "text/plain", "is not UTF-8: invalid start byte at byte 0"),
        (str, b"[1]", JSON, "takes a string, the payload is JSON of another kind: list"),
        (Person, b'{"name":"Ada","home":{"city":"Ulm","zip":"x"}}', JSON, "home.zip: Input should be a valid integer"),
        (Person, b"{}", JSON, "name: Field required; home: Field required"),
        (Person, b"{}", "text/plain", "takes JSON, the payload's content type is 'text/plain'"),
        (Model, b'{"n":-1}', JSON, "n: Input should be greater than or equal to 0"),
        (list[int], b"{}", JSON, "payload: Input should be a valid array"),
        (list[int], b"[" + b'"x",' * 30 + b"1]", JSON, "and 20 more"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place_and_problem(annotation, payload, content_type, complaint):
    """The message names the field and what is wrong with it."""
    with pytest.raises(BadPayload) as refusal:
        decoder(annotation)(payload, content_type)
    assert complaint in str(refusal.value)


def test_a_refusal_does_not_quote_the_payload():
    """Payloads may hold secrets; failures are shown to people."""
    with pytest.raises(BadPayload) as refusal:
        decoder(Person)(b'{"name":"Ada","home":{"city":"Ulm","zip":"hunter2"}}', JSON)
    assert "hunter2" not in str(refusal.value)


def test_an_annotation_that_nothing_can_be_decoded_to_is_refused():
    """It is a mistake in the handler, found before the first job."""
    with pytest.raises(BadAnnotation, match="Unable to generate pydantic-core schema"):
        decoder(type("Odd", (), {}))


MOMENT = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "result", "content_type"),
    [
        (None, None, JSON),
        (b"\x00\x01", b"\x00\x01", "application/octet-stream"),
        (bytearray(b"ab"), b"ab", "application/octet-stream"),
        ("grün", '"grün"'.encode(), JSON),
        (0, b"0", JSON),
        (False, b"false", JSON),
        ({"a": [1, None]}, b'{"a":[1,null]}', JSON),
        (2**70, b"1180591620717411303424", JSON),
        (Person(name="Ada", home=Place("Ulm", 1)), b'{"name":"Ada","home":{"city":"Ulm","zip":1},"tags":[]}', JSON),
        (Model(n=1), b'{"n":1}', JSON),
        ([Model(n=1), Place("Ulm", 1)], b'[{"n":1},{"city":"Ulm","zip":1}]', JSON),
        (MOMENT, b'"2026-11-24T12:00:00Z"', JSON),
        (uuid.UUID(int=0), b'"00000000-0000-0000-0000-000000000000"', JSON),
        (Colour.RED, b'"red"', JSON),
        ((1, 2), b"[1,2]", JSON),
    ],
)
def test_what_handlers_return_becomes_a_result(value, result, content_type):
    """None is no result, bytes stay bytes, the rest is JSON."""
    assert encode(value, limit=MIB) == (result, content_type)


@pytest.mark.parametrize(
    "value",
    [object(), float("nan"), [float("inf")], {"a": lambda: 0}, {(1, 2): 3}, "\ud800", Place(object(), float("nan"))],
    ids=["object", "nan", "infinity", "function", "tuple as key", "half a character", "object in a dataclass"],
)
def test_what_is_no_json_value_is_a_bad_result(value):
    """Nothing is written that a reader could not parse."""
    with pytest.raises(BadResult, match="is not JSON"):
        encode(value, limit=MIB)


def test_a_value_that_contains_itself_is_a_bad_result():
    """A cycle is refused, not followed."""
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(BadResult, match="is not JSON"):
        encode(cycle, limit=MIB)


@pytest.mark.parametrize("value", [b"x" * 11, "x" * 9, list(range(20))])
def test_a_result_beyond_the_limit_is_a_bad_result(value):
    """The message says how long it is and what the limit is."""
    with pytest.raises(BadResult, match=r"has \d+ bytes, more than the limit of 10"):
        encode(value, limit=10)
    assert encode(b"x" * 10, limit=10)[0] == b"x" * 10
