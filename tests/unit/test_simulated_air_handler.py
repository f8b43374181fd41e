"""The modelled air handler behaves like a real one: physical, by day and by night."""

import math

import pytest

from protocols.simulated.air_handler import MINUTES_A_DAY, ZONES, simulate
from protocols.simulated.hvac import hvac
from protocols.simulated.recording import Recording

Rows = list[dict[str, float]]
DAY = slice(8 * 60, 18 * 60)
NIGHT = slice(0, 6 * 60)


def simulated(mean: float, set_point: float) -> Rows:
    """Simulate a day whose outdoor temperature swings by 5 K around its mean."""
    outdoor = [
        mean - 5 * math.cos(2 * math.pi * (minute / MINUTES_A_DAY - 0.15))
        for minute in range(2 * MINUTES_A_DAY)
    ]
    return simulate(outdoor, set_point, seed=3)


def column(rows: Rows, name: str) -> list[float]:
    return [row[name] for row in rows]


def mean_of(rows: Rows, name: str) -> float:
    return sum(column(rows, name)) / len(rows)


@pytest.fixture(params=[(-12.0, 18.3), (4.0, 12.8), (14.0, 12.8), (26.0, 12.8)], scope="module")
def rows(request: pytest.FixtureRequest) -> Rows:
    return simulated(*request.param)


def test_everything_stays_in_its_physical_range(rows: Rows) -> None:
    for row in rows:
        for name, value in row.items():
            if name.endswith(("valve", "damper", "speed")):
                assert 0 <= value <= 100, name
            elif "temp" in name and name != "outdoor_temp":
                assert 3 <= value <= 36, name
        assert 0 <= row["static_pressure"] <= 400
        assert all(0 <= row[f"zone{zone}_airflow"] <= 1_800 for zone in range(1, ZONES + 1))


def test_the_fan_runs_by_day_and_rests_at_night(rows: Rows) -> None:
    assert set(column(rows[DAY], "supply_fan_status")) == {1.0}
    assert set(column(rows[NIGHT], "supply_fan_status")) == {0.0}
    assert 55 <= mean_of(rows[DAY], "supply_fan_speed") <= 100
    assert set(column(rows[NIGHT], "supply_fan_speed")) == {20.0}
    assert mean_of(rows[DAY], "static_pressure") == pytest.approx(349, abs=5)
    assert max(column(rows[NIGHT], "static_pressure")) < 1


def test_the_supply_air_is_held_at_its_set_point_by_day(rows: Rows) -> None:
    errors = [row["supply_temp"] - row["supply_temp_setpoint"] for row in rows[DAY]]
    assert max(map(abs, errors)) < 3
    assert abs(sum(errors) / len(errors)) < 0.7


def test_the_supply_air_drifts_towards_the_building_at_night(rows: Rows) -> None:
    assert 18 < rows[5 * 60]["supply_temp"] < 25


def test_zones_stay_comfortable_by_day(rows: Rows) -> None:
    for zone in range(1, ZONES + 1):
        temperatures = column(rows[DAY], f"zone{zone}_temperature")
        assert min(temperatures) > 20
        assert max(temperatures) < 26


def test_mixed_air_lies_between_outdoor_and_return_air(rows: Rows) -> None:
    for row in rows[DAY]:
        low, high = sorted((row["outdoor_temp"], row["return_temp"]))
        assert low - 1 <= row["mixed_temp"] <= high + 1


def test_heat_is_cooled_away_and_frost_is_heated() -> None:
    summer, winter = simulated(28, 12.8), simulated(-12, 18.3)
    assert mean_of(summer[DAY], "cooling_valve") > 40
    assert mean_of(summer[DAY], "heating_valve") == 0
    assert mean_of(winter[DAY], "heating_valve") > 40
    assert mean_of(winter[DAY], "cooling_valve") == 0


def test_the_economiser_opens_in_mild_weather_and_closes_in_heat_and_frost() -> None:
    assert mean_of(simulated(13, 12.8)[DAY], "outdoor_damper") > 80
    assert mean_of(simulated(28, 12.8)[DAY], "outdoor_damper") == pytest.approx(40, abs=1)
    assert mean_of(simulated(-12, 18.3)[DAY], "outdoor_damper") == pytest.approx(40, abs=1)


def test_midnight_is_no_jump() -> None:
    handler = hvac(Recording.load(2), 2)[0]
    day_us = MINUTES_A_DAY * 60_000_000
    for day in range(1_000, 1_010):
        before = handler.values(day * day_us - 1)
        after = handler.values(day * day_us + 1)
        assert abs(before["ahu1/supply_temp"] - after["ahu1/supply_temp"]) <= 0.5
        assert abs(before["ahu1/mixed_temp"] - after["ahu1/mixed_temp"]) <= 0.5
