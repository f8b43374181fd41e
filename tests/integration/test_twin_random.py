"""Random changes of the configuration, faults, restarts: every answered poll is accounted for."""

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edge.holes import GapReason
from shared.errors import LinkLost
from tests.integration.outbox_kit import no_open_outbox
from tests.integration.twin_kit import (
    Site,
    Works,
    device,
    document,
    gaps,
    site,
    stored,
    works,
)
from tests.servers.fake_driver import FakeDevice

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)
__all__ = ["works"]

NAMES = "abcde"
RUNS, STEPS = 3, 25
TOLD = {GapReason.STOPPED, GapReason.DEVICE_DOWN}


def drawn(draw: random.Random) -> dict[str, Any]:
    """Draw some of the devices, in any order, some of them with another speed or more points."""
    names = draw.sample(NAMES, draw.randint(1, len(NAMES)))
    devices = []
    for name in names:
        keys = [f"{name}/p", f"{name}/q"][: draw.randint(1, 2)]
        devices.append(device(name, *keys, interval_s=0.02, speed=draw.randint(1, 2)))
    return document(*devices)


def break_some(draw: random.Random, works: Works) -> None:
    async def lost() -> None:
        raise LinkLost("gone")

    for name in NAMES:
        works.device(name).reading = lost if draw.random() < 0.2 else None


async def stirred(gateway: Site, works: Works, draw: random.Random) -> None:
    for _ in range(STEPS):
        break_some(draw, works)
        if draw.random() < 0.2 and gateway.twin.current.head.previous:
            await gateway.twin.undo()
        else:
            await gateway.twin.apply(drawn(draw), source="api")
        whole = [works.device(name) for name in names_in(gateway) if is_whole(works, name)]
        if whole:
            await gateway.polled(draw.choice(whole), more=draw.randint(1, 3))
        assert [one.device.name for one in gateway.collector.tasks] == names_in(gateway)


def names_in(gateway: Site) -> list[str]:
    return [one["name"] for one in gateway.twin.current.document["devices"]]


def is_whole(works: Works, name: str) -> bool:
    return works.device(name).reading is None


@pytest.mark.parametrize("seed", range(4))
async def test_every_answer_is_stored_under_its_own_point_or_told_as_missed(
    works: Works, tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    for nth, name in enumerate(NAMES):
        works.devices[name] = FakeDevice(value=1_000_000.0 * nth)
    stops: Counter[str] = Counter()
    for _ in range(RUNS):
        async with site(tmp_path, drawn(draw)) as gateway:
            await stirred(gateway, works, draw)
        stops.update(NAMES)
    async with site(tmp_path, None) as gateway:
        assert gateway.outbox.index.ledger().imbalance() == 0
        found, told = await stored(gateway.outbox), await gaps(gateway.outbox)
    for nth, name in enumerate(NAMES):
        for keys, reason, missed in told:
            # Stops within a silence are told in the gap of the silence, with the polls it cost.
            if reason in TOLD and f"{name}/p" in keys.split():
                stops[name] += max(1, missed or 0)
        good = [value for _, value in found.get(f"{name}/p", []) if not math.isnan(value)]
        assert len(good) == len(set(good))
        assert sorted(good) == good
        assert {value // 1_000_000 for value in good} <= {float(nth)}
        answered = works.device(name).value - 1_000_000.0 * nth
        # What was answered and is not there was on its way when its device was stopped.
        assert 0 <= answered - len(good) <= stops[name]
