"""The Modbus verbs of the command line, against a device."""

import asyncio
import sys

import pytest

from tests.servers.register_device import register_device

pytestmark = pytest.mark.integration

WORDS = {"input": {100: 0x4367, 101: 0x8000, 102: 7}}


async def modbus(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edge",
        "modbus",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, complained = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(), complained.decode()


async def test_one_value_is_read_or_its_reason_told() -> None:
    async with register_device(WORDS) as port:
        place = ("--table", "input", "--port", str(port))
        read = ("read", "127.0.0.1", "100", "--type", "float32", *place)
        assert await modbus(*read) == (0, "231.5\n", "")
        code, said, _ = await modbus("read", "127.0.0.1", "900", *place)
        assert (code, said) == (0, "bad: wrong address\n")


async def test_the_matrix_shows_the_right_reading_first_of_its_kind() -> None:
    async with register_device(WORDS) as port:
        where = ("--table", "input", "--port", str(port))
        code, said, complained = await modbus("matrix", "127.0.0.1", "30101", *where)
    assert (code, complained) == (0, "")
    rows = [line.split() for line in said.splitlines()]
    assert any("231.5" in row and "float32" in row and "3xxxx" in row for row in rows), said


async def test_mistakes_are_told_without_a_stack_trace() -> None:
    for arguments, says in [
        (("read", "127.0.0.1", "70000"), "register"),
        (("read", "127.0.0.1", "1", "--port", "99999"), "port"),
        (("matrix", "127.0.0.1", "1", "--table", "coil", "--port", "1"), "1"),
    ]:
        code, _, complained = await modbus(*arguments)
        assert code in {1, 2}
        assert says in complained
        assert "Traceback" not in complained
