"""The gateway's configuration file: `SettingsError` with every problem, or a configuration."""

import tempfile
from pathlib import Path

from edge.settings import load
from shared.errors import SettingsError

_FILE = Path(tempfile.mkdtemp(prefix="spine-fuzz-")) / "gateway.yaml"

SEEDS = (
    b"""central: {link: wss://c:1/link, enrol: https://c:2}
devices:
  - name: m
    driver: modbus
    interval_s: 1
    options: {host: h}
    points:
      - {key: a/b, unit: W, source: {register: 5, type: int16}}
""",
    b"devices: [{driver: mqtt, points: [{source: {topic: a/+}}]}]\n",
    b"gateway: {data: x, log: {level: debug}}\ndevices: 5\n",
)


def one(data: bytes) -> None:
    _FILE.write_bytes(data)
    try:
        load(_FILE)
    except SettingsError as error:
        assert error.problems  # noqa: PT017 - a fuzzer, not a test
