"""What an installer sets for a BACnet/IP device and for each of its points."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

PORT: Final = 47_808
"""0xBAC0, registered for BACnet/IP."""

MAX_INSTANCE: Final = 4_194_302
"""The highest instance of an object; the next one is the wildcard (ASHRAE 135, 12.11.1)."""

ObjectName = Literal[
    "accumulator",
    "analog-input",
    "analog-output",
    "analog-value",
    "binary-input",
    "binary-output",
    "binary-value",
    "characterstring-value",
    "integer-value",
    "large-analog-value",
    "loop",
    "multi-state-input",
    "multi-state-output",
    "multi-state-value",
    "positive-integer-value",
]
OBJECT_TYPES: Final[tuple[str, ...]] = ObjectName.__args__  # type: ignore[attr-defined]  # Literal

Mode = Literal["poll", "cov", "auto"]

PROPERTY_PATTERN: Final = r"^[a-z][a-z0-9\-]{0,63}$"


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BacnetDevice(_Options):
    """One BACnet/IP device, reached at its address without broadcast."""

    host: str = Field(min_length=1, max_length=253, description="Host name or IPv4 address.")
    port: int = Field(PORT, ge=1, le=65_535, description="UDP port.")
    instance: int | None = Field(
        None,
        ge=0,
        le=MAX_INSTANCE,
        description="Instance of the device; if it is set, another device at the address is "
        "refused.",
    )
    local_port: int = Field(
        0, ge=0, le=65_535, description="UDP port of our side; 0 takes a free one."
    )
    timeout_s: float = Field(
        3.0, gt=0, le=60, description="How long one answer may take before it is asked for again."
    )
    retries: int = Field(
        2, ge=0, le=10, description="How often a lost answer is asked for again: UDP loses some."
    )
    max_points: int = Field(
        25,
        ge=1,
        le=200,
        description="Most points in one read-property-multiple; halved by itself where the device "
        "cannot answer so many.",
    )
    mode: Mode = Field(
        "poll",
        description="poll: everything is read at the device's interval; cov: the device tells of "
        "changes; auto: as cov, but what it does not tell of is read every poll_s.",
    )
    cov_lifetime_s: int = Field(
        300,
        ge=2,
        le=86_400,
        description="How long the device remembers a subscription; it is renewed at half of it.",
    )
    cov_confirmed: bool = Field(
        True, description="Whether the device is to repeat what we did not acknowledge."
    )
    check_s: float = Field(
        60.0,
        ge=0.5,
        le=86_400,
        description="How often everything is read all the same: it finds a silent device.",
    )
    poll_s: float = Field(
        10.0, ge=0.5, le=86_400, description="With auto: time between reads of the other points."
    )


class BacnetPoint(_Options):
    """Which property of which object of the device a point is."""

    object: ObjectName = Field(description="Type of the object.")
    instance: int = Field(ge=0, le=MAX_INSTANCE, description="Instance of the object.")
    property: str = Field(
        "present-value", pattern=PROPERTY_PATTERN, description="Property; mostly present-value."
    )
    index: int | None = Field(
        None, ge=1, le=10_000, description="Element of an array property, counted from 1."
    )


class BacnetSearch(_Options):
    """Where to look for devices, by one Who-Is."""

    broadcast: str = Field(
        "255.255.255.255",
        min_length=7,
        max_length=15,
        pattern=r"^[0-9.]+$",
        description="Address that is asked: the broadcast of a network, or one device.",
    )
    port: int = Field(PORT, ge=1, le=65_535, description="UDP port that is asked.")
    local: str = Field(
        "0.0.0.0",  # noqa: S104 - answers to a broadcast come as broadcasts
        pattern=r"^[0-9.]+(/[0-9]{1,2})?$",
        max_length=18,
        description="Our address in that network, as 10.0.0.5/24; 0.0.0.0 is any.",
    )
    local_port: int = Field(
        PORT, ge=0, le=65_535, description="Our UDP port; most devices answer to 47808 alone."
    )
    low: int = Field(0, ge=0, le=MAX_INSTANCE, description="Lowest instance of a device asked for.")
    high: int = Field(MAX_INSTANCE, ge=0, le=MAX_INSTANCE, description="Highest instance.")
    wait_s: float = Field(5.0, ge=0.5, le=30, description="How long answers are waited for.")
