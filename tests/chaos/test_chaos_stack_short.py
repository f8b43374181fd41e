"""The long proof on real servers in a short, seeded form: each is killed once, the log wiped once.

`make chaos PROFILE=dev` runs the full form. What the short one proves is correspondingly less.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.central.native import launcher
from tests.chaos.mayhem import Fights, Lives, Mayhem
from tests.chaos.profiles import PROFILES
from tests.chaos.run import perform
from tests.chaos.stack import Setting
from tests.chaos.stack_profile import SERVERS

pytestmark = [pytest.mark.chaos, pytest.mark.integration]


async def test_modules_and_servers_killed_in_turn_and_a_wiped_broker_lose_nothing(
    tmp_path: Path,
) -> None:
    for server in SERVERS:
        if lacks := launcher.missing(server):
            pytest.skip(f"this machine cannot run {server}: {'; '.join(lacks)}")
    dev = PROFILES["dev"]
    mayhem = Mayhem(
        lasts_s=400.0,  # on a very busy machine; it ends after the round
        lives={"gateway": Lives(3.0, 8.0)},
        turn_s=(0.0, 0.3),
        rounds=1,
        line_holds_s=(4.0, 10.0),
        cut_s=(1.0, 2.0),
        wipe_after_s=8.0,
        fights=Fights((2.0, 4.0), (10.0, 20.0)),
    )
    thresholds = replace(dev.thresholds(kills=1), produced=3_000, fought=0, delivered_share=0.8)

    verdict = await perform(Setting(tmp_path, 7, dev, thresholds=thresholds), mayhem)

    assert verdict.passed, "\n".join([f"run folder: {tmp_path}", *verdict.lines()])
    assert verdict.last_line().endswith(" pending 0 gaps 0 lost 0 doubled 0")
