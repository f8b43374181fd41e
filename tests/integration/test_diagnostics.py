"""The gateway's own points: a device like any other, with an off switch."""

import math
from pathlib import Path
from typing import Any, cast

import pytest

from edge import diagnostics
from edge.collector import DeviceState
from edge.diagnostics import Diagnostics
from edge.document import problems_in
from edge.room import Room
from edge.settings import DiagnosticsSettings
from shared.clock import SystemClock
from shared.errors import LinkLost
from shared.quality import QualityClass, Reason, class_of, reason_of
from tests.integration.outbox_kit import no_open_outbox
from tests.integration.test_gateway_commands import asked, config, enrolled, free_port, running
from tests.integration.twin_kit import Site, Works, device, document, site, stored, until, works

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)
__all__ = ["config", "free_port", "works"]

CLOCK = SystemClock()


class FakeUplink:
    is_connected = True
    clock_offset_s: float | None = None


class FakeParts:
    """The running parts, as far as they are asked."""

    def __init__(self, gateway: Site) -> None:
        self.collector = gateway.collector
        self.uplink = FakeUplink()

    async def room(self) -> Room:
        return Room(3_000_000, 0.0, 41.0)


def of(folder: Path, **settings: Any) -> Diagnostics:
    return Diagnostics(DiagnosticsSettings(**settings), "gw1", folder, CLOCK)


async def test_they_are_read_beside_the_devices_and_follow_their_changes(
    works: Works, tmp_path: Path
) -> None:
    own = of(tmp_path, interval_s=1.0)

    async def lost() -> None:
        raise LinkLost("gone")

    works.device("b").connecting = lost
    async with site(tmp_path, document(device("a"))) as gateway:
        own.parts = cast(Any, FakeParts(gateway))
        gateway.twin.change = lambda devices: gateway.collector.change(own.beside(devices))
        await gateway.twin.apply(document(device("a"), device("b")), source="api")
        await until(lambda: (gateway.collector.task("b") or gateway.collector.tasks[0]).errors)
        task = gateway.collector.task("_gateway")
        assert task is not None
        await until(lambda: task.state is DeviceState.READING)
        values = await own.values()
        assert (values["a", "up"], values["b", "up"]) == (1.0, 0.0)
        assert values["b", "errors"] >= 1
        # A device that goes takes its points along; the others are not disturbed.
        await gateway.twin.apply(document(device("a")), source="api")
        await gateway.polled(works.device("a"))
        assert works.device("a").connections == 1
        await gateway.intake.flushed()
        found = await stored(gateway.outbox)
        last = gateway.outbox.tail.point_set.points
        assert gateway.outbox.index.ledger().imbalance() == 0
    assert {key for key in found if key.startswith("_device/")} == {
        f"_device/gw1/{name}/{what}" for name in "ab" for what in ("errors", "up")
    }
    assert not any("/b/" in point.key for point in last)
    assert found["_gateway/gw1/buffer_days"][0][1] == 41.0
    assert found["_gateway/gw1/uplink_up"][0][1] == 1.0
    assert 0 < found["_gateway/gw1/process_memory"][0][1] < 10_000
    assert 0 <= found["_gateway/gw1/memory"][0][1] <= 100


async def test_what_nobody_knows_is_bad_and_no_number(tmp_path: Path) -> None:
    (own,) = of(tmp_path).beside(())
    driver = own.driver.make(own.options)
    async with driver:
        columns = await driver.read(driver.plan(own.points))
    assert len(columns) == len(own.points)
    at = [source.point.key for source in own.points].index("_gateway/gw1/clock_offset")
    assert math.isnan(columns.value[at])
    quality = int(columns.quality[at])
    assert (class_of(quality), reason_of(quality)) == (QualityClass.BAD, Reason.NOT_YET_REPORTED)


def test_they_are_turned_off_by_a_setting_and_give_way_to_points_of_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert of(tmp_path, enabled=False).beside(()) == ()
    monkeypatch.setattr(diagnostics, "MAX_POINTS", 7)
    assert of(tmp_path).beside(()) == ()


def test_a_machine_without_a_sensor_has_no_temperature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, has in ((math.nan, False), (41.5, True)):
        monkeypatch.setattr(diagnostics, "temperature", lambda at=value: at)
        (own,) = of(tmp_path).beside(())
        assert ("_gateway/gw1/temperature" in {one.point.key for one in own.points}) is has


def test_nobody_else_takes_their_names() -> None:
    taken = device("_gateway", "_gateway/gw1/cpu", "_device/x", "own/_gateway")
    taken |= {"driver": "modbus", "options": {"host": "h"}}
    for point in taken["points"]:
        point["source"] = {"register": 1}
    assert [one.path for one in problems_in(document(taken))] == [
        "devices[0].name",
        "devices[0].points[0].key",
        "devices[0].points[1].key",
    ]


def test_a_gateway_reads_itself_and_says_so_in_its_status(config: Path, free_port: int) -> None:
    enrolled(config)
    with running(config) as gateway:
        state = ""
        while state != "reading":
            assert gateway.poll() is None
            try:
                state = asked(free_port, "status")["devices"]["_gateway"]["state"]
            except OSError:
                continue
