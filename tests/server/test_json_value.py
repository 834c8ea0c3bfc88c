"""JSON text as a Value, and back: no number ever changes."""

import json

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from headrace_server._json_value import MAX_DEPTH, MAX_READABLE, from_json, to_json
from headrace_server._violations import Violations

SAFE = 2**53 - 1
KEYS = st.text(st.characters(codec="utf-8"), max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.floats(-SAFE, SAFE) | KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def _rendered(value: Value) -> bytes:
    bad = Violations()
    text = to_json(value, field="job.json", bad=bad)
    bad.check()
    return text


@given(JSON)
def test_there_and_back(plain: object):
    """Whatever JSON can say within the exact numbers survives the way in and the way out."""
    value = from_json(json.dumps(plain))
    assert value is not None
    text = _rendered(value)
    assert json.loads(text) == plain
    assert from_json(text.decode()) == value


@given(JSON)
def test_the_text_is_canonical(plain: object):
    """Rendering is a function of the value alone: compact, sorted, UTF-8."""
    text = _rendered(from_json(json.dumps(plain)))
    expected = json.dumps(json.loads(text), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    assert text == expected.encode()


@pytest.mark.parametrize("text", ["0", "1.5", "0.1", "1e3", "-1.25e-7", str(SAFE), str(-SAFE), "5e-324", "1.10"])
def test_exact_numbers_are_shown(text: str):
    """A number that a double says exactly is shown as JSON."""
    assert from_json(text).number_value == float(text)


@pytest.mark.parametrize(
    "text",
    [
        str(2**53),
        "-9007199254740993",
        "1" * 400,
        "0.10000000000000000555",
        "12345678901234.56789",
        "1e400",
        "1e-400",
        "1e-99999999999999999999",
        "9007199254740992.0",
        "1e21",
        "NaN",
        "[Infinity]",
        '{"a":1,"a":2}',
        '"\\ud800"',
        "-0",
        "",
        "{",
        "\ufeff1",
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        "[" * 100_000,
        " " * MAX_READABLE + "1",
    ],
    ids=lambda text: text[:25],
)
def test_what_would_change_is_not_shown(text: str):
    """Content that a Value would change, or could not carry to the client, is not shown as JSON."""
    assert from_json(text) is None


def test_the_deepest_value_can_be_read():
    """A value of the greatest depth is small enough for the parsers of clients."""
    levels = MAX_DEPTH - 1
    value = from_json('{"a":' * levels + "1" + "}" * levels)
    assert Value.FromString(value.SerializeToString()) == value
    assert MessageToDict(value)["a"]["a"]


def test_empty_containers_stay():
    """An empty object, list and string are not nothing."""
    assert _rendered(from_json('[{},[],""]')) == b'[{},[],""]'
