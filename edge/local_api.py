"""Asking the running gateway over its Unix socket, which only the gateway's own user can open."""

import json
import socket
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from shared.errors import SpineError

SOCKET_FILE: Final = "api.sock"
TIMEOUT_S: Final = 60.0
ANSWER_BYTES: Final = 64 * 1024 * 1024
BASE: Final = "/api/v1"


class NotAnswered(SpineError):
    """No gateway answers, or it refuses; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class LocalApi:
    """The local API of the gateway whose data lies in a folder. All of it blocks."""

    data: Path

    def get(self, path: str) -> Any:
        """Ask for something. Raises `NotAnswered`."""
        return self._json("GET", path)

    def post(self, path: str, document: Any) -> Any:
        """Send a document. Raises `NotAnswered`."""
        return self._json("POST", path, json.dumps(document).encode(), "application/json")

    def send(self, path: str, data: bytes) -> Any:
        """Send a file. Raises `NotAnswered`."""
        return self._json("POST", path, data, "application/octet-stream")

    def file(self, path: str) -> bytes:
        """Fetch a file. Raises `NotAnswered`."""
        return self._asked("GET", path, None, "")

    def _json(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> Any:
        answer = self._asked(method, path, body, kind)
        return json.loads(answer) if answer else None

    def _asked(self, method: str, path: str, body: bytes | None, kind: str) -> bytes:
        connection = _Local(self.data / SOCKET_FILE)
        try:
            connection.request(method, BASE + path, body, {"Content-Type": kind} if kind else {})
            response = connection.getresponse()
            answer = response.read(ANSWER_BYTES)
        except (OSError, HTTPException) as error:
            msg = f"no gateway with gateway.api.enabled answers on {self.data}: {error}"
            raise NotAnswered(msg) from error
        finally:
            connection.close()
        if response.status >= 400:
            raise NotAnswered(_problem(answer))
        return answer


class _Local(HTTPConnection):
    """HTTP over the Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


def _problem(answer: bytes) -> str:
    try:
        told = json.loads(answer)
        places = [f"{one['place']}: {one['detail']}" for one in told["fields"]]
        return "\n".join([f"{told['detail']} ({told['code']})", *places])
    except (ValueError, KeyError, TypeError):
        return "the gateway refuses, and does not say why; its log may tell more"
