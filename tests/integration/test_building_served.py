"""The running building through clients nobody here wrote: what they read is what the truth says."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncua
import pytest
from asyncua.client.client import Client
from paho.mqtt.client import Client as Paho
from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from pymodbus.client import AsyncModbusTcpClient

from protocols.simulated import BuildingSettings
from protocols.simulated.building import run
from shared.clock import from_datetime

ua: Any = asyncua.ua
"""Untyped: its annotations ask for own integer classes where plain ints are meant."""

pytestmark = pytest.mark.integration

TICK_S = 0.05
WORDS = {"uint16": 1, "int16": 1, "uint32": 2, "int32": 2, "float32": 2, "int64": 4, "float64": 4}
CODES = {
    "uint16": ">H",
    "int16": ">h",
    "uint32": ">I",
    "int32": ">i",
    "float32": ">f",
    "int64": ">q",
    "float64": ">d",
}
FAULTS = {
    "meter1": "exception",
    "meter2": "short",
    "meter3": "silent",
    "meter4": "nan",
    "inverter1": "refuse",
    "ahu1": "silent",
    "vav1": "exception",
    "vav2": "nan",
    "vav3": "stuck",
    "room1": "nan",
    "room2": "short",
    "room3": "stuck",
    "room4": "silent",
    "room5": "refuse",
}


class Building:
    """A building that runs in this process."""

    def __init__(self, truth: Path) -> None:
        self.folder = truth
        self.description: dict[str, Any] = json.loads((truth / "building.json").read_text())

    def section(self, name: str) -> dict[str, Any]:
        return next(each for each in self.description["gateway"] if each["name"] == name)

    def truth(self, device: str) -> dict[int, dict[str, Any]]:
        lines = (self.folder / f"{device}.jsonl").read_text().splitlines()
        samples = [json.loads(line) for line in lines[1:]]
        return {sample["counter"]: sample for sample in samples}


async def until(condition: Callable[[], Any], limit_s: float = 10) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 -- files and other threads set no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(settings: BuildingSettings) -> AsyncIterator[Building]:
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings, stop))
    file = settings.truth / "building.json"
    await until(lambda: file.exists() or task.done(), 60)
    try:
        yield Building(settings.truth)
    finally:
        stop.set()
        await task


@pytest.fixture(scope="module")
async def plain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Building]:
    truth = tmp_path_factory.mktemp("plain")
    async with running(BuildingSettings(truth=truth, tick=TICK_S, faults="off", speed=50)) as found:
        yield found


@pytest.fixture(scope="module")
async def faulty(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Building]:
    folder = tmp_path_factory.mktemp("faulty")
    entries = [
        {"device": device, "fault": fault, "at_s": 0, "for_s": 3_600}
        for device, fault in FAULTS.items()
    ]
    (folder / "faults.json").write_text(json.dumps({"faults": entries}))
    settings = BuildingSettings(
        truth=folder / "truth", tick=TICK_S, faults=str(folder / "faults.json"), speed=50
    )
    async with running(settings) as building:
        yield building


# -- Modbus ------------------------------------------------------------------------------------


class Reader:
    """Reads one device's whole block with pymodbus, and decodes it by the gateway's options."""

    def __init__(self, section: dict[str, Any], client: AsyncModbusTcpClient) -> None:
        self.unit = section["options"]["unit"]
        self.points = {point["key"]: point["source"] for point in section["points"]}
        self.client = client
        sources = list(self.points.values())
        self.first = min(source["register"] for source in sources)
        self.count = (
            max(source["register"] + WORDS[source["type"]] for source in sources) - self.first
        )
        tables = {source["table"] for source in sources}
        (self.table,) = tables

    async def words(self, address: int | None = None, count: int | None = None) -> Any:
        read = (
            self.client.read_input_registers
            if self.table == "input"
            else self.client.read_holding_registers
        )
        first = self.first if address is None else address
        return await read(first, count=count or self.count, device_id=self.unit)

    async def values(self) -> dict[str, float | None]:
        answer = await self.words()
        assert not answer.isError(), answer
        return {key: self._decode(source, answer.registers) for key, source in self.points.items()}

    def _decode(self, source: dict[str, Any], registers: list[int]) -> float | None:
        begin = source["register"] - self.first
        words = registers[begin : begin + WORDS[source["type"]]]
        if source.get("order") == "cdab":
            words = words[::-1]
        (raw,) = struct.unpack(CODES[source["type"]], struct.pack(f">{len(words)}H", *words))
        if raw in source.get("sentinels", ()) or raw != raw:  # noqa: PLR0124 -- NaN
            return None
        return float(Decimal(raw) * Decimal(str(source.get("scale", 1))))


@asynccontextmanager
async def reader(building: Building, device: str, timeout_s: float = 3) -> AsyncIterator[Reader]:
    section = building.section(device)
    options = section["options"]
    client = AsyncModbusTcpClient(
        options["host"], port=options["port"], timeout=timeout_s, retries=0, reconnect_delay=0
    )
    assert await client.connect()
    try:
        yield Reader(section, client)
    finally:
        client.close()


@pytest.mark.parametrize("device", ["meter1", "meter2", "meter3", "meter4", "inverter1"])
async def test_modbus_answers_are_counted_and_true_to_the_bit(plain: Building, device: str) -> None:
    async with reader(plain, device) as reads:
        answers = [await reads.values() for _ in range(20)]
    truth = plain.truth(device)
    counters = [answer[f"{device}/counter"] for answer in answers]
    assert counters == list(range(int(counters[0] or 0), int(counters[0] or 0) + 20))
    for answer in answers:
        logged = truth[int(answer[f"{device}/counter"] or 0)]["values"]
        assert {key: repr(value) for key, value in answer.items()} == {
            key: repr(value) for key, value in logged.items()
        }


async def test_modbus_reads_without_the_counter_are_no_samples(plain: Building) -> None:
    async with reader(plain, "meter1") as reads:
        before = (await reads.values())["meter1/counter"]
        assert not (await reads.words(reads.first, 4)).isError()
        after = (await reads.values())["meter1/counter"]
    assert before is not None
    assert after == before + 1


async def test_modbus_refuses_addresses_beyond_the_block_and_writes(plain: Building) -> None:
    async with reader(plain, "meter2") as reads:
        before = (await reads.values())["meter2/counter"]
        assert (await reads.words(reads.first, reads.count + 1)).isError()
        written = await reads.client.write_register(reads.first, 1, device_id=reads.unit)
        assert written.isError()
        after = (await reads.values())["meter2/counter"]
    assert before is not None
    assert after == before + 1


async def test_a_missing_quantity_reads_as_its_sentinel(plain: Building) -> None:
    async with reader(plain, "meter4") as reads:
        assert (await reads.values())["meter4/neutral_current"] is None


async def test_modbus_exception_fault_answers_exception_4_and_counts_nothing(
    faulty: Building,
) -> None:
    async with reader(faulty, "meter1") as reads:
        assert (await reads.words()).exception_code == 4
    assert faulty.truth("meter1") == {}


async def test_modbus_short_fault_answers_too_few_registers_and_counts_nothing(
    faulty: Building,
) -> None:
    async with reader(faulty, "meter2") as reads:
        answer = await reads.words()
        assert 0 < len(answer.registers) < reads.count
    assert faulty.truth("meter2") == {}


async def test_modbus_silent_fault_accepts_and_does_not_answer(faulty: Building) -> None:
    async with reader(faulty, "meter3", timeout_s=0.3) as reads:
        with pytest.raises(Exception, match="No response"):
            await reads.words()
        assert reads.client.connected
    assert faulty.truth("meter3") == {}


async def test_modbus_nan_fault_takes_values_but_not_the_counter(faulty: Building) -> None:
    async with reader(faulty, "meter4") as reads:
        answer = await reads.values()
    assert answer["meter4/power"] is None
    assert answer["meter4/energy"] is None
    assert answer["meter4/counter"] is not None
    assert faulty.truth("meter4")[int(answer["meter4/counter"])]["values"] == answer


async def test_modbus_refuse_fault_closes_the_connection(faulty: Building) -> None:
    options = faulty.section("inverter1")["options"]
    stream, writer = await asyncio.open_connection(options["host"], options["port"])
    writer.write(struct.pack(">HHHBBHH", 1, 0, 6, options["unit"], 3, 40_070, 2))
    assert await asyncio.wait_for(stream.read(), 5) == b""
    writer.close()
    await writer.wait_closed()
    assert faulty.truth("inverter1") == {}


# -- OPC UA ------------------------------------------------------------------------------------


class Notified:
    """Collects what asyncua's client is notified of, by key and source time."""

    def __init__(self) -> None:
        self.by_time: dict[int, dict[str, Any]] = {}

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        told = data.monitored_item.Value
        at = told.SourceTimestamp
        if at is not None:
            key = node.nodeid.Identifier
            self.by_time.setdefault(from_datetime(at), {})[key] = (told.StatusCode, value)

    def ticks(self, device: str) -> dict[int, dict[str, Any]]:
        return {
            at: mine
            for at, told in self.by_time.items()
            if (mine := {k: v for k, v in told.items() if k.startswith(f"{device}/")})
        }


@asynccontextmanager
async def notified(building: Building) -> AsyncIterator[Notified]:
    section = building.section("hvac")
    async with Client(section["options"]["url"], timeout=10) as client:
        found = Notified()
        subscription = await client.create_subscription(50, found)
        nodes = [client.get_node(point["source"]["node"]) for point in section["points"]]
        await subscription.create_monitored_items(
            [_monitored(node.nodeid, handle) for handle, node in enumerate(nodes, 1)]
        )
        yield found
        await subscription.delete()


def _monitored(node_id: Any, handle: int) -> Any:
    """Ask for every tick, whether or not the value changed."""
    wanted = ua.DataChangeFilter(Trigger=ua.DataChangeTrigger.StatusValueTimestamp)
    return ua.MonitoredItemCreateRequest(
        ItemToMonitor=ua.ReadValueId(NodeId=node_id, AttributeId=ua.AttributeIds.Value),
        MonitoringMode=ua.MonitoringMode.Reporting,
        RequestedParameters=ua.MonitoringParameters(
            ClientHandle=handle, SamplingInterval=20, QueueSize=100, Filter=wanted
        ),
    )


async def test_opcua_ticks_arrive_whole_with_the_exact_source_time(plain: Building) -> None:
    async with notified(plain) as found:
        await until(lambda: len(found.by_time) >= 60)
    for device in ("ahu1", "vav1", "vav2", "vav3"):
        truth = plain.truth(device)
        ticks = sorted(found.ticks(device).items())
        assert len(ticks) >= 10
        counters = [tick[f"{device}/counter"][1] for _, tick in ticks]
        assert counters == list(range(counters[0], counters[0] + len(counters)))
        for at_us, tick in ticks:
            logged = truth[tick[f"{device}/counter"][1]]
            assert logged["at_us"] == at_us
            assert {key: repr(float(value)) for key, (_, value) in tick.items()} == {
                key: repr(value) for key, value in logged["values"].items()
            }


async def test_opcua_node_types_are_as_declared(plain: Building) -> None:
    async with Client(plain.section("hvac")["options"]["url"], timeout=10) as client:
        for key, kind in {
            "ahu1/supply_temp": ua.VariantType.Double,
            "ahu1/supply_fan_status": ua.VariantType.Boolean,
            "ahu1/counter": ua.VariantType.UInt32,
            "vav1/airflow": ua.VariantType.Float,
        }.items():
            node = client.get_node(f"ns=2;s={key}")
            assert await node.read_data_type_as_variant_type() == kind
            value = (await node.read_data_value()).Value
            assert value is not None
            assert value.VariantType == kind


async def test_opcua_faults_do_what_they_say(faulty: Building) -> None:
    async with notified(faulty) as found:
        await until(lambda: len(found.ticks("vav3")) >= 12)
    assert len(found.ticks("ahu1")) <= 1  # the value that it stopped at
    assert len(faulty.truth("ahu1")) <= 1
    failed = sorted(found.ticks("vav1").items())[1:]
    assert failed
    assert {status.name for _, tick in failed for status, _ in tick.values()} == {
        "BadDeviceFailure"
    }
    assert len(faulty.truth("vav1")) <= 1
    for tick in [tick for _, tick in sorted(found.ticks("vav2").items())][1:]:
        assert tick["vav2/temperature"][0].name == "BadSensorFailure"
        logged = faulty.truth("vav2")[tick["vav2/counter"][1]]["values"]
        assert logged.pop("vav2/counter") == tick["vav2/counter"][1]
        assert set(logged.values()) == {None}


async def test_a_stuck_device_counts_on_with_the_same_values(faulty: Building) -> None:
    await until(lambda: len(faulty.truth("vav3")) >= 30 and len(faulty.truth("room3")) >= 30)
    for device in ("vav3", "room3"):
        samples = [sample["values"] for sample in faulty.truth(device).values()]
        counters = [sample.pop(f"{device}/counter") for sample in samples]
        assert counters == sorted(set(counters))
        assert all(sample == samples[1] for sample in samples[1:])


# -- MQTT --------------------------------------------------------------------------------------


@asynccontextmanager
async def messages(building: Building) -> AsyncIterator[list[tuple[str, bytes, int]]]:
    broker = building.description["mqtt"]
    received: list[tuple[str, bytes, int]] = []
    subscribed = asyncio.Event()
    loop = asyncio.get_running_loop()
    client = Paho(CallbackAPIVersion.VERSION2)

    def on_message(_client: Any, _data: Any, message: MQTTMessage) -> None:
        received.append((message.topic, bytes(message.payload), message.qos))

    def on_subscribe(*_: Any) -> None:
        loop.call_soon_threadsafe(subscribed.set)

    client.on_message = on_message
    client.on_subscribe = on_subscribe
    await asyncio.to_thread(client.connect, broker["host"], broker["port"])
    client.loop_start()
    try:
        client.subscribe("building/#", qos=1)
        await asyncio.wait_for(subscribed.wait(), 10)
        yield received
    finally:
        client.disconnect()
        await asyncio.to_thread(client.loop_stop)


async def test_mqtt_messages_are_counted_and_true_to_the_bit(plain: Building) -> None:
    async with messages(plain) as received:
        await until(lambda: len(received) >= 240)
    rooms = {topic.split("/")[1] for topic, _, _ in received}
    assert rooms == {f"room{number}" for number in range(1, 13)}
    for room in rooms:
        truth = plain.truth(room)
        mine = [json.loads(body) for topic, body, _ in received if topic.split("/")[1] == room]
        counters = [message["counter"] for message in mine]
        assert counters == list(range(counters[0], counters[0] + len(counters)))
        for message in mine:
            logged = truth[message["counter"]]
            assert message.pop("at") == logged["at_us"]
            assert {f"{room}/{name}": repr(float(each)) for name, each in message.items()} == {
                key: repr(value) for key, value in logged["values"].items()
            }
    assert {qos for _, _, qos in received} == {1}


async def test_mqtt_faults_do_what_they_say(faulty: Building) -> None:
    async with messages(faulty) as received:
        await until(lambda: len(received) >= 200)
    by_room: dict[str, list[bytes]] = {}
    for topic, body, _ in received:
        by_room.setdefault(topic.split("/")[1], []).append(body)
    assert {"room4", "room5"}.isdisjoint(by_room)
    for body in by_room["room1"]:
        message = json.loads(body)
        assert message["temperature"] is None
        assert faulty.truth("room1")[message["counter"]]["values"]["room1/temperature"] is None
    for body in by_room["room2"]:
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
    assert {device: faulty.truth(device) for device in ("room2", "room4", "room5")} == {
        "room2": {},
        "room4": {},
        "room5": {},
    }


# -- the whole ---------------------------------------------------------------------------------


async def test_the_truth_is_written_before_the_answer_leaves(plain: Building) -> None:
    """Read the file at the moment an answer is here, many times: the sample is always in it."""
    async with reader(plain, "inverter1") as reads:
        for _ in range(50):
            counter = (await reads.values())["inverter1/counter"]
            assert counter in plain.truth("inverter1")


async def test_building_json_names_every_device_and_its_points(plain: Building) -> None:
    devices = plain.description["devices"]
    assert len(devices) == 21
    served = {
        point["key"] for section in plain.description["gateway"] for point in section["points"]
    }
    assert served == {key for device in devices.values() for key in device["points"]}
    for name in devices:
        first = json.loads((plain.folder / f"{name}.jsonl").read_text().splitlines()[0])
        assert first["run"] == plain.description["run"]


async def test_an_opcua_server_that_refused_listens_again_on_its_port(tmp_path: Path) -> None:
    entries = [
        {"device": "opcua", "fault": "refuse", "at_s": 0.2, "for_s": 0.6},
        {"device": "room7", "fault": "refuse", "at_s": 0.2, "for_s": 0.6},
    ]
    (tmp_path / "faults.yaml").write_text(json.dumps({"faults": entries}))
    settings = BuildingSettings(
        truth=tmp_path / "truth", tick=TICK_S, faults=str(tmp_path / "faults.yaml")
    )
    log = settings.truth / "faults.jsonl"
    async with running(settings) as building:
        await until(lambda: len(log.read_text().splitlines()) == 5)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert sorted(line["device"] for line in lines) == ["ahu1", "room7", "vav1", "vav2", "vav3"]
        assert {line["fault"] for line in lines} == {"refuse"}
        async with notified(building) as found:
            await until(lambda: len(found.ticks("ahu1")) >= 3)
        for line in lines:
            await until(lambda: len(building.truth("room7")) > 10)
            inside = [
                sample
                for sample in building.truth(line["device"]).values()
                if line["from_us"] < sample["at_us"] < line["to_us"]
            ]
            assert inside == []
            counters = list(building.truth(line["device"]))
            assert counters == list(range(1, len(counters) + 1))
