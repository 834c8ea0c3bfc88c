"""What people type: durations, times and labels."""

from datetime import UTC, datetime, timedelta

import pytest
import typer

from headrace.cli._options import parse_duration, parse_labels, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3s", 3),
        ("1m30s", 90),
        ("2h", 7_200),
        ("500ms", 0.5),
        ("1d2h3m4s5ms", 93_784.005),
        ("1.5h", 5_400),
        ("90", 90),
        ("0", 0),
        ("0.25", 0.25),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """Numbers with units add up; a bare number is seconds."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "s", "3 s", "-3s", "3x", "1h-2m", "soon", "1e3s", ".5s", "9" * 30 + "d", "٣s "])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else is refused, with examples."""
    with pytest.raises(typer.BadParameter, match="duration"):
        parse_duration(text)


def test_times_are_read() -> None:
    """ISO 8601 with a zone is that moment; without one it is local time."""
    assert parse_time("2026-11-24T12:00:00Z") == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert parse_time("2026-11-24T12:00:00+02:00") == datetime(2026, 11, 24, 10, tzinfo=UTC)
    assert parse_time("2026-11-24 12:00") == datetime(2026, 11, 24, 12).astimezone()


@pytest.mark.parametrize("text", ["", "tomorrow", "24.11.2026", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Anything else is refused, with examples."""
    with pytest.raises(typer.BadParameter, match="ISO 8601"):
        parse_time(text)


def test_labels_are_read() -> None:
    """The first = parts key and value; a value may be empty."""
    assert parse_labels(["a=b", "c=d=e", "f="]) == {"a": "b", "c": "d=e", "f": ""}


@pytest.mark.parametrize("texts", [["a"], ["=b"], ["a=1", "a=2"]])
def test_what_is_no_label_is_refused(texts: list[str]) -> None:
    """A label without key or =, or one that is given twice, is refused."""
    with pytest.raises(typer.BadParameter, match=r"not KEY=VALUE|given twice"):
        parse_labels(texts)
