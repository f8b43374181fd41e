"""The Sparkplug B codec of the Tahu project (npm sparkplug-payload), as a second opinion."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.servers.foreign import npm

VERSION: Final = "1.0.3"
DEADLINE_S: Final = 120.0

_SCRIPT: Final = Path(__file__).with_suffix(".cjs")


def encode(payloads: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Write payloads; {"$long": "12"} is a 64-bit number, {"$bytes": "00ff"} are bytes."""
    return [bytes.fromhex(answer) for answer in _ask([{"encode": one} for one in payloads])]


def decode(payloads: Sequence[bytes]) -> list[Any]:
    """Read payloads; large numbers and bytes come as `encode` takes them."""
    return _ask([{"decode": one.hex()} for one in payloads])


def _ask(questions: Sequence[Mapping[str, Any]]) -> list[Any]:
    modules = npm("sparkplug-payload", VERSION)
    done = subprocess.run(
        ["node", str(_SCRIPT)],
        input="".join(json.dumps(question) + "\n" for question in questions),
        env=os.environ | {"NODE_PATH": str(modules)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
