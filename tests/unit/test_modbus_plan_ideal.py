"""The plan makes no more requests than the fewest that can be, also of a device with holes."""

import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusPointOptions
from protocols.modbus.plan import Plan
from shared.model import Point

DEVICE: Final = ModbusDeviceOptions(host="device")
MOST: Final = 125
GAP: Final = 8
READS: Final = 12
"""So many reads a plan may take to learn a device."""


def fewest(registers: Sequence[int], holes: set[int]) -> int:
    """Count the fewest requests for these registers: of every way to part them, the best.

    A request takes at most 125 registers, none that the device does not know, and reads along at
    most 8 at once.
    """
    known = sorted(set(registers) - holes)
    best = [0, *([len(known)] * len(known))]
    for end in range(1, len(known) + 1):
        start = end
        while start and _may_share(known[start - 1 : end], holes):
            best[end] = min(best[end], best[start - 1] + 1)
            start -= 1
    return best[-1]


def _may_share(registers: Sequence[int], holes: set[int]) -> bool:
    gaps = [later - earlier - 1 for earlier, later in pairwise(registers)]
    covered = range(registers[0], registers[-1] + 1)
    return len(covered) <= MOST and max(gaps, default=0) <= GAP and not holes & set(covered)


def learned(registers: Sequence[int], holes: set[int]) -> Plan:
    """Give the plan after some reads of a device that does not know `holes`."""
    plan = Plan(
        [PointSource(Point(f"p{at}"), ModbusPointOptions(register=at)) for at in registers], DEVICE
    )
    for _ in range(READS):
        at = 0
        answered = []
        while at < len(plan.blocks):
            block = plan.blocks[at]
            if not holes & set(range(block.span.start, block.span.end)):
                answered.append(block.span)
                at += 1
            elif len(block.spans) > 1:
                plan.halve(block)
            else:
                plan.bury(block, now_s=0)
        plan.learn(answered)
        plan.tidy()
    return plan


@given(st.lists(st.integers(0, 1_500), min_size=1, max_size=150, unique=True))
def test_without_holes_no_plan_has_fewer_requests(registers: list[int]) -> None:
    assert len(learned(registers, set()).blocks) == fewest(registers, set())


@pytest.mark.parametrize("density", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("count", [1, 4, 15])
def test_what_is_learned_of_holes_costs_no_more_requests_than_needed(
    density: float, count: int
) -> None:
    made = needed = 0
    for seed in range(4):
        rng = random.Random(seed)
        registers = [at for at in range(400) if rng.random() < density]
        holes = set(rng.sample(range(400), count))
        made += len(learned(registers, holes).blocks)
        needed += fewest(registers, holes)
    assert made <= 1.1 * needed


def test_a_plan_that_learns_nothing_would_be_told() -> None:
    registers = list(range(0, 500, 2))
    holes = {99, 201, 301}
    unlearned = Plan(
        [PointSource(Point(f"p{at}"), ModbusPointOptions(register=at)) for at in registers],
        ModbusDeviceOptions(host="device", max_gap=0),
    )
    assert len(unlearned.blocks) > 1.1 * fewest(registers, holes)
