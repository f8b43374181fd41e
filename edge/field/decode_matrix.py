"""The decode matrix of a device: one number of a manual, read in every way it may be meant."""

from collections.abc import Sequence
from typing import Final

from edge.field.looks import within
from edge.field.target import Target
from edge.twin import ConfigRefused
from protocols.modbus import ModbusDriver
from protocols.modbus.matrix import Candidate, addresses, read_matrix
from protocols.modbus.options import Table
from shared.errors import OptionsWrong
from shared.settings import Problem

READ_S: Final = 30.0


async def matrix_of(target: Target, number: int, table: Table) -> Sequence[Candidate]:
    """Read a number of the manual beside whatever runs; the plausible ways first.

    Raises `ConfigRefused` for what is no Modbus device or no address, `LinkLost`.
    """
    driver = target.beside()
    if not isinstance(driver, ModbusDriver):
        raise ConfigRefused([Problem(("driver",), "only Modbus devices have registers")])
    try:
        addresses(number, table)
    except OptionsWrong as error:
        raise ConfigRefused([Problem(("number",), str(error))]) from error
    async with within(READ_S), driver:
        return await read_matrix(driver, number, table)
