"""The connection test against real devices: each step failing, and nothing left open."""

import asyncio
import struct
from typing import Any

import pytest

from edge.field import networks
from edge.field.connection_test import Outcome, Step, StepReport, check_connection
from edge.field.target import Target, target_in
from tests.servers.bacnet import INSTANCE, BacnetServer
from tests.servers.modbus import HOST, RegisterServer
from tests.servers.opcua import OpcuaServer
from tests.servers.ports import ports_in_a_row
from tests.servers.quiet import quiet_server

pytestmark = pytest.mark.integration

OK, FAILED, SKIPPED = Outcome.OK, Outcome.FAILED, Outcome.SKIPPED


def modbus(port: int, *registers: int, **more: Any) -> Target:
    points = [
        {"key": f"p{register}", "unit": "V", "source": {"register": register}}
        for register in registers
    ]
    options = {"host": HOST, "port": port, **more}
    return target_in({"driver": "modbus", "options": options, "points": points})


async def outcomes(target: Target) -> tuple[list[Outcome], StepReport, list[str]]:
    """Give how each step ended, the step that failed (else the last), and the values."""
    heard: list[StepReport] = []
    report = await check_connection(target, heard.append)
    assert tuple(heard) == report.steps
    assert [one.step for one in report.steps] == list(Step)
    failed = [one for one in report.steps if one.outcome is FAILED]
    assert report.is_good == (not failed)
    for one in failed:
        assert one.trouble is not None
        assert one.trouble.cause
        assert one.trouble.remedy
    said = [f"{one.key} {one.said}" for one in report.values]
    return [one.outcome for one in report.steps], (failed or list(report.steps))[-1], said


async def test_a_good_device_passes_with_the_value_of_every_point_beside_it() -> None:
    async with RegisterServer() as server:
        server.put("holding", 10, [230, 231])
        server.unknown = {("holding", 99)}
        found, last, values = await outcomes(modbus(server.port, 10, 11, 99))
    assert found[0] is found[1] is found[3] is OK
    assert values == ["p10 230 V", "p11 231 V", "p99 bad: wrong address"]
    assert last.text == "2 of 3 points have values"


async def test_a_bacnet_device_says_who_it_is() -> None:
    async with BacnetServer() as server:
        options = {"host": HOST, "port": server.port}
        source = {"object": "analog-value", "instance": 1}
        section = {
            "driver": "bacnet",
            "options": options,
            "points": [{"key": "a", "source": source}],
        }
        report = await check_connection(target_in(section))
    assert report.is_good
    assert report.steps[2].facts["vendor"] == "Sample works"
    assert [one.value for one in report.values] == [21.0]


async def test_an_opcua_server_is_read_beside_its_running_session() -> None:
    server = OpcuaServer()
    await server.start()
    try:
        node = await server.add("temp", 21.5)
        points = [{"key": "temp", "source": {"node": node}}]
        target = target_in({"driver": "opcua", "options": {"url": server.url}, "points": points})
        report = await check_connection(target)
        assert report.is_good
        assert [one.value for one in report.values] == [21.5]
    finally:
        await server.close()


async def test_a_closed_port_fails_at_the_network_and_says_whose_network_it_is() -> None:
    found, failed, _ = await outcomes(modbus(ports_in_a_row(1), 1))
    assert found == [FAILED, SKIPPED, SKIPPED, SKIPPED]
    assert failed.trouble is not None
    assert failed.trouble.code == "port_closed"
    assert "is on the gateway's network lo" in failed.text


async def test_a_name_that_nobody_knows_fails_at_the_network() -> None:
    target = target_in({"driver": "modbus", "options": {"host": "no-such-host.invalid"}})
    found, failed, _ = await outcomes(target)
    assert found == [FAILED, SKIPPED, SKIPPED, SKIPPED]
    assert failed.trouble is not None
    assert failed.trouble.code == "name_unknown"


async def test_an_address_in_a_foreign_network_is_told_from_a_device_that_is_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks, "own_networks", lambda: iter(()))
    options = {"host": HOST, "port": ports_in_a_row(1), "timeout_s": 0.2, "retries": 0}
    found, failed, _ = await outcomes(target_in({"driver": "bacnet", "options": options}))
    assert found[0] is FAILED
    assert failed.trouble is not None
    assert failed.trouble.code in {"not_on_own_network", "port_closed"}
    assert "none of the gateway's own networks" in failed.text


async def test_a_device_that_is_another_one_fails_at_the_session() -> None:
    async with BacnetServer() as server:
        options = {"host": HOST, "port": server.port, "instance": INSTANCE + 1}
        found, failed, _ = await outcomes(target_in({"driver": "bacnet", "options": options}))
    assert found == [OK, FAILED, SKIPPED, SKIPPED]
    assert failed.trouble is not None
    assert failed.trouble.code == "session_refused"
    assert str(INSTANCE) in failed.text


async def test_a_unit_that_never_answers_fails_at_the_identity() -> None:
    async with quiet_server() as server:
        found, failed, _ = await outcomes(modbus(server.port, timeout_s=0.2))
        await server.until(lambda: server.open == 0)
    assert found == [OK, OK, FAILED, SKIPPED]
    assert failed.trouble is not None
    assert failed.trouble.code == "identity_silent"


def reads_alone(data: bytes) -> bytes:
    """Answer read requests with sevens, and nothing else."""
    if data[7] != 3:
        return b""
    count = int.from_bytes(data[10:12], "big")
    body = struct.pack(">BBB", data[6], 3, 2 * count) + struct.pack(">H", 7) * count
    return data[:4] + struct.pack(">H", len(body)) + body


async def test_a_device_that_knows_no_question_for_its_name_is_read_all_the_same() -> None:
    async with quiet_server(reads_alone) as server:
        found, _, values = await outcomes(modbus(server.port, 5, timeout_s=1.0))
    assert found == [OK, OK, SKIPPED, OK]
    assert values == ["p5 7 V"]


async def test_points_that_the_device_does_not_have_fail_at_the_test_read() -> None:
    async with RegisterServer() as server:
        server.unknown = {("holding", at) for at in range(100)}
        found, failed, values = await outcomes(modbus(server.port, 3, 4))
    assert found[:2] == [OK, OK]
    assert found[3] is FAILED
    assert failed.trouble is not None
    assert failed.trouble.code == "no_point_readable"
    assert "check it in the manual" in failed.text
    assert values == ["p3 bad: wrong address", "p4 bad: wrong address"]


async def test_a_test_that_is_cancelled_leaves_nothing_open() -> None:
    async with quiet_server() as server:
        test = asyncio.create_task(check_connection(modbus(server.port, timeout_s=60.0)))
        await server.until(lambda: b"+" in server.received)  # it asks who the device is
        assert server.open == 1
        test.cancel()
        await asyncio.wait({test})
        assert test.cancelled()
        await server.until(lambda: server.open == 0)
