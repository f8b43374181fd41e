"""Known device shapes through a real broker and the driver: values, absences, clocks, commands."""

import asyncio
import json
import math
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from protocols.driver import PointSource
from protocols.mqtt.driver import MqttDriver
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.mqtt.shapes.shape import ShapeName
from protocols.testing.rig import Inbox
from shared.columns import Columns
from shared.errors import OptionsWrong
from shared.model import Point, PointType
from shared.quality import GOOD, Flag, Reason, bad, uncertain
from tests.servers import zigbee_models
from tests.servers.mosquitto import HOST, Mosquitto, mosquitto, publish

pytestmark = pytest.mark.integration

NUMBER, BOOLEAN, TEXT = PointType.NUMBER, PointType.BOOLEAN, PointType.TEXT
STALE: Final = uncertain(Reason.STALE)
ADJUSTED: Final = int(Flag.TIME_ADJUSTED)
DOWN: Final = bad(Reason.LINK_DOWN)
EUI: Final = "24e124136b000001"
AT_US: Final = 1_772_356_500_000_000
"""2026-03-01 10:15 in Berlin."""

Message = tuple[str, object]
Reading = tuple[float | str | None, int]


@dataclass(frozen=True)
class Case:
    """What a device publishes, and what its points must read; `kept` lies at the broker before."""

    shape: ShapeName
    device: str
    points: Mapping[str, PointType]
    kept: tuple[Message, ...] = ()
    old: Mapping[str, Reading] = field(default_factory=dict)
    live: tuple[Message, ...] = ()
    means: Mapping[str, Reading] = field(default_factory=dict)
    away: Message | None = None
    command: tuple[str, float | str, str, bytes] | None = None
    at_us: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)


CASES: Final = [
    Case(
        "zigbee2mqtt",
        "hall/sensor",
        {"temperature": NUMBER, "occupancy": BOOLEAN, "color.hue": NUMBER, "state": BOOLEAN},
        kept=(("zigbee2mqtt/hall/sensor", {"temperature": 20.5, "occupancy": None}),),
        old={"temperature": (20.5, STALE), "occupancy": (None, bad(Reason.NOT_YET_REPORTED))},
        live=(
            (
                "zigbee2mqtt/hall/sensor",
                {"temperature": 21.5, "occupancy": True, "color": {"hue": 9}, "state": "ON"},
            ),
        ),
        means={
            "temperature": (21.5, GOOD),
            "occupancy": (1.0, GOOD),
            "color.hue": (9.0, GOOD),
            "state": (1.0, GOOD),
        },
        away=("zigbee2mqtt/hall/sensor/availability", {"state": "offline"}),
        command=("state", 1.0, "zigbee2mqtt/hall/sensor/set", b'{"state": "ON"}'),
    ),
    Case(
        "tasmota",
        "plug",
        {"ENERGY.Power": NUMBER, "ENERGY.Total": NUMBER, "POWER": BOOLEAN},
        kept=(("tele/plug/SENSOR", {"Time": "2026-03-01T10:15:00", "ENERGY": {"Power": 5}}),),
        old={"ENERGY.Power": (5.0, STALE | ADJUSTED)},
        live=(
            (
                "tele/plug/SENSOR",
                {"Time": "2026-03-01T10:20:00", "ENERGY": {"Power": 42, "Total": 1.5}},
            ),
            ("stat/plug/POWER", b"OFF"),
        ),
        means={
            "ENERGY.Power": (42.0, GOOD | ADJUSTED),
            "ENERGY.Total": (1.5, GOOD | ADJUSTED),
            "POWER": (0.0, GOOD),
        },
        away=("tele/plug/LWT", b"Offline"),
        command=("POWER", 1.0, "cmnd/plug/POWER", b"ON"),
    ),
    Case(
        "tasmota",
        "zoned",
        {"ENERGY.Power": NUMBER},
        live=(("tele/zoned/SENSOR", {"Time": "2026-03-01T10:15:00", "ENERGY": {"Power": 42}}),),
        means={"ENERGY.Power": (42.0, GOOD)},
        at_us=AT_US,
        options={"zone": "Europe/Berlin"},
    ),
    Case(
        "shelly",
        "pm",
        {"switch:0.apower": NUMBER, "switch:0.output": BOOLEAN, "input:0.event": TEXT},
        live=(
            (
                "pm/events/rpc",
                {
                    "method": "NotifyStatus",
                    "params": {"ts": None, "switch:0": {"apower": 8.5, "output": True}},
                },
            ),
            (
                "pm/events/rpc",
                {
                    "method": "NotifyEvent",
                    "params": {"ts": None, "events": [{"component": "input:0", "event": "single"}]},
                },
            ),
        ),
        means={
            "switch:0.apower": (8.5, GOOD | ADJUSTED),
            "switch:0.output": (1.0, GOOD | ADJUSTED),
            "input:0.event": ("single", GOOD | ADJUSTED),
        },
        away=("pm/online", b"false"),
        command=("switch:0.output", 0.0, "pm/command/switch:0", b"off"),
    ),
    Case(
        "shelly",
        "plug-s",
        {"relay/0": BOOLEAN, "relay/0/power": NUMBER, "relay/0/energy": NUMBER},
        kept=(("shellies/plug-s/relay/0/power", b"7.5"),),
        old={"relay/0/power": (7.5, STALE)},
        live=(
            ("shellies/plug-s/relay/0", b"on"),
            ("shellies/plug-s/relay/0/power", b"42.17"),
            ("shellies/plug-s/relay/0/energy", b"1234"),
        ),
        means={
            "relay/0": (1.0, GOOD),
            "relay/0/power": (42.17, GOOD),
            "relay/0/energy": (1234.0, GOOD),
        },
        away=("shellies/plug-s/online", b"false"),
        command=("relay/0", 1.0, "shellies/plug-s/relay/0/command", b"on"),
    ),
    Case(
        "esphome",
        "room",
        {"sensor/co2": NUMBER, "sensor/broken": NUMBER, "switch/fan": BOOLEAN},
        kept=(("room/sensor/co2/state", b"612"),),
        old={"sensor/co2": (612.0, STALE)},
        live=(
            ("room/sensor/co2/state", b"615.5"),
            ("room/sensor/broken/state", b"nan"),
            ("room/switch/fan/state", b"ON"),
        ),
        means={
            "sensor/co2": (615.5, GOOD),
            "sensor/broken": (None, bad(Reason.NOT_A_NUMBER)),
            "switch/fan": (1.0, GOOD),
        },
        away=("room/status", b"offline"),
        command=("switch/fan", 0.0, "room/switch/fan/command", b"OFF"),
    ),
    Case(
        "chirpstack",
        EUI,
        {"object.temperature": NUMBER, "rxInfo[0].rssi": NUMBER},
        live=(
            (
                f"application/17/device/{EUI}/event/up",
                {
                    "deduplicationId": "1",
                    "time": "2026-03-01T09:15:00Z",
                    "data": "AQ==",
                    "object": {"temperature": 27.2},
                    "rxInfo": [{"rssi": -48}],
                },
            ),
        ),
        means={"object.temperature": (27.2, GOOD), "rxInfo[0].rssi": (-48.0, GOOD)},
        at_us=AT_US,
    ),
    Case(
        "chirpstack",
        "without-codec",
        {"object.temperature": NUMBER},
        live=(("application/17/device/without-codec/event/up", {"data": "AQ==", "fPort": 1}),),
        means={"object.temperature": (None, bad(Reason.NOT_IMPLEMENTED))},
    ),
]


class Room:
    """The points of a case at a broker, and what they read last."""

    def __init__(self, broker: Mosquitto, case: Case) -> None:
        self.port = broker.port
        self.case = case
        self.inbox = Inbox(done=True)
        self.last: dict[str, Reading] = {}
        self.times: dict[str, int] = {}
        self.read = 0

    def options(self, **more: Any) -> MqttDevice:
        given: dict[str, Any] = {"shape": self.case.shape, **self.case.options, **more}
        name = f"spine-{uuid.uuid4().hex}"
        return MqttDevice(host=HOST, port=self.port, client_id=name, **given)

    def source(self, name: str) -> PointSource:
        device = self.case.device
        point = Point(f"{device}/{name}", type=self.case.points[name])
        return PointSource(point, MqttPoint(device=device, property=name))

    @asynccontextmanager
    async def driver(self) -> AsyncIterator[MqttDriver]:
        async with MqttDriver(self.options()) as driver:
            plan = driver.plan([self.source(name) for name in self.case.points])
            task = asyncio.ensure_future(self.inbox.consume(driver.subscribe(plan, ())))
            try:
                yield driver
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def say(self, *messages: Message, is_kept: bool = False) -> None:
        for topic, told in messages:
            payload = told if isinstance(told, bytes) else json.dumps(told).encode()
            await publish(self.port, topic, payload, retain=is_kept)

    async def until(self, expected: Mapping[str, Reading]) -> None:
        def is_so() -> bool:
            self._take()
            return expected.items() <= self.last.items()

        await self.inbox.until(is_so, f"points read {expected}")

    def _take(self) -> None:
        for delivery in self.inbox.deliveries[self.read :]:
            for name, reading, at_us in _readings(delivery.columns, list(self.case.points)):
                self.last[name], self.times[name] = reading, at_us
        self.read = len(self.inbox.deliveries)


def _readings(columns: Columns, names: list[str]) -> list[tuple[str, Reading, int]]:
    found: list[tuple[str, Reading, int]] = []
    for row, series in enumerate(columns.series.tolist()):
        number = float(columns.value[row])
        value = columns.texts.get(row, None if math.isnan(number) else number)
        quality = int(columns.quality[row])
        found.append((names[series], (value, quality), int(columns.observed_at[row])))
    return found


@pytest.fixture(scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mosquitto]:
    async with mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.shape}-{case.device}")
async def test_a_device_is_read_goes_and_comes_back(broker: Mosquitto, case: Case) -> None:
    room = Room(broker, case)
    await room.say(*case.kept, is_kept=True)
    async with room.driver():
        await room.until(case.old)
        await _begun(room)
        await room.until(case.means)
        assert case.at_us is None or set(room.times.values()) == {case.at_us}
        if case.away is not None:
            await room.say(case.away, is_kept=True)
            await room.until(dict.fromkeys(case.points, (None, DOWN)))
            await room.say(*case.live)
            await room.until(case.means)


async def _begun(room: Room) -> None:
    """Say what is live until it is heard: nothing tells when a subscription stands."""
    heard = len(room.inbox.deliveries)
    while len(room.inbox.deliveries) == heard:
        await room.say(*room.case.live)


async def test_what_the_broker_kept_of_a_device_that_is_away_is_no_value(
    broker: Mosquitto,
) -> None:
    case = Case("esphome", "attic", {"sensor/t": NUMBER})
    room = Room(broker, case)
    await room.say(("attic/status", b"offline"), ("attic/sensor/t/state", b"9"), is_kept=True)
    async with room.driver():
        await room.until({"sensor/t": (None, DOWN)})
        await room.say(("attic/sensor/t/state", b"21"))
        await room.until({"sensor/t": (21.0, GOOD)})


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.command],
    ids=lambda case: f"{case.shape}-{case.device}",
)
async def test_a_command_arrives_where_the_device_listens(broker: Mosquitto, case: Case) -> None:
    assert case.command is not None
    name, value, topic, payload = case.command
    ear = Room(broker, Case("esphome", "x", {"y": TEXT}))
    options = MqttDevice(host=HOST, port=broker.port, client_id=f"ear-{uuid.uuid4().hex}")
    room = Room(broker, case)
    async with MqttDriver(options) as listener, room.driver() as driver:
        plan = listener.plan([PointSource(Point("c", type=TEXT), MqttPoint(topic=topic))])
        task = asyncio.ensure_future(ear.inbox.consume(listener.subscribe(plan, ())))
        await _begun(room)
        await room.until(case.means)
        while not ear.inbox.deliveries:
            await driver.write(room.source(name), value)
        task.cancel()
        await asyncio.wait([task])
    assert ear.inbox.deliveries[0].columns.texts == {0: payload.decode()}


async def test_nothing_is_sent_to_a_device_that_may_hear_it_hours_later(
    broker: Mosquitto,
) -> None:
    room = Room(broker, CASES[-1])
    async with room.driver() as driver:
        with pytest.raises(OptionsWrong, match="hours later"):
            await driver.write(room.source("object.temperature"), 1.0)


async def test_browsing_a_bridge_proposes_the_values_of_sixty_models(broker: Mosquitto) -> None:
    models = zigbee_models.kept()
    room = Room(broker, Case("zigbee2mqtt", "x", {"y": NUMBER}, options={"base": "bridged"}))
    listed = [
        {"friendly_name": one["name"], "definition": {"exposes": one["exposes"]}} for one in models
    ]
    states = [(f"bridged/{one['name']}", one["state"]) for one in models]
    await room.say(("bridged/bridge/devices", listed), *states, is_kept=True)
    async with MqttDriver(room.options(browse_s=4.0)) as driver:
        devices = (await driver.browse()).nodes
        below = (await driver.browse(devices[0].id)).nodes
    assert [node.name for node in devices] == [one["name"] for one in models if one["values"]]
    assert {node.name for node in below} == set(models[0]["values"])
    units = {node.name: node.unit for node in below}
    assert units["color_temp"] == "mired"
