"""bench/tally.py: what the counts of a benchmark rest on."""

from pathlib import Path

import pytest
from bench.numbers import Measurement, percentile, throughput
from bench.tally import Count, Reader, Tally


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tally of this process goes."""
    monkeypatch.setenv("BENCH_TALLY", str(tmp_path))
    return tmp_path


def test_lost_and_repeated_runs_are_counted(directory: Path) -> None:
    """Of jobs 0 to 9, those that never ran are lost, and each further run of one is a duplicate."""
    tally, reader = Tally(), Reader(directory)
    for number in (0, 1, 2, 3, 3, 3, 9):
        tally.ran(number)

    assert reader.look() == 7
    assert reader.count(10) == Count(done=5, lost=5, duplicated=2)


def test_a_reader_goes_on_where_it_was(directory: Path) -> None:
    """Each run is read once, in the order in which it was recorded."""
    tally, reader = Tally(), Reader(directory)
    assert reader.look() == 0
    for number in range(3):
        tally.ran(number)
        assert reader.look() == number + 1
    assert [run.number for run in reader.runs] == [0, 1, 2]
    assert [run.at for run in reader.runs] == sorted(run.at for run in reader.runs)


def test_numbers() -> None:
    """A throughput leaves the first tenth out; a percentile is one of the values; the spread is a share."""
    assert throughput([0.0, *(10 + n / 100 for n in range(99))]) == pytest.approx(100, rel=0.02)
    assert percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert percentile([5, 1, 4, 2, 3], 0.99) == 5
    one = Measurement(row="r", contender="c", unit="u", values=(8, 10, 12))
    assert (one.median, one.spread) == (10, pytest.approx(0.4))
