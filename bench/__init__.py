"""The benchmark: `python -m bench`, or `make bench`. What it measures is in bench/rows, what it is compared with in
bench/peers, and how to read the numbers in docs/performance.md.

Every measurement starts a fresh store and real processes, warms up, and is repeated; what is printed is the median.
"""
