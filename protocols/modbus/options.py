"""What an installer sets for a Modbus TCP device and for each of its points."""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_REGISTERS: Final = 125
"""Registers one request may ask for (Modbus Application Protocol V1.1b3, 6.3)."""

Table = Literal["holding", "input", "coil", "discrete"]
ValueType = Literal[
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float32",
    "float64",
    "bcd16",
    "bcd32",
]
PointKind = Literal[ValueType, "string"]
"""One list of names, and no union of two: a wrong one is then one problem at one place."""
Transport = Literal["tcp", "rtu_over_tcp", "rtu"]
Parity = Literal["none", "even", "odd"]
Half = Literal["high", "low"]
Order = Literal["abcd", "cdab", "badc", "dcba"]

BITS: Final[dict[ValueType, int]] = {
    "bool": 1,
    "uint8": 8,
    "int8": 8,
    "uint16": 16,
    "int16": 16,
    "uint32": 32,
    "int32": 32,
    "uint64": 64,
    "int64": 64,
    "float32": 32,
    "float64": 64,
    "bcd16": 16,
    "bcd32": 32,
}
_ORDER_TEXT: Final = (
    "How a value's bytes lie in its registers: abcd is big-endian (the standard), cdab has the low "
    "word first, badc has the bytes of each word swapped, dcba is little-endian"
)


class _Options(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, serialize_by_alias=True)


class ModbusDeviceOptions(_Options):
    """One Modbus unit, behind a TCP connection or on a serial line."""

    host: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="Host name or IP address, for TCP",
        json_schema_extra={"usually_set": True},
    )
    port: int = Field(502, ge=1, le=65_535, description="TCP port")
    unit: int = Field(1, ge=0, le=255, description="Unit id (slave address) of the device")
    transport: Transport = Field(
        "tcp",
        description="tcp; rtu_over_tcp: a converter that passes serial frames on as they are; or "
        "rtu: a serial line of this machine",
    )
    serial: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="For rtu: the serial line, best by a name that stays: /dev/serial/by-id/…",
    )
    baudrate: int = Field(9_600, ge=300, le=4_000_000, description="For rtu: bits a second")
    parity: Parity = Field("none", description="For rtu: none, even or odd")
    stop_bits: Literal[1, 2] = Field(1, description="For rtu: 1 or 2")
    timeout_s: float = Field(
        3.0, gt=0, le=60, description="How long one answer may take before the link counts as lost"
    )
    connect_timeout_s: float = Field(
        5.0, gt=0, le=60, description="How long connecting may take, name look-up included"
    )
    max_registers: int = Field(
        MAX_REGISTERS,
        ge=4,
        le=MAX_REGISTERS,
        description="Most registers in one request (sixteen times as many coils)",
    )
    max_gap: int = Field(
        8,
        ge=0,
        le=MAX_REGISTERS,
        description="Registers between two points that are read along to save a request",
    )
    pause_after_connect_s: float = Field(
        0.0, ge=0, le=30, description="Wait after connecting, for devices that answer only then"
    )
    retry_holes_s: float = Field(
        300.0,
        ge=1,
        le=86_400,
        description="How often a point that the device does not know is asked for again",
    )
    order: Order = Field("abcd", description=f"{_ORDER_TEXT}. The default of the device's points")

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if (self.serial is None) == (self.transport == "rtu"):
            msg = "serial belongs to the transport rtu, and is needed there"
            raise ValueError(msg)
        if (self.host is None) != (self.transport == "rtu"):
            msg = "host is needed for tcp and rtu_over_tcp, and means nothing for rtu"
            raise ValueError(msg)
        return self

    @property
    def address(self) -> str:
        """Name what the link leads to: host and port, or the serial line."""
        return self.serial or f"{self.host}:{self.port}"


class ModbusPointOptions(_Options):
    """Where one point lies in the device, and how its registers become a value."""

    table: Table = Field("holding", description="Which of the four tables the point lies in")
    register_: int = Field(
        alias="register", ge=0, le=65_535, description="Address as sent: counted from 0, no 40001"
    )
    type: PointKind = Field(
        "uint16", description="What the registers hold; coils and discrete inputs hold bool"
    )
    length: int | None = Field(
        None, ge=1, le=MAX_REGISTERS, description="For a string: how many registers it takes"
    )
    bit: int | None = Field(
        None, ge=0, le=15, description="For a bool in a register: which bit, 0 is the lowest"
    )
    byte: Half | None = Field(
        None, description="For an 8-bit type: which half of the register, high or low"
    )
    order: Order | None = Field(None, description=f"{_ORDER_TEXT}. Left out: the device's")
    scale: float = Field(
        1.0,
        allow_inf_nan=False,
        description="The value is what is read times scale, plus offset; not 0",
    )
    offset: float = Field(0.0, allow_inf_nan=False, description="Added after scaling")
    scale_register: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="A register of the same table that holds the power of ten (-10 to 10) by which "
        "the value is multiplied, as SunSpec has it",
    )
    sentinels: Annotated[tuple[int | float, ...], Field(strict=False)] = Field(
        (),
        max_length=8,
        description="Raw values by which the device says 'not implemented', before scaling; for "
        "signed types also as a bit pattern (0x8000)",
    )

    @model_validator(mode="before")
    @classmethod
    def _bool_where_only_bool_fits(cls, fields: object) -> object:
        if isinstance(fields, dict) and fields.get("table") in {"coil", "discrete"}:
            return {"type": "bool", **fields}
        return fields

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problem = _misfit(self)
        if problem:
            raise ValueError(problem)
        return self

    @property
    def number(self) -> ValueType:
        """Give the type of a point that holds a number, and no text."""
        if self.type == "string":
            msg = "a string is no number"
            raise TypeError(msg)
        return self.type

    @property
    def is_bit_table(self) -> bool:
        """Tell whether the table holds single bits, not registers."""
        return self.table in {"coil", "discrete"}

    @property
    def width(self) -> int:
        """Count the registers (bits in a bit table) that the point takes."""
        if self.type == "string":
            return self.length or 1
        return max(1, BITS[self.type] // 16)


def link_of(device: ModbusDeviceOptions) -> str:
    """Say how the link of a device is set up; units that share one must agree on it."""
    if device.transport != "rtu":
        return device.transport
    return f"rtu {device.baudrate} baud, parity {device.parity}, {device.stop_bits} stop bits"


def _misfit(point: ModbusPointOptions) -> str | None:
    return next(filter(None, (look(point) for look in _LOOKS)), None)


def _bit_misfit(point: ModbusPointOptions) -> str | None:
    if point.is_bit_table and point.type != "bool":
        return f"table {point.table} holds type bool only, not {point.type}"
    if (point.bit is not None) != (point.type == "bool" and not point.is_bit_table):
        return "bit belongs to type bool in a register, and is needed there"
    return None


def _size_misfit(point: ModbusPointOptions) -> str | None:
    if (point.length is not None) != (point.type == "string"):
        return "length belongs to type string, and is needed there"
    is_byte = point.type in {"uint8", "int8"}
    if (point.byte is not None) != is_byte:
        return "byte belongs to uint8 and int8, and is needed there: high or low"
    if point.register_ + point.width > 65_536:
        return f"a {point.type} at register {point.register_} reaches beyond register 65535"
    return None


def _scale_misfit(point: ModbusPointOptions) -> str | None:
    if point.scale == 0:
        return "scale must not be 0"
    is_scaled = (point.scale, point.offset, point.scale_register) != (1, 0, None)
    if is_scaled and point.type == "string":
        return "a string has no scale, offset or scale_register"
    if point.scale_register is not None and point.type == "bool":
        return "a bool has no scale_register"
    return None


def _sentinel_misfit(point: ModbusPointOptions) -> str | None:
    if not point.sentinels or point.type.startswith("float"):
        return None
    if point.type in {"bool", "string"}:
        return f"a {point.type} has no sentinels"
    bits = BITS[point.number]
    low = 0 if point.type.startswith(("u", "bcd")) else -(2 ** (bits - 1))
    for sentinel in point.sentinels:
        if not isinstance(sentinel, int) or not low <= sentinel < 2**bits:
            return f"sentinel {sentinel} does not fit type {point.type}"
    return None


_LOOKS: Final = (_bit_misfit, _size_misfit, _scale_misfit, _sentinel_misfit)
