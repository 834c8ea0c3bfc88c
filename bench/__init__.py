"""The benchmark: `python -m bench`, or `make bench`. What it measures is in bench/rows, what it is compared with in
bench/peers. Its results are worth something on a machine that does nothing else; it says so where it is busy.

Every measurement starts a fresh store and real processes, warms up, and is repeated; what is printed is the median.

Beside it, `python -m bench.loss`, or `make loss`: how many acknowledged jobs a crash of the store loses.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # bench.loss stands on tests/harness
