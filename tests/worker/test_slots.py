"""How many jobs may be claimed."""

import asyncio

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headrace_worker._slots import UNWRITTEN, Slots

SIZE = 8


class SlotsMachine(RuleBasedStateMachine):
    """Any order of claims, ends and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(SIZE)
        self.running = 0
        self.unwritten = 0

    @precondition(lambda self: self.slots.free > 0)
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        """Takes all free slots, and gives back those that were not filled."""
        free = self.slots.free
        self.slots.take(free)
        filled = data.draw(st.integers(0, free))
        self.slots.give_back(free - filled)
        self.running += filled

    @precondition(lambda self: self.running > 0)
    @rule()
    def end(self) -> None:
        """A handler ends; its outcome is not written yet."""
        self.slots.ended()
        self.running -= 1
        self.unwritten += 1

    @precondition(lambda self: self.unwritten > 0)
    @rule()
    def write(self) -> None:
        """An outcome is written."""
        self.slots.written()
        self.unwritten -= 1

    @invariant()
    def never_more_than_its_size_run(self) -> None:
        """And what is free is exactly what does not run, as long as outcomes can be written."""
        assert 0 <= self.running <= SIZE
        assert self.slots.free == min(SIZE - self.running, SIZE + UNWRITTEN - self.running - self.unwritten)

    @invariant()
    def waits_end_exactly_when_a_slot_is_free(self) -> None:
        """`available` returns at once if and only if something is free."""
        assert self.slots._freed.is_set() == (self.slots.free > 0)


TestSlots = SlotsMachine.TestCase


async def test_while_outcomes_cannot_be_written_claiming_stops():
    """An outage of the store does not pile up outcomes without bound."""
    slots = Slots(1)
    for _ in range(UNWRITTEN + 1):
        slots.take(1)
        slots.ended()
    assert slots.free == 0
    waiting = asyncio.create_task(slots.available())
    await asyncio.wait([waiting], timeout=0.01)
    assert not waiting.done()
    slots.written()
    await asyncio.wait_for(waiting, 1)
