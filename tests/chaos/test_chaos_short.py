"""The long proof in a short, seeded form, and its negative control.

`make chaos` runs the full form, with the thresholds of the proof; those here are scaled to the
length of the test and prove correspondingly less.
"""

from pathlib import Path

import pytest

from tests.chaos.findings import Kind
from tests.chaos.mayhem import Lives, Mayhem
from tests.chaos.pace import Pace
from tests.chaos.run import perform
from tests.chaos.stack import Setting
from tests.chaos.timetable import Thresholds

SLOWER = Pace(poll_s=0.2, tick_s=0.2, answer_timeout_s=3.0)
SCALED = Thresholds(produced=5_000, kills=2, wipes=1, delivered_share=0.85)
NEVER = (1_000.0, 1_000.0)

pytestmark = [pytest.mark.chaos, pytest.mark.integration]


async def test_kills_cuts_and_a_wiped_log_lose_and_double_nothing(tmp_path: Path) -> None:
    mayhem = Mayhem(
        lasts_s=24.0,
        lives={
            "gateway": Lives(2.0, 5.0),
            "central": Lives(2.0, 5.0),
            "postgres": Lives(16.0, 18.0, in_start_share=0.0),
        },
        line_holds_s=(2.0, 5.0),
        cut_s=(1.0, 2.0),
        wipe_after_s=6.0,
    )

    verdict = await perform(Setting(tmp_path, 7, pace=SLOWER, thresholds=SCALED), mayhem)

    assert verdict.passed, "\n".join([f"run folder: {tmp_path}", *verdict.lines()])
    assert verdict.last_line().endswith(" pending 0 gaps 0 lost 0 doubled 0")


async def test_a_gateway_that_deletes_on_accepted_loses_readings_and_is_found(
    tmp_path: Path,
) -> None:
    mayhem = Mayhem(lasts_s=12.0, line_holds_s=NEVER, wipe_after_s=2.0)
    thresholds = Thresholds(produced=0, kills=0, wipes=1, delivered_share=0.0)
    setting = Setting(tmp_path, 7, pace=SLOWER, thresholds=thresholds, settle_on_accepted=True)

    verdict = await perform(setting, mayhem)

    assert verdict.findings.counts[Kind.LOST] > 0, verdict.lines()
    assert verdict.findings.counts[Kind.SHORT] > 0
    assert verdict.lost > 0
    assert Kind.TOO_SMALL not in verdict.findings.counts
