"""The checker passes a true story, and finds each single thing that is spoilt in it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.quality import Flag, Reason, bad
from tests.chaos.arrived import EpochTotals, Gap, Series
from tests.chaos.evidence import (
    START_US,
    STEP_US,
    Story,
    with_bit_flipped,
    with_gaps,
    with_quality,
    with_row_again,
    with_series,
    without_row,
)
from tests.chaos.findings import Kind
from tests.chaos.intervals import Intervals
from tests.chaos.judgement import Evidence, judge
from tests.chaos.timetable import Thresholds, Timetable, read_timetable
from tests.chaos.truth import Fault, TruthBroken, read_truth

POWER, COUNTER = "meter1/power", "meter1/counter"
ROOM, ROOM_COUNTER = "room1/power", "room1/counter"


@pytest.fixture
def evidence() -> Evidence:
    return Story().evidence()


def kinds(evidence: Evidence) -> set[Kind]:
    return set(judge(evidence).findings.counts)


def with_events(evidence: Evidence, events: tuple[tuple[int, str], ...]) -> Evidence:
    assert evidence.timetable is not None
    return replace(evidence, timetable=replace(evidence.timetable, events=events))


def moved(gap: Gap, side: str, to: int) -> Gap:
    return replace(gap, from_us=to) if side == "from_us" else replace(gap, to_us=to)


def events_of(evidence: Evidence) -> tuple[tuple[int, str], ...]:
    assert evidence.timetable is not None
    return evidence.timetable.events


def test_a_true_story_passes_and_its_last_line_says_so(evidence: Evidence) -> None:
    verdict = judge(evidence)

    assert verdict.findings.lines() == []
    assert verdict.passed
    assert verdict.lines()[-1] == (
        "produced 760 delivered 760 collapsed 0 quarantined 0 pending 0 gaps 0 lost 0 doubled 0"
    )
    assert verdict.share is not None
    assert verdict.share > 0.99


@pytest.mark.parametrize("key", [POWER, COUNTER, ROOM, ROOM_COUNTER])
def test_one_lost_reading_is_found(evidence: Evidence, key: str) -> None:
    spoilt = with_series(evidence, key, lambda series: without_row(series, 30))

    verdict = judge(spoilt)

    assert Kind.LOST in verdict.findings.counts
    assert verdict.lost > 0
    assert "lost 0" not in verdict.last_line()


@pytest.mark.parametrize(("device", "later_us"), [("meter1", 5), ("room1", 1), ("room1", 250_000)])
def test_one_doubled_sample_is_found(evidence: Evidence, device: str, later_us: int) -> None:
    spoilt = with_series(
        evidence, f"{device}/counter", lambda series: with_row_again(series, 20, later_us)
    )

    verdict = judge(spoilt)

    assert verdict.findings.counts[Kind.DOUBLED] == 1
    assert verdict.last_line().endswith("doubled 1")


def test_a_value_doubled_without_its_counter_is_found(evidence: Evidence) -> None:
    spoilt = with_series(evidence, ROOM, lambda series: with_row_again(series, 20, 7))

    assert Kind.UNEXPLAINED in kinds(spoilt)


@pytest.mark.parametrize("key", [POWER, ROOM])
def test_one_wrong_bit_is_found(evidence: Evidence, key: str) -> None:
    spoilt = with_series(evidence, key, lambda series: with_bit_flipped(series, 120))

    assert kinds(spoilt) == {Kind.DIFFERENT}


def test_a_good_value_that_came_as_bad_is_found(evidence: Evidence) -> None:
    spoilt = with_series(
        evidence, POWER, lambda series: with_quality(series, 3, bad(Reason.TIMEOUT))
    )

    assert kinds(spoilt) == {Kind.DIFFERENT}


def test_a_missing_value_that_came_as_good_is_found(evidence: Evidence) -> None:
    spoilt = with_series(evidence, ROOM, lambda series: with_quality(series, 49, 0))

    assert Kind.DIFFERENT in kinds(spoilt)


def test_a_counter_that_was_never_served_is_found(evidence: Evidence) -> None:
    def beyond(series: Series) -> Series:
        value = series.value.copy()
        value[-1] = 5_000.0
        return replace(series, value=value)

    assert Kind.UNEXPLAINED in kinds(with_series(evidence, COUNTER, beyond))


def test_a_pushed_sample_at_another_time_is_found_unless_it_says_so(evidence: Evidence) -> None:
    def moved(series: Series) -> Series:
        at = series.at.copy()
        at[10] += 1
        return replace(series, at=at)

    def flagged(series: Series) -> Series:
        return with_quality(moved(series), 10, Flag.TIME_ADJUSTED)

    both = (ROOM, ROOM_COUNTER)
    silent, told = evidence, evidence
    for key in both:
        silent, told = with_series(silent, key, moved), with_series(told, key, flagged)

    assert kinds(silent) == {Kind.WRONG_TIME}
    assert kinds(told) == set()


def test_a_polled_answer_stamped_before_it_was_served_is_found(evidence: Evidence) -> None:
    def early(series: Series) -> Series:
        at = series.at.copy()
        at[10] -= 1_000
        return replace(series, at=at)

    spoilt = with_series(with_series(evidence, POWER, early), COUNTER, early)

    assert kinds(spoilt) == {Kind.WRONG_TIME}


def test_a_loss_without_a_gap_is_found(evidence: Evidence) -> None:
    spoilt = with_gaps(evidence, lambda gap: None if POWER in gap.keys else gap)

    verdict = judge(spoilt)

    assert verdict.findings.counts[Kind.LOST] == verdict.lost == 20


def test_a_gap_of_one_point_does_not_excuse_another(evidence: Evidence) -> None:
    spoilt = with_gaps(evidence, lambda gap: replace(gap, keys=gap.keys - {POWER}))

    assert judge(spoilt).findings.counts[Kind.LOST] == 10


@pytest.mark.parametrize("side", ["from_us", "to_us"])
def test_a_gap_that_covers_a_delivered_sample_is_found(evidence: Evidence, side: str) -> None:
    step = -1 if side == "from_us" else 1
    spoilt = with_gaps(evidence, lambda gap: moved(gap, side, getattr(gap, side) + step))

    assert Kind.IN_GAP in kinds(spoilt)


@pytest.mark.parametrize("side", ["from_us", "to_us"])
def test_a_gap_that_ends_at_a_lost_sample_does_not_cover_it(evidence: Evidence, side: str) -> None:
    room = evidence.truth.devices[1]
    edge = int(room.at_us[99 if side == "from_us" else 108])

    spoilt = with_gaps(evidence, lambda gap: moved(gap, side, edge) if ROOM in gap.keys else gap)

    assert judge(spoilt).findings.counts[Kind.LOST] == 2


def test_a_gap_longer_than_planned_is_found(evidence: Evidence) -> None:
    story = Story(lost=range(99, 116))  # 17 lost, where the kill explains 10 + 3
    assert story.evidence().timetable is not None
    spoilt = replace(story.evidence(), timetable=evidence.timetable)

    assert kinds(spoilt) == {Kind.GAP_SECONDS, Kind.TOO_SMALL}
    assert evidence.timetable is not None


def test_a_fault_of_a_device_is_planned_down_time_of_that_device_alone(evidence: Evidence) -> None:
    story = Story(lost=range(99, 116)).evidence()
    fault = Fault("meter1", "refuse", START_US + 99 * STEP_US, START_US + 116 * STEP_US)
    told = replace(story, truth=replace(story.truth, faults=(fault,)), timetable=evidence.timetable)

    silences = {silence.device: silence for silence in judge(told).silences}

    assert silences["meter1"].gap_s <= silences["meter1"].allowed_s
    assert silences["room1"].gap_s > silences["room1"].allowed_s


@pytest.mark.parametrize("side", ["gateway_killed", "central_killed"])
def test_too_few_kills_fail_the_run(evidence: Evidence, side: str) -> None:
    assert evidence.timetable is not None
    more = replace(evidence.timetable.thresholds, kills=2)
    other = "central_killed" if side == "gateway_killed" else "gateway_killed"
    events = (*events_of(evidence), (START_US + 200 * STEP_US, other))
    spoilt = replace(evidence, timetable=replace(evidence.timetable, thresholds=more))

    verdict = judge(with_events(spoilt, events))

    assert verdict.findings.counts[Kind.TOO_SMALL] == 1
    name = side.removesuffix("_killed")
    assert f"kills of {name}: 1" in str(verdict.lines())


def test_a_run_whose_log_was_never_wiped_fails(evidence: Evidence) -> None:
    events = tuple(event for event in events_of(evidence) if event[1] != "log_wiped")

    assert kinds(with_events(evidence, events)) == {Kind.TOO_SMALL}


def test_too_few_readings_fail_the_run(evidence: Evidence) -> None:
    assert evidence.timetable is not None
    more = Thresholds(produced=761, kills=1)
    spoilt = replace(evidence, timetable=replace(evidence.timetable, thresholds=more))

    assert kinds(spoilt) == {Kind.TOO_SMALL}


def test_a_run_that_mostly_was_not_read_fails() -> None:
    story = Story(lost=range(20, 180)).evidence()
    assert story.timetable is not None
    events = tuple(event for event in story.timetable.events if event[1] != "gateway_killed")
    short = with_events(story, ((START_US, "gateway_killed"), *events))

    verdict = judge(short)

    assert verdict.share is not None
    assert verdict.share < 0.95
    assert Kind.TOO_SMALL in verdict.findings.counts


def test_the_default_thresholds_are_those_of_the_proof() -> None:
    assert Thresholds() == Thresholds(100_000, kills=20, wipes=1, delivered_share=0.95)


@pytest.mark.parametrize(
    "field", ["delivered", "collapsed", "quarantined", "gaps", "elsewhere", "imbalance"]
)
def test_a_ledger_that_disagrees_with_central_is_found(evidence: Evidence, field: str) -> None:
    wrong = replace(evidence.books, **{field: getattr(evidence.books, field) + 1})

    assert kinds(replace(evidence, books=wrong)) == {Kind.BOOKS}


def test_pending_readings_fail_the_run(evidence: Evidence) -> None:
    wrong = replace(evidence.books, pending=3, produced=evidence.books.produced + 3)

    assert kinds(replace(evidence, books=wrong)) == {Kind.PENDING}


def test_a_reading_that_was_produced_and_is_nowhere_is_lost(evidence: Evidence) -> None:
    wrong = replace(evidence.books, produced=evidence.books.produced + 4)

    verdict = judge(replace(evidence, books=wrong))

    assert verdict.findings.counts[Kind.SHORT] == verdict.lost == 4


def test_rows_that_vanished_after_they_were_settled_are_found(evidence: Evidence) -> None:
    # Both sides' counts agree; only the rows themselves tell.
    spoilt = with_series(evidence, ROOM, lambda series: without_row(series, 60))

    assert {Kind.BOOKS, Kind.LOST, Kind.SHORT} <= kinds(spoilt)


def test_settled_totals_without_rows_are_found(evidence: Evidence) -> None:
    more = (EpochTotals(7, ((0, 9),), evidence.arrived.rows + 5, 0, 0),)
    spoilt = replace(evidence, arrived=replace(evidence.arrived, epochs=more))

    assert kinds(spoilt) == {Kind.BOOKS}


@pytest.mark.parametrize("seqs", [((0, 3), (5, 9)), ((1, 9),)])
def test_a_batch_that_never_settled_is_found(
    evidence: Evidence, seqs: tuple[tuple[int, int], ...]
) -> None:
    epochs = (replace(evidence.arrived.epochs[0], seqs=seqs),)

    assert kinds(replace(evidence, arrived=replace(evidence.arrived, epochs=epochs))) == {
        Kind.BOOKS
    }


def test_dropped_readings_must_be_counted_alike_on_both_sides(evidence: Evidence) -> None:
    def dropped(count: int | None) -> Evidence:
        gap = replace(evidence.arrived.gaps[0], cause="dropped", count=count)
        gaps = (gap, *evidence.arrived.gaps[1:])
        books = replace(evidence.books, gaps=6, produced=evidence.books.produced + 6)
        return replace(evidence, books=books, arrived=replace(evidence.arrived, gaps=gaps))

    assert kinds(dropped(6)) == set()
    assert kinds(dropped(5)) == {Kind.BOOKS}
    assert kinds(dropped(None)) == {Kind.BOOKS}


def test_without_a_timetable_gap_seconds_and_size_are_said_to_be_unjudged(
    evidence: Evidence,
) -> None:
    verdict = judge(replace(evidence, timetable=None))

    assert verdict.passed
    assert sum("not judged" in line for line in verdict.lines()) == 2


def test_samples_before_the_gateway_came_and_after_the_calm_are_not_judged() -> None:
    story = Story(lost=range(0)).evidence()
    late = (START_US + 150 * STEP_US + 1, "calm")
    early = (START_US + 20 * STEP_US, "gateway_ready")
    rest = [event for event in events_of(story) if event[1].endswith(("killed", "wiped"))]
    cut = with_events(story, (early, *rest, late))

    for key in cut.arrived.series:
        cut = with_series(cut, key, lambda series: without_row(series, 199))
        cut = with_series(cut, key, lambda series: without_row(series, 2))

    assert judge(cut).lost == 8  # committed and nowhere: the books know
    assert Kind.LOST not in judge(cut).findings.counts


def test_intervals_are_open_and_touching_ones_leave_their_border_out() -> None:
    union = Intervals.union([(10, 20), (20, 30), (25, 40), (50, 50)])

    inside = union.hold(np.array([10, 11, 19, 20, 21, 39, 40, 50]))

    assert union.pairs() == [(10, 20), (20, 40)]
    assert inside.tolist() == [False, True, True, False, True, True, False, False]
    assert union.without(Intervals.union([(15, 25)])).pairs() == [(10, 15), (25, 40)]


def test_two_million_readings_are_judged_quickly_enough_to_be_judged_in_tests() -> None:
    story = Story(samples=500_000)  # x 2 devices x 2 points

    assert judge(story.evidence()).arrived.rows == 4 * (500_000 - 10)


def write_truth(folder: Path, lines: list[object]) -> None:
    building = {
        "run": "b",
        "devices": {"m": {"protocol": "modbus", "points": ["m/a", "m/counter"]}},
    }
    (folder / "building.json").write_text(json.dumps(building))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "m.jsonl").write_text(text)


def line_of(counter: int, at_us: int, value: float | None = 1.5) -> dict[str, object]:
    values = {"m/a": value, "m/counter": counter}
    return {"device": "m", "counter": counter, "at_us": at_us, "values": values}


def test_only_the_run_that_the_building_names_is_read(tmp_path: Path) -> None:
    old = [{"run": "a", "at_us": 1}, line_of(1, 2)]
    write_truth(tmp_path, [*old, {"run": "b", "at_us": 3}, line_of(1, 4), line_of(2, 5, None)])

    (device,) = read_truth(tmp_path).devices

    assert device.at_us.tolist() == [4, 5]
    assert np.array_equal(device.values, [[1.5, 1], [np.nan, 2]], equal_nan=True)


@pytest.mark.parametrize(
    "lines",
    [[line_of(2, 5)], [line_of(1, 5), line_of(3, 6)], [line_of(1, 5), line_of(2, 5)]],
    ids=["begins late", "skips one", "stands still"],
)
def test_a_truth_that_cannot_be_true_is_refused(tmp_path: Path, lines: list[object]) -> None:
    write_truth(tmp_path, [{"run": "b", "at_us": 3}, *lines])

    with pytest.raises(TruthBroken):
        read_truth(tmp_path)


def test_a_timetable_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    run = {
        "commit_window_s": 0.2,
        "intervals_s": {"m": 0.1},
        "thresholds": {"produced": 5, "kills": 1, "wipes": 0, "victims": ["kafka"]},
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "events.jsonl").write_text('{"at_us": 3, "event": "calm"}\n')

    assert read_timetable(tmp_path) == Timetable(
        ((3, "calm"),), 0.2, {"m": 0.1}, Thresholds(5, 1, 0, victims=("kafka",))
    )


def test_the_checker_runs_as_a_script_and_says_what_it_needs() -> None:
    script = Path(__file__).with_name("checker.py")

    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 2
    assert "--gateway-data" in done.stderr
