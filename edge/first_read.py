"""One read of one device, for a person who wants to see whether it answers as it should."""

import asyncio
from collections.abc import Iterator

from edge.document import part_of
from edge.field.reading import read_once
from edge.field.shown import words_of
from edge.field.target import Target
from edge.first_revision import devices_at_rest
from edge.settings import Device, GatewayConfig
from edge.vault import Vault
from shared.columns import Columns
from shared.errors import OptionsWrong
from shared.quality import QualityClass, class_of


async def told(config: GatewayConfig, name: str) -> list[str]:
    """Read the device `name` once, and say each point in a line.

    Raises `OptionsWrong` for an unknown name, and what the driver raises.
    """
    device = await asyncio.to_thread(device_named, config, name)
    async with Target(device.driver, device.options).beside() as driver:
        return list(_lines(device, await read_once(driver, device.points)))


def device_named(config: GatewayConfig, name: str) -> Device:
    """Find a device of the configuration in force; raises `OptionsWrong`. Blocks."""
    devices = configured(config)
    if name not in devices:
        names = ", ".join(devices)
        msg = f"no device {name!r}; there are {names}"
        raise OptionsWrong(msg)
    return devices[name]


def configured(config: GatewayConfig) -> dict[str, Device]:
    """List the devices of the configuration in force, by name. Blocks."""
    vault = Vault.find(config.data, config.master_key)
    return devices_at_rest(config.data, part_of(config.raw), vault)


def _lines(device: Device, columns: Columns) -> Iterator[str]:
    width = max(len(source.point.key) for source in device.points)
    for row, series in enumerate(columns.series.tolist()):
        point = device.points[series].point
        is_good = class_of(int(columns.quality[row])) is QualityClass.GOOD
        unit = f" {point.unit}" if is_good and point.unit else ""
        yield f"{point.key:<{width}}  {value_text(columns, row)}{unit}"


def value_text(columns: Columns, row: int) -> str:
    """Say a reading's value, and what is wrong with it or why there is none."""
    quality = int(columns.quality[row])
    klass = class_of(quality)
    if klass is QualityClass.BAD:
        return words_of(quality)
    value = columns.texts.get(row) or f"{columns.value[row]:.10g}"
    return value if klass is QualityClass.GOOD else f"{value}  {words_of(quality)}"
