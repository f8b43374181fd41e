"""The commands that look at devices: what they print, how they end, and that Ctrl-C is heard."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from edge.__main__ import app
from tests.servers.bacnet import HOST, BacnetServer
from tests.servers.ports import ports_in_a_row
from tests.servers.register_device import register_device

pytestmark = pytest.mark.integration

FILE = """
central: {{link: "wss://central:1/link", enrol: "https://central:2"}}
devices:
  - name: ahu
    driver: bacnet
    options: {{host: 127.0.0.1, port: {port}}}
    points:
      - {{key: ahu/temp2, unit: "°C", source: {{object: analog-input, instance: 2}}}}
"""


async def spine_edge(*words: object) -> tuple[int, str, str]:
    """Run a command in a thread, so that servers of this test answer it."""
    arguments = [str(word) for word in words]
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert "Traceback" not in result.output
    return result.exit_code, result.stdout, result.stderr


def settings(**values: object) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


async def test_the_way_to_a_device_is_told_step_by_step() -> None:
    async with register_device({"holding": {7: 230}}) as port:
        points = ("--point", "register=7", "--point", "register=8")
        driver = ("--driver", "modbus", *settings(host=HOST, port=port))
        code, said, _ = await spine_edge("test", *driver, *points)
    steps = [line.split()[:2] for line in said.splitlines()[:4]]
    assert steps == [["✓", "network"], ["✓", "session"], ["·", "identity"], ["✓", "read"]]
    assert code == 0
    assert "1 of 2 points have values" in said
    assert "bad: wrong address" in said


async def test_a_step_that_failed_says_what_to_try_and_ends_with_one() -> None:
    driver = ("--driver", "modbus", *settings(host=HOST, port=ports_in_a_row(1)))
    code, said, _ = await spine_edge("test", *driver)
    assert code == 1
    assert "nobody there listens at this port" in said
    assert "port_closed" in said
    code, said, _ = await spine_edge("test", *driver, "--json")
    told = json.loads(said)
    assert (code, told["good"], told["steps"][0]["outcome"]) == (1, False, "failed")
    assert told["steps"][0]["trouble"]["code"] == "port_closed"


async def test_a_device_of_the_configuration_is_tested_and_browsed(tmp_path: Path) -> None:
    config = tmp_path / "gateway.yaml"
    async with BacnetServer() as server:
        config.write_text(FILE.format(port=server.port))
        code, said, _ = await spine_edge("test", "ahu", "--config", config)
        assert code == 0
        assert "vendor: Sample works" in said
        assert "22 °C" in said
        code, said, _ = await spine_edge("browse", "ahu", "--config", config)
        assert code == 0
        (row,) = [line for line in said.splitlines() if "AHU1.Temp2" in line]
        assert row.rstrip().endswith("ahu/temp2")
        code, said, _ = await spine_edge("browse", "ahu", "--config", config, "--json")
        assert [one["known_as"] for one in json.loads(said)].count("ahu/temp2") == 1
        code, said, _ = await spine_edge("browse", "ahu", "--config", config, "--most", 3)
        assert "more than 3" in said
        found = await scanned(server, "--config", config)
    assert [(one["known_as"], one["found"]["options"]["port"]) for one in found] == [
        ("ahu", server.port)
    ]


async def scanned(server: BacnetServer, *more: object) -> Any:
    where = settings(broadcast=HOST, port=server.port, local=HOST, local_port=0, wait_s=0.5)
    code, said, _ = await spine_edge("scan", "bacnet", *where, "--json", *more)
    assert code == 0
    return json.loads(said)


async def test_mistakes_end_with_two_and_say_what_to_do(tmp_path: Path) -> None:
    for words, says in [
        (("test",), "--driver"),
        (("test", "x", "--driver", "modbus"), "--driver"),
        (("test", "--driver", "nothing"), "no driver"),
        (("test", "--driver", "modbus", "--set", "host"), "key=value"),
        (("test", "--driver", "modbus", "--set", "unit=900"), "options"),
        (("test", "ahu", "--config", tmp_path / "none.yaml"), "cannot be read"),
        (("scan", "mqtt"), "cannot be searched for"),
        (("scan", "bacnet", "--set", "wait_s=900"), "options.wait_s"),
    ]:
        code, _, complained = await spine_edge(*words)
        assert (code, says in complained) == (2, True), (words, complained)


async def test_a_scan_that_is_stopped_shows_what_it_found() -> None:
    words = ["-m", "edge", "scan", "bacnet", *settings(broadcast=HOST, port=9, local=HOST)]
    words += settings(local_port=0, wait_s=30)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        await listening(process.pid)
        process.send_signal(signal.SIGINT)
        said, complained = await process.communicate()
    assert process.returncode == 130
    assert b"stopped" in complained
    assert b"nothing found" in complained
    assert b"Traceback" not in said + complained


async def listening(pid: int) -> None:
    """Wait until a process has a UDP socket."""
    process = psutil.Process(pid)
    while not process.net_connections("udp"):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)
