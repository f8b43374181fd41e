"""The simulated devices' values: measured, repeatable, and consistent in themselves."""

import csv
import gzip
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

import protocols.simulated
from protocols.simulated.building import Sources, sources_of
from protocols.simulated.electricity import Load
from protocols.simulated.recording import STEP_US, STEPS_A_DAY, Recording, Total
from protocols.simulated.replay import ORIGIN_US, Replay
from protocols.simulated.source import Source
from shared.clock import SystemClock, from_datetime

HOUR_US = 3_600_000_000
MOMENTS = [7 * 10**14 + 7_777_777 * number * 1_001 for number in range(50)]


def all_of(sources: Sources) -> tuple[Source, ...]:
    return (*sources.modbus, *sources.opcua, *sources.mqtt)


def shown(sources: Sources, moment: int) -> dict[str, str]:
    return {
        key: repr(value)
        for source in all_of(sources)
        for key, value in source.values(moment).items()
    }


@pytest.fixture(scope="module")
def sources() -> Sources:
    return sources_of(7)


def test_the_building_has_the_devices_it_promises(sources: Sources) -> None:
    assert [source.name for source in all_of(sources)] == [
        *(f"meter{number}" for number in range(1, 5)),
        "inverter1",
        "ahu1",
        *(f"vav{number}" for number in range(1, 4)),
        *(f"room{number}" for number in range(1, 13)),
    ]


def test_values_follow_from_seed_and_moment_alone(sources: Sources) -> None:
    again = sources_of(7)
    forwards = [shown(sources, moment) for moment in MOMENTS[:8]]
    backwards = [shown(again, moment) for moment in reversed(MOMENTS[:8])]
    assert forwards == backwards[::-1]


def test_another_seed_is_another_building(sources: Sources) -> None:
    other = sources_of(8)
    assert shown(sources, MOMENTS[0]) != shown(other, MOMENTS[0])


def test_every_device_gives_exactly_the_points_it_declares(sources: Sources) -> None:
    for source in all_of(sources):
        keys = [point.key for point in source.points]
        assert sorted(source.values(MOMENTS[3])) == sorted(keys)


def test_a_room_shows_the_recorded_value_at_the_recorded_moment(sources: Sources) -> None:
    room = sources.mqtt[2]
    recording = Recording.load(7)
    moment = 1_234 * STEP_US
    row = (1_234 + recording.first_row) % recording.rows
    recorded = recording.columns["room3_temperature"][row]
    assert room.values(moment)["room3/temperature"] == round(recorded, 2)


def test_time_of_day_is_kept_by_every_seed() -> None:
    for seed in range(5):
        recording = Recording.load(seed)
        assert recording.first_row % STEPS_A_DAY == 0
        assert recording.rows % STEPS_A_DAY == 0


def test_replayed_time_is_the_real_one_at_speed_1_and_runs_faster_at_50() -> None:
    at_us = from_datetime(datetime(2026, 5, 4, 15, 30, tzinfo=UTC))
    plain, fast = Replay(SystemClock(), 1.0), Replay(SystemClock(), 50.0)
    assert plain.replayed_us(at_us) % (24 * HOUR_US) == 15.5 * HOUR_US
    assert fast.replayed_us(at_us + 1_000_000) - fast.replayed_us(at_us) == 50_000_000
    assert plain.replayed_us(ORIGIN_US) == fast.replayed_us(ORIGIN_US) == 0


def test_energy_is_the_integral_of_power() -> None:
    recording = Recording({"wh": [30.0, 0.0, 90.0, 20.0]}, 0, 4)
    load = Load(recording, Total.of(recording.columns["wh"]))
    slices = 20_000
    width_us = 7 * STEP_US // slices
    summed_wh = sum(
        load.power_w(at * width_us + width_us // 2) * width_us / 3_600e6 for at in range(slices)
    )
    assert load.total_wh(7 * STEP_US) - load.total_wh(0) == pytest.approx(140 + 120, rel=1e-12)
    assert summed_wh == pytest.approx(260, rel=1e-4)


def test_meters_count_upwards_and_main_is_the_sum(sources: Sources) -> None:
    before = [meter.values(MOMENTS[0]) for meter in sources.modbus[:4]]
    after = [meter.values(MOMENTS[0] + 5 * HOUR_US) for meter in sources.modbus[:4]]
    grown = [
        later[f"meter{number}/energy"] - earlier[f"meter{number}/energy"]
        for number, (earlier, later) in enumerate(zip(before, after, strict=True), 1)
    ]
    assert min(grown) >= 0
    assert grown[0] == pytest.approx(sum(grown[1:]), rel=1e-6)
    assert grown[0] > 0.1


def test_the_inverter_sleeps_at_night_and_earns_at_noon(sources: Sources) -> None:
    midnight = MOMENTS[0] // (24 * HOUR_US) * 24 * HOUR_US
    days = [midnight + day * 24 * HOUR_US for day in range(30)]
    nights = [sources.modbus[4].values(day + HOUR_US) for day in days]
    noons = [sources.modbus[4].values(day + 12 * HOUR_US) for day in days]
    assert {night["inverter1/ac_power"] for night in nights} == {0.0}
    assert {night["inverter1/state"] for night in nights} == {2.0}
    assert all(200 < noon["inverter1/ac_power"] < 7_000 for noon in noons)
    assert {noon["inverter1/state"] for noon in noons} == {4.0}


def test_nothing_but_the_missing_quantity_is_missing(sources: Sources) -> None:
    missing = {
        key
        for source in all_of(sources)
        for key, value in source.values(MOMENTS[5]).items()
        if not math.isfinite(value)
    }
    assert missing == {"meter4/neutral_current"}


def test_the_extract_is_small_and_tells_where_it_comes_from() -> None:
    folder = Path(protocols.simulated.__file__).parent / "data"
    assert (folder / "rooms.csv.gz").stat().st_size <= 500_000
    notice = (folder / "README.md").read_text(encoding="utf-8")
    assert "Candanedo" in notice
    assert "CC BY 4.0" in notice
    with gzip.open(folder / "rooms.csv.gz", "rt", encoding="utf-8") as file:
        names = next(csv.reader(file))
    assert all(f"room{number}_temperature" in names for number in range(1, 10))
