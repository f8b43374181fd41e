"""What the BACnet driver writes to one stack's device, as another stack's client reads it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocols.bacnet import BacnetDevice, BacnetDriver, BacnetPoint
from protocols.driver import PointSource
from shared.model import Point
from tests.servers.bacnet import HOST, free_port
from tests.servers.bacnet_foreign import node_client, rusty_bacnet

SETPOINT = PointSource(Point("setpoint"), BacnetPoint(object="analog-value", instance=1))
ANALOG_VALUE, PRESENT_VALUE, PRIORITY_ARRAY = 2, 85, 87


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    found = free_port()
    async with rusty_bacnet(found, tmp_path / "log"):
        yield found


async def read_by_another(port: int, what: int) -> list[Any]:
    command, environment = node_client(port, ANALOG_VALUE, 1, what)
    process = await asyncio.create_subprocess_exec(
        *command, env=dict(os.environ) | environment, stdout=asyncio.subprocess.PIPE
    )
    shown, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    values: list[Any] = json.loads(shown)
    return values


async def test_a_priority_is_taken_and_given_back(port: int) -> None:
    before = await read_by_another(port, PRIORITY_ARRAY)
    async with BacnetDriver(BacnetDevice(host=HOST, port=port, timeout_s=5)) as driver:
        await driver.write(SETPOINT, 23.5, 10)
        await driver.write(SETPOINT, 19.0, 12)
        both = await read_by_another(port, PRIORITY_ARRAY)
        value = await read_by_another(port, PRESENT_VALUE)
        read = await driver.read(driver.plan([SETPOINT]))
        await driver.write(SETPOINT, None, 10)
        lower = await read_by_another(port, PRIORITY_ARRAY)
        await driver.write(SETPOINT, None, 12)
        after = await read_by_another(port, PRIORITY_ARRAY)

    assert before == [None] * 16
    assert both == [None] * 9 + [23.5, None, 19.0] + [None] * 4
    assert value == [23.5]
    assert read.value.tolist() == [23.5]
    assert lower == [None] * 11 + [19.0] + [None] * 4
    assert after == [None] * 16
