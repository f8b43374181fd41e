"""Which found nodes and devices are configured already, so that nobody adds them twice."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from edge.settings import Device
from protocols.driver import DriverType, Found, PointSource


class KnownPoints:
    """Finds the point that reads a node: all that the node's source says is so in the point."""

    def __init__(self, driver: DriverType, points: Iterable[PointSource]) -> None:
        """Keep the points of a device; they are sorted when the first node of a kind is asked."""
        self._driver = driver
        self._points = [(one.point.key, one.options) for one in points]
        self._by_fields: dict[tuple[str, ...], dict[tuple[str, ...], str]] = {}

    def key_of(self, source: Mapping[str, Any] | None) -> str:
        """Give the key of the point that reads `source`, empty where none does."""
        if source is None or not self._points:
            return ""
        try:
            options = self._driver.point_options.model_validate(dict(source))
        except ValidationError:
            return ""
        fields = tuple(sorted(options.model_fields_set))
        if fields not in self._by_fields:
            self._by_fields[fields] = {_at(one, fields): key for key, one in self._points}
        return self._by_fields[fields].get(_at(options, fields), "")


def _at(options: BaseModel, fields: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(repr(getattr(options, name, None)) for name in fields)


def points_at(devices: Sequence[Device], driver: DriverType, options: BaseModel) -> KnownPoints:
    """Find the points that are configured for the device that these options reach."""
    wanted = address_of(driver, options)
    same = [
        point
        for device in devices
        if device.driver.name == driver.name and address_of(driver, device.options) == wanted
        for point in device.points
    ]
    return KnownPoints(driver, same)


def device_of(devices: Sequence[Device], driver: DriverType, found: Found) -> str:
    """Give the name of the configured device that a found one is, empty where it is none."""
    try:
        options = driver.device_options.model_validate(dict(found.options))
    except ValidationError:
        return ""
    wanted = address_of(driver, options)
    of_driver = (one for one in devices if one.driver.name == driver.name)
    return next((one.name for one in of_driver if address_of(driver, one.options) == wanted), "")


def address_of(driver: DriverType, options: BaseModel) -> str:
    """Tell what makes a device one device."""
    return repr(options) if driver.address is None else driver.address(options)
