"""The fixtures of all rooms live in harness/; each of its modules says what it offers."""

pytest_plugins = (
    "harness.waiting",
    "harness.processes",
    "harness.stores",
    "harness.pairs",
    "harness.topologies",
    "harness.disk",
    "harness.clocks",
    "harness.report",
)
