"""How a run went, apart from its readings: stops, logs, fights. Each check is shown to fail."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.chaos.complaints import Complaints, read_complaints
from tests.chaos.evidence import START_US, STEP_US, Story
from tests.chaos.findings import Kind
from tests.chaos.judgement import Evidence, Verdict, judge
from tests.chaos.pauses import FILE_NAME, Progress, read_progress

LOST_US = START_US + 2_000_000
SECOND_US = 1_000_000


def at(*seconds: float) -> Progress:
    """Tell of a thing that went on at these moments after the loss."""
    times = [LOST_US + round(second * SECOND_US) for second in seconds]
    return Progress({"readings settled": np.array(times, np.int64)})


def judged(progress: Progress | None, *, until_s: float = 45.0) -> Verdict:
    """Judge a run that is good but for what stood still after a server was lost."""
    evidence = Story().evidence()
    assert evidence.timetable is not None
    until_us = LOST_US + round(until_s * SECOND_US)
    events = (*evidence.timetable.events, (LOST_US, "server_lost"), (until_us, "loss_watched"))
    thresholds = replace(evidence.timetable.thresholds, losses=1)
    timetable = replace(evidence.timetable, events=tuple(sorted(events)), thresholds=thresholds)
    # The calm, and with it the end of what is judged, stays where it was.
    return judge(replace(evidence, timetable=timetable, progress=progress))


def test_what_goes_on_within_15_s_after_a_loss_passes() -> None:
    verdict = judged(at(-1.0, 0.5, 15.4, 29.0, 44.0))

    assert verdict.passed, verdict.lines()
    assert "a server was lost for good; longest stops: readings settled 15.0 s" in verdict.notes


@pytest.mark.parametrize(
    "moments",
    [(-1.0, 15.2, 30.0, 44.0), (1.0, 10.0, 20.0, 29.9), (-1.0,), (10.0, 25.5, 40.0)],
    ids=["slow to begin", "ends early", "never", "in the middle"],
)
def test_what_stands_still_for_longer_fails(moments: Sequence[float]) -> None:
    assert set(judged(at(*moments)).findings.counts) == {Kind.STOPPED}


def test_a_loss_that_nobody_watched_fails() -> None:
    assert set(judged(None).findings.counts) == {Kind.TOO_SMALL}


def test_a_server_lost_for_good_need_not_be_killed_as_often_as_the_others() -> None:
    evidence = Story().evidence()
    assert evidence.timetable is not None
    least = evidence.timetable.thresholds
    thresholds = replace(least, victims=(*least.victims, "kafka1", "kafka2"), kills=1)
    timetable = replace(evidence.timetable, thresholds=thresholds, lost=frozenset({"kafka2"}))

    verdict = judge(replace(evidence, timetable=timetable))

    text = "\n".join(verdict.lines())
    assert "kills of kafka1: 0, needs 1" in text
    assert "kafka2" not in text


def test_a_run_in_which_no_server_was_lost_fails_where_one_should_be() -> None:
    evidence = Story().evidence()
    assert evidence.timetable is not None
    thresholds = replace(evidence.timetable.thresholds, losses=1)
    timetable = replace(evidence.timetable, thresholds=thresholds)

    verdict = judge(replace(evidence, timetable=timetable, progress=at(0.0)))

    assert set(verdict.findings.counts) == {Kind.TOO_SMALL}


def test_a_pause_is_told_by_what_alone_can_have_caused_it() -> None:
    evidence = Story().evidence()
    assert evidence.timetable is not None
    first, second = START_US + 30 * SECOND_US, START_US + 60 * SECOND_US
    events = (
        *evidence.timetable.events,
        (first, "kafka_killed"),
        (first + SECOND_US, "kafka_ready"),
        (second, "kafka_killed"),
        (second, "line_cut"),
    )
    timetable = replace(evidence.timetable, events=events)
    times = [first - 100, first + 4 * SECOND_US, second - 100, second + 7 * SECOND_US]
    progress = Progress({"readings settled": np.array(times, np.int64)})

    verdict = judge(replace(evidence, timetable=timetable, progress=progress))

    assert "longest pauses, kafka killed: readings settled 4.0 s" in verdict.notes
    assert "longest pauses, several at once: readings settled 7.0 s" in verdict.notes


def test_progress_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    lines = [{"at_us": 5, "of": "a"}, {"at_us": 7, "of": "b"}, {"at_us": 9, "of": "a"}]
    (tmp_path / FILE_NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))

    progress = read_progress(tmp_path)

    assert progress is not None
    assert {name: times.tolist() for name, times in progress.times.items()} == {
        "a": [5, 9],
        "b": [7],
    }
    assert read_progress(tmp_path / "nowhere") is None


def said(folder: Path, *lines: str) -> Evidence:
    """Tell of a run in which storage wrote these lines."""
    (folder / "storage.log").write_text("".join(f"{line}\n" for line in lines))
    return replace(Story().evidence(), complaints=read_complaints(folder))


def test_an_exception_that_was_logged_fails_the_run(tmp_path: Path) -> None:
    exception = "Traceback (most recent call last):\n  File x\nKeyError: 'a'"
    line = {"event": "the writer failed", "level": "error", "exception": exception}

    verdict = judge(said(tmp_path, json.dumps(line)))

    assert set(verdict.findings.counts) == {Kind.UNEXPECTED}
    assert "storage.log: the writer failed: " in str(verdict.lines())
    assert "KeyError: 'a'" in str(verdict.lines())


def test_a_bare_traceback_fails_the_run(tmp_path: Path) -> None:
    verdict = judge(said(tmp_path, "Traceback (most recent call last):", "  File x", "KeyError"))

    assert set(verdict.findings.counts) == {Kind.UNEXPECTED}


def test_errors_that_were_told_are_counted_and_pass(tmp_path: Path) -> None:
    line = json.dumps({"event": "postgres died", "level": "error"})

    verdict = judge(said(tmp_path, line, line, '{"event": "cut off by a ki'))

    assert verdict.passed
    assert "said 2 times by storage.log: postgres died" in verdict.notes


@pytest.mark.parametrize(("records", "fenced"), [(0, 3), (3, 0)])
def test_a_rival_that_never_wrote_or_was_never_fenced_proves_nothing(
    tmp_path: Path, records: int, fenced: int
) -> None:
    tallies = [
        {"event": "tally", "records": records, "fenced": 0},
        {"event": "tally", "records": 0, "fenced": fenced},
    ]
    (tmp_path / "rival.log").write_text("".join(json.dumps(each) + "\n" for each in tallies))
    evidence = Story().evidence()
    assert evidence.timetable is not None
    thresholds = replace(evidence.timetable.thresholds, fought=1)
    evidence = replace(
        evidence,
        complaints=read_complaints(tmp_path),
        timetable=replace(evidence.timetable, thresholds=thresholds),
    )

    verdict = judge(evidence)

    assert verdict.findings.counts == {Kind.TOO_SMALL: 1}
    assert f"{fenced} fenced, {records} records" in str(verdict.lines())
    more = Complaints(rival=Counter(records=3, fenced=3))
    assert judge(replace(evidence, complaints=more)).passed


def test_kills_of_every_victim_are_told_and_held_against_the_least() -> None:
    evidence = Story().evidence()
    assert evidence.timetable is not None
    thresholds = replace(evidence.timetable.thresholds, victims=("gateway", "kafka"))
    timetable = replace(evidence.timetable, thresholds=thresholds)

    verdict = judge(replace(evidence, timetable=timetable))

    assert "killed: central 1, gateway 1" in verdict.notes
    assert verdict.findings.counts == {Kind.TOO_SMALL: 1}
    assert "kills of kafka: 0, needs 1" in str(verdict.lines())
    again = (*timetable.events, (START_US + 199 * STEP_US, "kafka_killed"))
    assert judge(replace(evidence, timetable=replace(timetable, events=again))).passed
