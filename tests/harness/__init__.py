"""What the tests of all rooms share: real stores, real processes, and waiting without sleeping."""
