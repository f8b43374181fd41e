"""What a building is told when it starts."""

from pathlib import Path

from pydantic import Field

from protocols.simulated.faults import Strict


class BuildingSettings(Strict):
    """The settings of one building process; ports of 0 are chosen freely."""

    truth: Path = Field(description="Folder of the ground truth; building.json appears there")
    seed: int = Field(default=1, description="Decides all values and faults")
    speed: float = Field(
        default=1.0, gt=0, le=10_000, description="How many times faster values replay"
    )
    tick: float = Field(
        default=1.0, ge=0.02, le=3_600, description="Seconds between samples of what pushes"
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on")
    modbus_port: int = Field(default=0, ge=0, le=65_535, description="Modbus TCP port")
    modbus_port_each: bool = Field(
        default=False, description="One port a Modbus device: modbus_port and those after it"
    )
    opcua_port: int = Field(default=0, ge=0, le=65_535, description="OPC UA port")
    mqtt_port: int = Field(default=0, ge=0, le=65_535, description="Port of the own MQTT broker")
    mqtt: str | None = Field(
        default=None,
        pattern=r"^[^\s:]+:\d{1,5}$",
        description="HOST:PORT of a broker to publish to, instead of an own one",
    )
    faults: str = Field(
        default="default", description="off, default, random, or the path of a timetable"
    )
    config: Path | None = Field(
        default=None, description="Where to write the devices section for a gateway"
    )
    poll: float = Field(
        default=1.0, gt=0, le=3_600, description="Seconds between polls, in that section"
    )
