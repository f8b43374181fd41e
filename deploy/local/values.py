"""Whether the demo's values flow: asked of the API, as anybody would."""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from http.client import HTTPException
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

PROJECT: Final = "demo"
SAMPLES: Final = {"Modbus": "meter1/counter", "OPC UA": "ahu1/counter", "MQTT": "room1/counter"}
"""One point of each protocol; when all three give live values the demo is ready."""
FRESH_S: Final = 10.0


class Samples:
    """The protocols whose values have not been seen to be live yet."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        self._waiting = dict(SAMPLES)

    def __str__(self) -> str:
        return "no live values of " + ", ".join(self._waiting)

    def look(self) -> Iterator[str]:
        """Name the protocols whose values are live now, each once."""
        oldest_s = time.time() - FRESH_S
        for protocol, at_s in self._newest():
            if at_s > oldest_s:
                del self._waiting[protocol]
                yield protocol

    def are_live(self) -> bool:
        """Tell whether nothing is waited for any more."""
        return not self._waiting

    def _newest(self) -> list[tuple[str, float]]:
        keys = "&".join(f"key={point}" for point in self._waiting.values())
        url = f"{self._url}/api/v1/projects/{PROJECT}/latest?{keys}"
        readings = (_fetch(url, self._key) or {}).get("readings", [])
        found = {one["key"]: _seconds(one["observed_at"]) for one in readings}
        return [
            (protocol, found[point]) for protocol, point in self._waiting.items() if point in found
        ]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _fetch(url: str, key: str) -> Any:
    asked = Request(url, headers={"Authorization": f"Bearer {key}"})  # noqa: S310 - loopback
    try:
        with urlopen(asked, timeout=5) as answer:  # noqa: S310 - loopback
            return json.loads(answer.read())
    except (URLError, HTTPException, OSError, ValueError):
        return None
