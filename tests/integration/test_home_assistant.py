"""What a Home Assistant sees of the gateway through a real broker, and that it never disturbs."""

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel

from edge import home_assistant
from edge.home_assistant import HomeAssistant
from edge.live import LiveValues
from edge.settings import Device, HomeAssistantSection
from protocols.driver import DriverType, PointSource
from protocols.mqtt import driver_type
from protocols.mqtt.connection import Connection
from protocols.mqtt.listening import Heard, listen
from protocols.mqtt.options import MqttDevice
from protocols.mqtt.wire import Session
from protocols.testing.rig import closed_port, deaf_server, eventually
from shared.clock import SystemClock
from shared.columns import Columns
from shared.model import Point, PointType
from shared.quality import GOOD, Reason, bad
from tests.integration.test_gateway_commands import asked, enrolled, running, wait_for
from tests.servers.mosquitto import HOST, Mosquitto, mosquitto, publish

pytestmark = pytest.mark.integration

CLOCK: Final = SystemClock()
KIND: Final[DriverType] = driver_type()
STATUS: Final = "spine/gw1/status"


class Nothing(BaseModel):
    """Options of nothing."""


def device(name: str, *points: Point) -> Device:
    sources = tuple(PointSource(one, Nothing()) for one in points)
    return Device(name, KIND, 1.0, Nothing(), sources)


METER: Final = device(
    "meter",
    Point("meter/power", "kW"),
    Point("meter/energy", "kWh"),
    Point("meter/alarm", type=PointType.BOOLEAN),
    Point("meter/mode", type=PointType.TEXT),
    Point("meter/unknown", "furlong"),
)


class Home:
    """A gateway's last values, told to a broker, and what a listener keeps of it."""

    def __init__(self, port: int, **settings: Any) -> None:
        given = {"host": HOST, "port": port, "interval_s": 0.1, "timeout_s": 2.0} | settings
        self.settings = HomeAssistantSection.model_validate(given)
        self.live = LiveValues()
        self.devices: Sequence[Device] = (METER,)
        self.heard: dict[str, bytes] = {}
        self.output = HomeAssistant(self.settings, "gw1", self.live, lambda: self.devices, CLOCK)

    def take(self, value: float, quality: int = GOOD, which: Device = METER) -> None:
        count = len(which.points)
        texts = {3: "heating"} if quality == GOOD and count > 3 else {}
        columns = Columns.of(
            range(count), [1_700_000_000_000_000] * count, [value] * count, [quality] * count, texts
        )
        self.live.take(which, columns)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.ensure_future(self.output.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        broker = MqttDevice(host=HOST, port=port, client_id=uuid.uuid4().hex)
        session = Session(broker.client_id, is_kept=False)
        connection = await Connection.opened(broker, session, CLOCK)
        heard = Heard(self.heard)
        task = asyncio.ensure_future(listen(connection, ["#"], 600, heard.take))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await connection.close()

    def state(self, key: str) -> dict[str, Any]:
        return dict(json.loads(self.heard.get(f"spine/gw1/points/{key}", b"{}")))

    def announced(self) -> dict[str, dict[str, Any]]:
        """Give the announcements that stand, by the name of the point."""
        found = [
            json.loads(said) for topic, said in self.heard.items() if "/config" in topic and said
        ]
        return {one["name"]: one for one in found}

    async def until(self, happens: Any, what: str) -> None:
        async def happened() -> bool:
            return bool(happens())

        await eventually(happened, what)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_assistant, "LOOK_S", 0.5)
    monkeypatch.setattr(home_assistant, "TIDY_S", 0.5)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    async with mosquitto(tmp_path) as broker:
        yield broker


async def test_points_are_announced_with_what_their_units_mean(broker: Mosquitto) -> None:
    home = Home(broker.port)
    async with home.listening(broker.port), home.running():
        await home.until(lambda: home.heard.get(STATUS) == b"online", "online")
        told = home.announced()
    assert {
        key: (one.get("unit_of_measurement"), one.get("device_class"), one.get("state_class"))
        for key, one in told.items()
    } == {
        "meter/power": ("kW", "power", "measurement"),
        "meter/energy": ("kWh", "energy", "total_increasing"),
        "meter/alarm": (None, None, None),
        "meter/mode": (None, None, None),
        "meter/unknown": ("furlong", None, "measurement"),
    }
    topics = [topic for topic in home.heard if topic.endswith("/config")]
    assert sum(topic.startswith("homeassistant/binary_sensor/spine_gw1/") for topic in topics) == 1
    assert len({one["unique_id"] for one in told.values()}) == 5
    assert told["meter/power"]["device"]["via_device"] == "spine_gw1"
    assert {"topic": STATUS} in told["meter/power"]["availability"]


async def test_states_follow_the_values_and_bad_quality_is_unavailable(broker: Mosquitto) -> None:
    home = Home(broker.port)
    home.take(1.0)
    async with home.listening(broker.port), home.running():
        await home.until(lambda: home.state("meter/power").get("value") == 1.0, "a first value")
        await home.until(lambda: home.state("meter/mode").get("value") == "heating", "the text")
        assert home.state("meter/power")["observed_at"] == "2023-11-14T22:13:20+00:00"
        home.take(float("nan"), bad(Reason.LINK_DOWN))
        await home.until(lambda: home.state("meter/power")["available"] is False, "unavailable")
        assert home.state("meter/power")["value"] is None
        assert home.state("meter/power")["reason"] == "link_down"
        home.take(2.0)
        await home.until(lambda: home.state("meter/power")["value"] == 2.0, "back again")


async def test_what_is_configured_otherwise_is_announced_and_taken_back(broker: Mosquitto) -> None:
    home = Home(broker.port, points=["meter/*", "room/t*"])
    old = "homeassistant/sensor/spine_gw1/gone_12345678/config"
    others = "homeassistant/sensor/spine_gw2/gone_12345678/config"
    await publish(broker.port, old, '{"name": "of an earlier run"}', retain=True)
    await publish(broker.port, others, '{"name": "of another gateway"}', retain=True)
    async with home.listening(broker.port), home.running():
        await home.until(lambda: home.heard.get(STATUS) == b"online", "online")
        await home.until(lambda: home.heard.get(old) == b"", "the old one is taken back")
        room = device("room", Point("room/temperature", "°C"), Point("room/hidden"))
        home.devices = (room,)
        home.take(20.0, which=room)
        await home.until(lambda: home.state("room/temperature").get("value") == 20.0, "the room")
        assert set(home.announced()) == {"room/temperature", "of another gateway"}
        assert home.state("room/hidden") == {}


async def test_a_gateway_that_stops_or_is_cut_off_is_offline(broker: Mosquitto) -> None:
    home = Home(broker.port)
    async with home.listening(broker.port):
        async with home.running():
            await home.until(lambda: home.heard.get(STATUS) == b"online", "online")
        await home.until(lambda: home.heard.get(STATUS) == b"offline", "offline as it stops")


async def test_a_broker_that_comes_back_is_told_everything_again(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(broker.port)
    home.take(1.0)
    async with home.running():
        async with home.listening(broker.port):
            await home.until(lambda: home.state("meter/power").get("value") == 1.0, "a value")
        await broker.stop()
        await home.until(lambda: home.output.problem, "the outage is noticed")
        home.take(2.0)
        await broker.start()
        home.heard.clear()
        async with home.listening(broker.port):
            await home.until(lambda: home.state("meter/power").get("value") == 2.0, "the newest")
            await home.until(lambda: home.heard.get(STATUS) == b"online", "online")
            assert len(home.announced()) == 5
    assert home.output.problem == ""


@pytest.mark.parametrize("is_deaf", [False, True])
async def test_a_broker_that_is_not_there_stops_nobody(*, is_deaf: bool) -> None:
    async with deaf_server(slams=not is_deaf) as port:
        home = Home(port if is_deaf else closed_port(), timeout_s=0.2)
        async with home.running() as task:
            await home.until(lambda: home.output.problem, "the problem is told")
            for value in range(1_000):  # who takes values waits for nobody
                home.take(float(value))
            assert not task.done()


CONFIG: Final = """
gateway:
  data: data
  clock: trusted
  health: {{port: {port}}}
  diagnostics: {{interval_s: 1}}
  home_assistant: {{host: 127.0.0.1, port: {mqtt}, interval_s: 0.1}}
central: {{link: "wss://127.0.0.1:1/link", enrol: "https://127.0.0.1:1"}}
outbox: {{commit_window_s: 0.05}}
devices: []
"""


async def test_a_whole_gateway_tells_of_itself_until_it_is_killed(
    tmp_path: Path, broker: Mosquitto
) -> None:
    port = closed_port()
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(port=port, mqtt=broker.port))
    enrolled(config)
    home = Home(broker.port)
    async with home.listening(broker.port):
        with running(config) as process:
            await asyncio.to_thread(wait_for, port, "readyz")
            key = "_gateway/gw1/cpu"
            await home.until(lambda: home.state(key).get("available"), "its own load")
            assert home.announced()[key]["device"]["identifiers"] == ["spine_gw1"]
            assert asked(port, "ledger")["imbalance"] == 0
            process.send_signal(signal.SIGKILL)
            await home.until(lambda: home.heard.get(STATUS) == b"offline", "its last will")
