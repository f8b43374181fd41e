"""Which requests read a plan's points, and what is learned of holes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusPointOptions
from protocols.modbus.plan import WRONG_ADDRESS, Plan
from protocols.modbus.spans import Span, hull, limit_of, merge, middle_of
from shared.errors import OptionsWrong
from shared.model import Point

DEVICE = ModbusDeviceOptions(host="device", max_gap=8)
ADDRESSES = st.lists(st.integers(0, 3_000), min_size=1, max_size=200)


def sources(*addresses: int, table: str = "holding", kind: str = "uint16") -> list[PointSource]:
    return [
        PointSource(
            Point(f"p{row}"),
            ModbusPointOptions.model_validate(
                {"register": address, "table": table, "type": "bool" if table == "coil" else kind}
            ),
        )
        for row, address in enumerate(addresses)
    ]


def asked(plan: Plan) -> list[tuple[int, int]]:
    return [(block.span.start, block.count) for block in plan.blocks]


def test_neighbours_share_a_request() -> None:
    assert asked(Plan(sources(4, 0, 2, kind="float32"), DEVICE)) == [(0, 6)]


def test_a_gap_is_read_along_up_to_its_limit() -> None:
    assert asked(Plan(sources(0, 9), DEVICE)) == [(0, 10)]
    assert asked(Plan(sources(0, 10), DEVICE)) == [(0, 1), (10, 1)]


def test_a_request_asks_for_no_more_than_125_registers() -> None:
    assert asked(Plan(sources(*range(0, 240, 2), kind="float32"), DEVICE)) == [(0, 124), (124, 116)]


def test_a_request_asks_for_no_more_than_2000_coils() -> None:
    assert asked(Plan(sources(*range(2_500), table="coil"), DEVICE)) == [
        (0, 2_000),
        (2_000, 500),
    ]


def test_tables_do_not_share_a_request() -> None:
    points = sources(0) + sources(1, table="input") + sources(2, table="coil")
    assert len(Plan(points, DEVICE).blocks) == 3


@given(ADDRESSES, st.integers(0, 125), st.integers(4, 125))
def test_every_span_is_in_exactly_one_request_within_the_limits(
    addresses: list[int], gap: int, most: int
) -> None:
    device = ModbusDeviceOptions(host="device", max_gap=gap, max_registers=most)
    spans = {Span("holding", address, address + 2) for address in addresses}
    runs = merge(spans, device)
    assert [span for run in runs for span in run] == sorted(spans)
    assert all(hull(run).end - hull(run).start <= most for run in runs)
    assert all(b.start - a.end <= gap for run in runs for a, b in pairwise(run))
    for earlier, later in pairwise(runs):  # and none could have been saved
        both = hull(earlier + later[:1])
        too_long = both.end - both.start > limit_of("holding", device)
        assert too_long or later[0].start - hull(earlier).end > gap


@given(ADDRESSES.filter(lambda addresses: len(set(addresses)) > 1))
def test_halving_stays_in_the_middle_half(addresses: list[int]) -> None:
    spans = [Span("input", address, address + 1) for address in sorted(set(addresses))]
    middle = middle_of(spans)
    assert 0 < middle < len(spans)
    assert len(spans) // 4 <= middle <= len(spans) - len(spans) // 4


def test_halving_prefers_the_widest_gap() -> None:
    spans = [Span("input", at, at + 1) for at in (0, 1, 2, 9, 10, 11)]
    assert middle_of(spans) == 3


def isolate(plan: Plan, holes: set[int]) -> int:
    """Read as the driver does, of a device that does not know `holes`; count the requests."""
    plan.tidy()
    at = requests = 0
    answered = []
    while at < len(plan.blocks):
        block = plan.blocks[at]
        requests += 1
        if not holes & set(range(block.span.start, block.span.end)):
            answered.append(block.span)
            at += 1
        elif len(block.spans) > 1:
            plan.halve(plan.blocks[at])
        else:
            plan.bury(block, now_s=0)
    plan.learn(answered)
    plan.tidy()
    return requests


def test_a_hole_costs_few_requests_once_and_one_more_later() -> None:
    plan = Plan(sources(*range(100)), DEVICE)
    assert isolate(plan, {37}) <= 16
    assert asked(plan) == [(0, 37), (38, 62)]
    assert isolate(plan, {37}) == 2


def test_a_hole_in_a_gap_costs_no_point() -> None:
    plan = Plan(sources(*range(0, 100, 5)), DEVICE)
    isolate(plan, {37})
    assert plan.holes == []
    assert isolate(plan, {37}) == len(plan.blocks)


@given(ADDRESSES, st.sets(st.integers(0, 3_000), max_size=20))
def test_what_is_learned_settles_with_every_living_point_read(
    addresses: list[int], holes: set[int]
) -> None:
    plan = Plan(sources(*addresses), DEVICE)
    isolate(plan, holes)
    learned = asked(plan)
    assert isolate(plan, holes) == len(learned)
    assert asked(plan) == learned
    dead = {row for row, address in enumerate(addresses) if address in holes}
    assert set((plan.quality() == WRONG_ADDRESS).nonzero()[0].tolist()) == dead
    read = sorted(row for block in plan.blocks for row in block.rows.tolist())
    assert read == sorted(set(range(len(addresses))) - dead)


def test_a_device_that_takes_small_requests_only_is_learned_in_a_few_reads() -> None:
    plan = Plan(sources(*range(100)), DEVICE)
    refused = []
    for _ in range(4):
        at = 0
        refused.append(0)
        answered = []
        while at < len(plan.blocks):
            if plan.blocks[at].count > 30:
                refused[-1] += 1
                plan.halve(plan.blocks[at])
            else:
                answered.append(plan.blocks[at].span)
                at += 1
        plan.learn(answered)
        plan.tidy()
    assert refused == [3, 0, 0, 0]
    assert sum(count for _, count in asked(plan)) == 100


def test_a_hole_is_due_after_its_time_and_joins_the_others_when_filled() -> None:
    plan = Plan(sources(*range(10)), DEVICE)
    isolate(plan, {4})
    assert plan.due_hole(now_s=299) is None
    hole = plan.due_hole(now_s=300)
    assert hole is not None
    plan.keep(hole, now_s=300)
    assert plan.due_hole(now_s=301) is None
    plan.fill(hole)
    plan.tidy()
    assert asked(plan) == [(0, 10)]
    assert plan.quality().tolist() == [0] * 10


def test_a_plan_of_holes_only_still_asks_for_one() -> None:
    plan = Plan(sources(3), DEVICE)
    isolate(plan, {3})
    assert plan.due_hole(now_s=1) is not None


def test_options_of_another_driver_are_refused_by_the_points_key() -> None:
    with pytest.raises(OptionsWrong, match="p0"):
        Plan([PointSource(Point("p0"), DEVICE)], DEVICE)
