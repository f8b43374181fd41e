"""The command line's Modbus verbs: look at a device before anything is configured."""

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table as Grid

from edge.first_read import value_text
from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusDriver, ModbusPointOptions
from protocols.modbus.matrix import Candidate, read_matrix
from protocols.modbus.options import Order, Table, Transport, ValueType
from shared.columns import Columns
from shared.errors import SpineError
from shared.model import Point

app = typer.Typer(no_args_is_help=True, help="Look at a Modbus device; nothing is configured.")

SHOWN: Final = 40

Host = Annotated[str, typer.Argument(help="Host name or IP address of the device.")]
Port = Annotated[int, typer.Option(help="TCP port.")]
Unit = Annotated[int, typer.Option(help="Unit id of the device.")]
How = Annotated[Transport, typer.Option(help="tcp, or rtu_over_tcp behind a converter.")]
Which = Annotated[Table, typer.Option(help="holding, input, coil or discrete.")]

Result = TypeVar("Result")


@app.command()
def read(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    host: Host,
    register: Annotated[int, typer.Argument(help="Address as sent, counted from 0.")],
    kind: Annotated[ValueType, typer.Option("--type", help="What the registers hold.")] = "uint16",
    order: Annotated[Order, typer.Option(help="How the bytes lie.")] = "abcd",
    table: Which = "holding",
    port: Port = 502,
    unit: Unit = 1,
    transport: How = "tcp",
) -> None:
    """Read one value."""
    device = _device(host, port, unit, transport)
    fields = {"table": table, "register": register, "order": order}
    is_bit = table in {"coil", "discrete"}
    point = _valid(ModbusPointOptions, fields if is_bit else fields | {"type": kind})
    columns = _done(_read(device, point))
    typer.echo(value_text(columns, 0))


@app.command()
def matrix(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    host: Host,
    number: Annotated[int, typer.Argument(help="The address as the manual writes it.")],
    table: Which = "holding",
    port: Port = 502,
    unit: Unit = 1,
    transport: How = "tcp",
    every: Annotated[bool, typer.Option("--all", help="Also what no building has.")] = False,
) -> None:
    """Read one number of a manual in every way it may have been meant."""
    found = _done(_matrix(_device(host, port, unit, transport), number, table))
    shown = [one for one in found if every or one.is_plausible]
    Console().print(_grid(shown if every else shown[:SHOWN]))
    if len(shown) > SHOWN and not every:
        typer.echo(f"{len(shown) - SHOWN} more: --all")


def _grid(found: Sequence[Candidate]) -> Grid:
    grid = Grid("value", "type", "order", "table", "register", "address read as")
    for one in found:
        source = one.source
        shift = f" {one.shift:+d}" if one.shift else ""
        grid.add_row(
            f"{one.value:.10g}",
            one.type,
            one.order,
            str(source["table"]),
            str(source["register"]),
            one.address.notation + shift,
        )
    return grid


def _device(host: str, port: int, unit: int, transport: Transport) -> ModbusDeviceOptions:
    fields = {"host": host, "port": port, "unit": unit, "transport": transport}
    return _valid(ModbusDeviceOptions, fields)


Options = TypeVar("Options", ModbusDeviceOptions, ModbusPointOptions)


def _valid(model: type[Options], fields: dict[str, Any]) -> Options:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        _fail(f"{place}: {first['msg']}" if place else first["msg"], 2)


async def _read(device: ModbusDeviceOptions, point: ModbusPointOptions) -> Columns:
    async with ModbusDriver(device) as driver:
        return await driver.read(driver.plan([PointSource(Point("value"), point)]))


async def _matrix(device: ModbusDeviceOptions, number: int, table: Table) -> list[Candidate]:
    async with ModbusDriver(device) as driver:
        return await read_matrix(driver, number, table)


def _done(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except SpineError as error:
        _fail(str(error), 1)


def _fail(text: str, code: int) -> NoReturn:
    sys.stderr.write(f"{text}\n")
    raise SystemExit(code)
