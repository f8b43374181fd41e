"""The bench's Modbus stage measures two readers that give the same values."""

from bench.modbus import DEVICES, POINTS, run


def test_both_sides_of_the_stage_read_the_same_and_are_measured() -> None:
    result = run(rounds=2, quick=True)  # it asserts itself that both gave the served values
    assert result.rounds == 2
    assert result.baseline_rate is not None
    assert result.ratio == result.cpu_us_per_1000 / float(str(result.baseline["cpu_us_per_1000"]))
    assert min(result.rate, result.baseline_rate, result.cpu_us_per_1000) > 0
    assert (result.ours["connections"], result.ours["points"]) == (DEVICES, POINTS)
