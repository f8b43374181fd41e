"""Device templates: every sample of every template is read through its driver, from a server."""

import math
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from protocols import registry, templates
from protocols.driver import Delivery, Driver, PointSource, Subscribing
from protocols.templates import Sample, Template
from protocols.testing.rig import DEADLINE_S
from shared.columns import Columns, concatenate
from shared.errors import OptionsWrong
from shared.model import Point, PointType
from shared.quality import QualityClass, class_of
from tests.servers.mosquitto import HOST, establish, mosquitto, publish
from tests.servers.register_device import register_device

TEMPLATES = templates.built_in()
MODBUS = [(name, at) for name, at in TEMPLATES.items() if at.driver == "modbus"]
MQTT = [(name, at) for name, at in TEMPLATES.items() if at.driver == "mqtt"]
SAMPLES = [
    (f"{name}-{at}", one, sample) for name, one in MODBUS for at, sample in enumerate(one.samples)
]
MESSAGES = [
    (f"{name}-{at}", one, sample) for name, one in MQTT for at, sample in enumerate(one.samples)
]


def sources(template: Template, section: Mapping[str, Any]) -> list[PointSource]:
    model = registry.find(template.driver).point_options
    return [
        PointSource(
            Point(point["key"], point["unit"], PointType(point["type"])),
            model.model_validate(point["source"]),
        )
        for point in section["points"]
    ]


def driver(template: Template, section: Mapping[str, Any]) -> Driver:
    kind = registry.find(template.driver)
    made: Driver = kind.make(kind.device_options.model_validate(section["options"]))
    return made


def assert_means(sample: Sample, keys: list[str], columns: Columns) -> None:
    read = {
        keys[series]: (columns.texts.get(row, columns.value[row]), columns.quality[row])
        for row, series in enumerate(columns.series.tolist())
    }
    for key, value in sample.means.items():
        got, quality = read[key]
        if value is None:
            assert math.isnan(float(got)), key  # the collector makes every NaN bad
        else:
            assert class_of(int(quality)) is QualityClass.GOOD, key
            assert got == (
                pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
            ), key


def test_there_are_templates_of_meters_inverters_heat_pumps_and_room_sensors() -> None:
    assert len(TEMPLATES) >= 12
    assert {"meter", "inverter", "heat_pump", "room_sensor"} <= {
        one.kind for one in TEMPLATES.values()
    }


@pytest.mark.parametrize(
    ("template", "sample"), [one[1:] for one in SAMPLES], ids=[one[0] for one in SAMPLES]
)
async def test_registers_mean_what_the_template_says(template: Template, sample: Sample) -> None:
    tables = {table: words(blocks) for table, blocks in sample.registers.items()}
    async with register_device(tables) as port:
        section = template.device("demo", {"host": HOST, "port": port})
        section["options"] |= {"pause_after_connect_s": 0.0}
        async with driver(template, section) as device:
            columns = await device.read(device.plan(sources(template, section)))

    assert_means(sample, [point.key for point in template.points], columns)


def words(blocks: Mapping[int, str]) -> dict[int, int]:
    return {
        start + at: int(word, 16)
        for start, block in blocks.items()
        for at, word in enumerate(block.split())
    }


@pytest.mark.integration
@pytest.mark.parametrize(("name", "template", "sample"), MESSAGES, ids=[one[0] for one in MESSAGES])
async def test_messages_mean_what_the_template_says(
    tmp_path: Path, name: str, template: Template, sample: Sample
) -> None:
    parameters = {key: one.default or "demo" for key, one in template.parameters.items()}
    async with mosquitto(tmp_path) as broker:
        options = {"host": HOST, "port": broker.port, "client_id": name}
        section = template.device("demo", options, parameters)
        topics = sorted({point["source"]["topic"] for point in section["points"]})
        await establish(broker.port, name, *topics)
        async with driver(template, section) as device:
            assert isinstance(device, Subscribing)
            plan = device.plan(sources(template, section))
            for topic, payload in sample.messages:
                await publish(broker.port, topic, payload)
            columns = await received(device.subscribe(plan, ()), set(sample.means), template)

    assert_means(sample, [point.key for point in template.points], columns)


async def received(
    pushed: AsyncIterator[Delivery], wanted: set[str], template: Template
) -> Columns:
    came = Columns.empty()
    with anyio.fail_after(DEADLINE_S):
        async for delivery in pushed:
            delivery.done()
            came = concatenate([came, delivery.columns])
            if wanted <= {template.points[series].key for series in came.series.tolist()}:
                break
    return came


def test_a_missing_parameter_is_told_with_what_it_is() -> None:
    with pytest.raises(OptionsWrong, match=r"needs device: Name under which"):
        TEMPLATES["shelly_plus_ht"].device("ht", {"host": HOST, "client_id": "x"})


def test_an_unknown_parameter_is_told() -> None:
    with pytest.raises(OptionsWrong, match="no parameter colour"):
        TEMPLATES["eastron_sdm630"].device("m1", {"host": HOST}, {"colour": "red"})


def test_options_that_the_driver_refuses_are_told() -> None:
    with pytest.raises(OptionsWrong, match="port"):
        TEMPLATES["eastron_sdm630"].device("m1", {"host": HOST, "port": 0})


def test_a_name_that_cannot_begin_a_key_is_told() -> None:
    with pytest.raises(OptionsWrong, match="cannot be a point's key"):
        TEMPLATES["eastron_sdm630"].device("meter one", {"host": HOST})


def test_the_copys_options_win_over_the_templates() -> None:
    section = TEMPLATES["sma_inverter"].device("pv", {"host": HOST, "unit": 4})

    assert section["options"]["unit"] == 4
    assert section["points"][0]["key"] == "pv/energy_total"
