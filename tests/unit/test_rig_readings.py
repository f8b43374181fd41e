"""The rig's judge tells what was lost, declared, doubled and never asked for."""

from collections.abc import Sequence
from pathlib import Path

from bench.rig.layout import UNITS, Layout
from bench.rig.products import telegraf, thingsboard
from bench.rig.readings import Arrival, Gap, Name, Verdict, judge, served

LAYOUT = Layout(2)
READ: list[Name] = [
    (unit, point, at_ms)
    for at_ms in (1_000, 2_000, 3_000)
    for unit in LAYOUT.units
    for point in range(LAYOUT.points)
]
BETWEEN = (500.0, 3_500.0)


def arrived(names: Sequence[Name], late_ms: float = 20.0) -> list[Arrival]:
    return [Arrival(name, name[2] + late_ms) for name in names]


def verdict(
    names: Sequence[Name], gaps: Sequence[Gap] = (), units: Sequence[int] | None = None
) -> Verdict:
    return judge(LAYOUT, BETWEEN, READ, arrived(names), gaps, units)


def test_when_all_that_was_read_arrives_nothing_is_lost() -> None:
    found = verdict(READ)
    assert (found.due, found.read, found.missed) == (60, 60, 0)
    assert (found.lost, found.declared, found.doubled) == (0, 0, 0)
    assert found.to_json()["age_ms"] == found.to_json()["age_p99_ms"] == 20


def test_one_reading_that_does_not_arrive_is_lost() -> None:
    assert verdict(READ[1:]).lost == 1


def test_a_lost_reading_in_a_declared_gap_is_told_apart() -> None:
    gap = Gap(frozenset({READ[0][:2]}), 900, 1_100)
    found = verdict(READ[2:], [gap])
    assert (found.lost, found.declared) == (2, 1)


def test_one_reading_that_arrives_twice_is_doubled() -> None:
    assert verdict([*READ, READ[5]]).doubled == 1


def test_a_poll_that_was_not_made_is_missed_and_not_lost() -> None:
    found = judge(LAYOUT, BETWEEN, READ[:-4], arrived(READ[:-4]))
    assert (found.missed, found.lost) == (4, 0)


def test_units_can_be_judged_without_the_others() -> None:
    others = [unit for unit in LAYOUT.units if unit != 3]
    without = [name for name in READ if name[0] != 3]
    assert verdict(without).lost == 6
    assert verdict(without, units=others).lost == 0
    assert verdict(without, units=others).due == 6 * (UNITS - 1)


def test_a_read_of_registers_holds_the_points_that_are_whole_in_it(tmp_path: Path) -> None:
    log = tmp_path / "served.txt"
    log.write_text("7 1 0 4\n9 2 1 3\n11 3 0 1\n")
    assert list(served(log, LAYOUT)) == [(1, 0, 7), (1, 1, 7), (2, 1, 9)]


def test_what_the_peers_publish_is_read() -> None:
    line = b"modbus,name=fleet,slave_id=7,type=holding_register p0=12i,p1=34u 1790000000000000000\n"
    assert list(telegraf().parse(line)) == [(7, 0, 12), (7, 1, 34)]
    payload = b'{"u3": [{"ts": 1, "values": {"p0": 12}}, {"ts": 2, "values": {"p1": 34}}]}'
    assert list(thingsboard().parse(payload)) == [(3, 0, 12), (3, 1, 34)]
