"""One read of one device, for a person who wants to see whether it answers as it should."""

from collections.abc import Iterator

from edge.settings import Device, GatewayConfig
from shared.columns import Columns
from shared.errors import OptionsWrong
from shared.quality import class_of, reason_of


async def told(config: GatewayConfig, name: str) -> list[str]:
    """Read the device `name` once, and say each point in a line.

    Raises `OptionsWrong` for an unknown name, and what the driver raises.
    """
    found = [device for device in config.devices if device.name == name]
    if not found:
        names = ", ".join(device.name for device in config.devices)
        msg = f"no device {name!r}; there are {names}"
        raise OptionsWrong(msg)
    return list(_lines(found[0], await read_once(found[0])))


async def read_once(device: Device) -> Columns:
    """Connect, read every point once, and leave."""
    driver = device.driver.make(device.options)
    async with driver:
        return await driver.read(driver.plan(device.points))


def _lines(device: Device, columns: Columns) -> Iterator[str]:
    width = max(len(source.point.key) for source in device.points)
    for row, series in enumerate(columns.series.tolist()):
        point = device.points[series].point
        quality = int(columns.quality[row])
        value = columns.texts.get(row) or f"{columns.value[row]:.10g}"
        if class_of(quality).name == "GOOD":
            yield f"{point.key:<{width}}  {value} {point.unit}".rstrip()
        else:
            reason = reason_of(quality).name.lower().replace("_", " ")
            yield f"{point.key:<{width}}  {class_of(quality).name.lower()}: {reason}"
