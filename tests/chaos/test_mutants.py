"""The mutants stay in step with the code that they break. Whether each is caught, `make mutants` shows."""

from pathlib import Path

import pytest

from chaos.mutants import MUTANTS, ROOT, Mutant, plant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place(mutant: Mutant, tmp_path: Path) -> None:
    """The text that it replaces is in its file once, and what it names as its hunters exists."""
    plant(mutant, tmp_path)

    changed = tmp_path / Path(mutant.file).relative_to(Path(mutant.file).parts[0])
    assert changed.read_text() == (ROOT / mutant.file).read_text().replace(mutant.old, mutant.new)
    for name in mutant.caught_by:
        path, _, test = name.partition("::")
        assert mutant.by_chaos or f"def {test}" in (ROOT / path).read_text()
