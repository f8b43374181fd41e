"""Live values: the newest of every point, and watchers that are told what they missed."""

import asyncio
import time

import pytest

from edge.live import MAX_WATCHES, LiveValues, TooManyWatch
from shared.columns import Columns
from tests.servers.fake_driver import FakeDevice


def columns(*rows: tuple[int, float], at: int = 5) -> Columns:
    series, values = [row[0] for row in rows], [row[1] for row in rows]
    return Columns.of(series, [at] * len(rows), values, [0] * len(rows))


def test_the_last_reading_of_each_point_is_kept() -> None:
    live, device = LiveValues(), FakeDevice(points=3).device("d")
    live.take(device, columns((0, 1.0), (1, 2.0)))
    live.take(device, columns((0, 3.0), (0, 4.0), at=9))
    told = {one.key: (one.value, one.observed_at) for one in live.values()}
    assert told == {"d/p0": (4.0, 9), "d/p1": (2.0, 5)}
    assert live.values("other") == []


def test_many_values_are_found_by_their_keys_at_once() -> None:
    live, device = LiveValues(), FakeDevice(points=20_000).device("d")
    live.take(device, columns(*((at, float(at)) for at in range(20_000))))
    began_s = time.perf_counter()
    found = [live.value("d", f"d/p{at}") for at in range(20_000)]
    assert [one.value for one in found if one is not None] == [float(at) for at in range(20_000)]
    assert live.value("d", "d/p20000") is None
    assert time.perf_counter() - began_s < 5.0  # one after the other it took a minute


def test_a_text_leaves_with_the_reading_that_replaces_it() -> None:
    live, device = LiveValues(), FakeDevice(points=1).device("d")
    live.take(device, Columns.of([0], [1], [float("nan")], [0], {0: "open"}))
    assert live.values()[0].text == "open"
    live.take(device, columns((0, 1.0)))
    assert live.values()[0].text is None


async def test_a_watcher_sees_a_snapshot_then_changes_and_how_many_it_missed() -> None:
    live, device = LiveValues(), FakeDevice(points=2).device("d")
    live.take(device, columns((0, 1.0), (1, 2.0)))
    with live.watch() as watch:
        assert [one.value for one in watch.look().values] == [1.0, 2.0]
        for value in (5.0, 6.0, 7.0):
            live.take(device, columns((1, value)))
        changes = await asyncio.wait_for(watch.changed(), 30)
        assert [(one.key, one.value) for one in changes.values] == [("d/p1", 7.0)]
        assert changes.lagged == 2
        assert watch.look().values == []


def test_a_device_that_is_configured_anew_begins_anew() -> None:
    live, fake = LiveValues(), FakeDevice(points=2)
    live.take(fake.device("d"), columns((1, 2.0)))
    with live.watch() as watch:
        watch.look()
        live.take(fake.device("d"), columns((0, 1.0)))
        assert [one.key for one in watch.look().values] == ["d/p0"]
    live.keep([])
    assert live.values() == []


def test_there_are_only_so_many_watchers() -> None:
    live = LiveValues()

    def watch(left: int) -> None:
        with live.watch():
            if left:
                watch(left - 1)

    with pytest.raises(TooManyWatch):
        watch(MAX_WATCHES)
    watch(MAX_WATCHES - 1)
