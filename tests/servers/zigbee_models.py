"""Devices of Zigbee2MQTT, made of its own device library; `zigbee_models.cjs` says how."""

import gzip
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tests.servers.foreign import npm

VERSION: Final = "26.112.0"
KEPT: Final = Path(__file__).parents[1] / "data" / "zigbee2mqtt" / "devices.jsonl.gz"
DEADLINE_S: Final = 120.0

_SCRIPT: Final = Path(__file__).with_suffix(".cjs")


def kept() -> list[Any]:
    """Give the devices that lie in the repository."""
    with gzip.open(KEPT, "rt") as lines:
        return _read(lines)


def made(count: int, seed: int) -> list[Any]:
    """Make devices anew."""
    modules = npm("zigbee-herdsman-converters", VERSION)
    done = subprocess.run(
        ["node", str(_SCRIPT), str(count), str(seed)],
        env=os.environ | {"NODE_PATH": str(modules)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return _read(done.stdout.splitlines())


def _read(lines: Iterable[str]) -> list[Any]:
    return [json.loads(line) for line in lines]
