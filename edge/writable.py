"""What may be written to a point, and by whom; a point that does not say so is never written."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from protocols.driver import DriverType, PointSource, Writing
from shared.errors import OptionsWrong
from shared.model import KEY_LENGTH, KEY_PATTERN, PointType
from shared.settings import Problem

HAND: Final = 8
"""Priorities up to this one are of people on site, all lower ones of central: BACnet's 'manual'."""

LONGEST_LEASE_S: Final = 31 * 86_400.0

Value = float | str

PointKey = Annotated[str, StringConstraints(pattern=KEY_PATTERN, max_length=KEY_LENGTH)]


class InterlockSection(BaseModel):
    """A condition on another point; a value that is bad, or too old, does not meet it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    point: PointKey = Field(description="Key of a point of this gateway.")
    at_least: float | None = Field(None, description="Its value must not be below this.")
    at_most: float | None = Field(None, description="Its value must not be above this.")
    equals: float | str | None = Field(None, description="Its value must be this; a text or 0 / 1.")
    max_age_s: float = Field(
        60.0, gt=0, le=86_400, description="Its last reading must not be older than this."
    )

    @model_validator(mode="after")
    def _has_a_condition(self) -> Self:
        if self.at_least is None and self.at_most is None and self.equals is None:
            raise ValueError("says no condition: give at_least, at_most or equals")
        return self


class WriteSection(BaseModel):
    """Makes a point writable, within these limits; without it, nothing ever writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float | None = Field(
        None, allow_inf_nan=False, description="The least value; with `max`, or else `values`."
    )
    max: float | None = Field(None, allow_inf_nan=False, description="The greatest value.")
    step: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Values are whole steps away from `min`."
    )
    values: tuple[float | str, ...] = Field(
        (), max_length=200, description="The only values that may be written; needed for a text."
    )
    min_interval_s: float = Field(
        1.0, ge=0, le=86_400, description="Between two commands at least this time goes by."
    )
    interlock: tuple[InterlockSection, ...] = Field(
        (), max_length=20, description="Conditions on other points that must all be met."
    )
    max_lease_s: float | None = Field(
        None,
        gt=0,
        le=LONGEST_LEASE_S,
        description="A value holds so long at most, then the point is given back by itself; none: "
        "until it is given back.",
    )
    release_value: float | str | None = Field(
        None,
        description="Written when nobody holds the point any more. Needed for leases, but where "
        "the device itself takes a point back (BACnet).",
    )
    verify_within_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="After so long the point must read as it was written; 0: it is not read back.",
    )
    tolerance: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="How far it may read from what was written; usually half a step, or a "
        "millionth of the value.",
    )
    central: bool = Field(True, description="Whether central may write it, or people here alone.")
    central_priority: int = Field(
        HAND + 1, gt=HAND, le=16, description="The highest priority that central may use, 9 to 16."
    )
    local_priority: int = Field(
        HAND, ge=1, le=HAND, description="The highest priority that people here may use, 1 to 8."
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if (self.min is None) != (self.max is None):
            raise ValueError("give both min and max, or neither")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        return self

    def objection(self, value: Value) -> str:
        """Say why a value may not be written; nothing where it may."""
        if self.values and value not in self.values:
            return f"{value!r} is not one of {', '.join(map(str, self.values))}"
        if isinstance(value, str) or self.min is None or self.max is None:
            return ""
        if not self.min <= value <= self.max:
            return f"{value:g} is outside {self.min:g} to {self.max:g}"
        steps = (value - self.min) / self.step if self.step else 0.0
        if abs(steps - round(steps)) > 1e-6:
            return f"{value:g} is no whole number of steps of {self.step:g} from {self.min:g}"
        return ""

    def is_as_written(self, written: Value, read: Value) -> bool:
        """Tell whether a point reads as it was written."""
        if isinstance(written, str) or isinstance(read, str):
            return written == read
        usual = self.step / 2 if self.step else max(1e-6 * abs(written), 1e-9)
        return abs(written - read) <= (usual if self.tolerance is None else self.tolerance)


class Written(Protocol):
    """What is asked of a device here (`edge.settings.Device`)."""

    @property
    def driver(self) -> DriverType:
        """Its driver."""
        ...

    @property
    def options(self) -> BaseModel:
        """The driver's options."""
        ...

    @property
    def points(self) -> tuple[PointSource, ...]:
        """Its points."""
        ...

    @property
    def writes(self) -> tuple[WriteSection | None, ...]:
        """What may be written to each of them; empty where nothing."""
        ...


def write_problems(devices: Sequence[Written]) -> Iterator[Problem]:
    """Find what is wrong with what may be written, beyond one section: driver, type, interlocks."""
    types = {one.point.key: one.point.type for device in devices for one in device.points}
    for at, device in enumerate(devices):
        can_write = not any(device.writes) or _can_write(device)
        for nth, (source, section) in enumerate(zip(device.points, device.writes, strict=False)):
            if section is None:
                continue
            place = ("devices", at, "points", nth, "write")
            if not can_write:
                yield Problem(place, f"the driver {device.driver.name} cannot write")
            for name, text in _faults(section, source.point.type, device.driver):
                yield Problem((*place, *name), text)
            yield from _interlock_problems(section, source.point.key, types, place)


def _can_write(device: Written) -> bool:
    try:
        return isinstance(device.driver.make(device.options), Writing)
    except OptionsWrong:
        return True  # its options are a problem of their own


def _faults(
    section: WriteSection, kind: PointType, driver: DriverType
) -> Iterator[tuple[tuple[str, ...], str]]:
    if kind is PointType.NUMBER and section.min is None and not section.values:
        yield (), "a number needs min and max, or values: nothing is written without limits"
    if kind is PointType.TEXT and not section.values:
        yield (), "a text needs values: nothing is written without limits"
    for value in section.values:
        if isinstance(value, str) is not (kind is PointType.TEXT):
            yield ("values",), f"{value!r} is no {kind.value}"
    back = section.release_value
    if back is not None and (fault := type_fault(kind, back) or section.objection(back)):
        yield ("release_value",), fault
    if section.max_lease_s is not None and back is None and not driver.releases:
        text = "needs release_value: this device does not take a point back by itself"
        yield ("max_lease_s",), text


def type_fault(kind: PointType, value: Value) -> str:
    """Say why a value is not of a point's type; nothing where it is."""
    if isinstance(value, str) is not (kind is PointType.TEXT):
        return f"{value!r} is no {kind.value}"
    if kind is PointType.BOOLEAN and value not in {0, 1}:
        return f"{value!r} is no boolean: write 0 or 1"
    return ""


def _interlock_problems(
    section: WriteSection, key: str, types: Mapping[str, Any], place: tuple[str | int, ...]
) -> Iterator[Problem]:
    for at, one in enumerate(section.interlock):
        if one.point not in types:
            text = f"{one.point!r} is no point of this gateway"
            yield Problem((*place, "interlock", at, "point"), text)
        elif one.point == key:
            yield Problem((*place, "interlock", at, "point"), "a point cannot interlock itself")
