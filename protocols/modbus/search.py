"""Where to look for Modbus devices, as an installer says it, and which places that means."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from protocols.modbus.options import ModbusDeviceOptions, Parity
from shared.errors import OptionsWrong

MAX_HOSTS: Final = 256

Host = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[\w.:\-/%]+$")]


class ModbusSearch(BaseModel):
    """Addresses or a serial line, and the units that are asked there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hosts: tuple[Host, ...] = Field(
        (),
        max_length=MAX_HOSTS,
        description="Addresses, host names or networks (192.168.1.0/24); at most 256 addresses.",
    )
    port: int = Field(502, ge=1, le=65_535, description="TCP port.")
    any_network: bool = Field(
        False,
        description="Whether addresses outside of private networks may be asked as well.",
    )
    serial: str | None = Field(
        None, min_length=1, max_length=253, description="A serial line of this machine to search."
    )
    baudrates: tuple[Annotated[int, Field(ge=300, le=4_000_000)], ...] = Field(
        (9_600, 19_200), min_length=1, max_length=8, description="For a serial line: speeds to try."
    )
    parities: tuple[Parity, ...] = Field(
        ("none", "even"), min_length=1, max_length=3, description="For a serial line: parities."
    )
    first_unit: int = Field(1, ge=0, le=255, description="The first unit id that is asked.")
    last_unit: int = Field(10, ge=0, le=255, description="The last unit id that is asked.")
    timeout_s: float = Field(0.5, gt=0, le=5, description="How long an answer is waited for.")
    connect_timeout_s: float = Field(1.0, gt=0, le=10, description="How long connecting may take.")
    at_once: int = Field(16, ge=1, le=64, description="How many addresses are asked side by side.")
    requests_per_s: float = Field(
        50.0,
        gt=0,
        le=1_000,
        description="At most so many units are asked a second, over all addresses.",
    )

    @property
    def units(self) -> range:
        """The unit ids that are asked."""
        return range(self.first_unit, self.last_unit + 1)


async def lanes_of(search: ModbusSearch) -> list[list[ModbusDeviceOptions]]:
    """List the links to look at; those of one lane cannot be looked at side by side.

    Raises `OptionsWrong` for nothing to search, too much of it, or an address of the wide world.
    """
    if not search.units:
        msg = f"units from {search.first_unit} to {search.last_unit} are none"
        raise OptionsWrong(msg)
    lanes = [[_tcp(search, host)] for host in await _addresses(search)]
    line = list(_lines(search))
    if line:
        lanes.append(line)
    if not lanes:
        raise OptionsWrong("nothing to search: give hosts, networks, or a serial line")
    return lanes


def _tcp(search: ModbusSearch, host: str) -> ModbusDeviceOptions:
    return ModbusDeviceOptions(
        host=host,
        port=search.port,
        unit=search.first_unit,
        timeout_s=search.timeout_s,
        connect_timeout_s=search.connect_timeout_s,
    )


def _lines(search: ModbusSearch) -> Iterator[ModbusDeviceOptions]:
    if search.serial is None:
        return
    for baudrate in search.baudrates:
        for parity in search.parities:
            yield ModbusDeviceOptions(
                transport="rtu",
                serial=search.serial,
                baudrate=baudrate,
                parity=parity,
                unit=search.first_unit,
                timeout_s=search.timeout_s,
            )


async def _addresses(search: ModbusSearch) -> list[str]:
    found: dict[str, None] = {}
    for host in search.hosts:
        for address in await _expanded(host):
            if not (search.any_network or _is_own(address)):
                msg = f"{address} is in no private network: search it only with any_network"
                raise OptionsWrong(msg)
            found[address] = None
            if len(found) > MAX_HOSTS:
                msg = f"more than {MAX_HOSTS} addresses: search one network of 256 after the other"
                raise OptionsWrong(msg)
    return list(found)


async def _expanded(host: str) -> list[str]:
    if "/" not in host:
        return [await _resolved(host)]
    try:
        network = ipaddress.ip_network(host, strict=False)
    except ValueError as error:
        msg = f"{host!r} is no network; write it as 192.168.1.0/24"
        raise OptionsWrong(msg) from error
    if network.num_addresses > MAX_HOSTS:
        msg = f"{host} has {network.num_addresses} addresses; at most {MAX_HOSTS} are searched"
        raise OptionsWrong(msg)
    return [str(address) for address in network.hosts()]


async def _resolved(host: str) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        msg = f"{host!r} is neither an address nor a name that is known here"
        raise OptionsWrong(msg) from error
    return str(found[0][4][0])


def _is_own(address: str) -> bool:
    one = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    return one.is_private or one.is_loopback or one.is_link_local
