"""What is looked at: a device that is configured, or one that is about to be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from edge.secret_store import Secrets
from edge.settings import Device, PointSection
from edge.twin import ConfigRefused
from protocols import registry
from protocols.driver import Driver, DriverType, PointSource
from shared.errors import OptionsWrong
from shared.model import Point
from shared.settings import Problem, problems_in


@dataclass(frozen=True, slots=True)
class Target:
    """A driver with its options, and the points that are asked for."""

    driver: DriverType
    options: BaseModel
    points: tuple[PointSource, ...] = ()

    def beside(self) -> Driver:
        """Make a driver for a connection that does not disturb the device's running one."""
        aside = self.driver.aside
        return self.driver.make(self.options if aside is None else aside(self.options))


def target_of(device: Device, points: Sequence[Any] | None = None) -> Target:
    """Look at a device that is configured, at its own points or at others, not saved yet.

    Raises `ConfigRefused` with every problem and its path.
    """
    if points is None:
        return Target(device.driver, device.options, device.points)
    problems: list[Problem] = []
    wanted = tuple(_points(device.driver, points, problems))
    if problems:
        raise ConfigRefused(problems)
    return Target(device.driver, device.options, wanted)


def target_in(section: Mapping[str, Any], secrets: Secrets | None = None) -> Target:
    """Look at what is not saved yet: `driver`, `options` and perhaps `points`, as in the document.

    Passwords that are only referred to are put in from `secrets`. Raises `ConfigRefused` with every
    problem and its path.
    """
    if secrets is not None:
        document = {"devices": [dict(section)]}
        missing = [Problem(one.place[2:], one.text) for one in secrets.missing(document)]
        if missing:
            raise ConfigRefused(missing)
        section = secrets.revealed(document)["devices"][0]
    try:
        driver = registry.find(str(section.get("driver", "")))
    except OptionsWrong as error:
        raise ConfigRefused([Problem(("driver",), str(error))]) from error
    problems: list[Problem] = []
    options = _valid(driver.device_options, section.get("options", {}), ("options",), problems)
    points = tuple(_points(driver, section.get("points", ()), problems))
    if options is None or problems:
        raise ConfigRefused(problems)
    return Target(driver, options, points)


def _valid(
    model: type[BaseModel], value: Any, place: tuple[str | int, ...], problems: list[Problem]
) -> BaseModel | None:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems += problems_in(error, place)
        return None


def _points(
    driver: DriverType, given: Sequence[Any], problems: list[Problem]
) -> Iterator[PointSource]:
    for at, one in enumerate(given):
        place = ("points", at)
        section = _valid(PointSection, one, place, problems)
        if not isinstance(section, PointSection):
            continue
        source = _valid(driver.point_options, section.source, (*place, "source"), problems)
        if source is not None:
            point = Point(section.key, section.unit, section.type, section.klass)
            yield PointSource(point, source)
