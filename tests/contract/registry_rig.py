"""Schema registries for tests: a small one in this process, and what tests ask of any of them."""

import asyncio
import contextlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from central.messaging.compatibility import problems_reading
from central.messaging.registry import FOLDER, FileRegistry, Schema

Answer = tuple[int, Any]
Handler = Callable[["SmallRegistry", dict[str, Any], str], Answer]


class RegistryRig(ABC):
    """A registry that can be taken away, brought back and emptied."""

    url: str

    @abstractmethod
    async def down(self) -> None:
        """End it at once."""

    @abstractmethod
    async def up(self) -> None:
        """Bring it back at the same place."""

    @abstractmethod
    async def wipe(self) -> None:
        """Throw its data away while it is down."""


@dataclass
class Release:
    """The schemas of one release of ours, in a namespace of the test's own."""

    folder: Path
    namespace: str

    def keep(self, name: str, version: int, document: Any) -> "Release":
        """Add a version of a schema."""
        path = self.folder / f"{name}.{version}.avsc"
        path.write_text(json.dumps(document), encoding="utf-8")
        return self

    def document(self, name: str, version: int = 1) -> Any:
        """Give a version of a schema, to be changed and kept as another."""
        return json.loads((self.folder / f"{name}.{version}.avsc").read_text(encoding="utf-8"))

    def with_field(self, name: str, version: int, **more: Any) -> "Release":
        """Add a version that has one field more than the one before."""
        document = self.document(name, version - 1)
        document["fields"].append({"name": f"added_{version}", **more})
        return self.keep(name, version, document)

    def load(self) -> FileRegistry:
        """Read them as a process would."""
        return FileRegistry.load(self.folder)

    @property
    def subject(self) -> str:
        """Where batches of readings are registered."""
        return f"{self.namespace}.ReadingBatch"


def first_release(folder: Path, namespace: str) -> Release:
    """Copy the first version of each of our schemas into a namespace."""
    folder.mkdir()
    release = Release(folder, namespace)
    for path in FOLDER.glob("*.1.avsc"):
        document = json.loads(path.read_text(encoding="utf-8"))
        release.keep(path.name.split(".")[0], 1, {**document, "namespace": namespace})
    return release


@dataclass
class SmallRegistry(RegistryRig):
    """A schema registry in memory, as the Confluent API describes one; open it with `up`."""

    url: str = ""
    port: int = 0
    subjects: dict[str, list[int]] = field(default_factory=dict)
    schemas: dict[int, str] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def up(self) -> None:
        if self._server is not None and self._server.is_serving():
            return
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"

    async def down(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.close()
            await self._server.wait_closed()

    async def wipe(self) -> None:
        for kept in (self.subjects, self.schemas, self.levels):
            kept.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1]) if length else 0)
                method, path, _ = head.split(" ", 2)
                self.asked.append(f"{method} {path}")
                status, answer = self._answer(method, path.removeprefix("/api"), body)
                content = json.dumps(answer).encode()
                line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                headers = (
                    f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                )
                writer.write((line + headers).encode() + content)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    def _answer(self, method: str, path: str, body: bytes) -> Answer:
        for pattern, handler in _ROUTES:
            found = re.fullmatch(pattern, f"{method} {path}")
            if found:
                return handler(self, json.loads(body or b"{}"), found[1])
        return 404, {"message": "no such path"}

    def _versions(self, _body: dict[str, Any], subject: str) -> Answer:
        if subject not in self.subjects:
            return 404, {"error_code": 40401, "message": "no such subject"}
        return 200, list(range(1, len(self.subjects[subject]) + 1))

    def _version(self, _body: dict[str, Any], place: str) -> Answer:
        subject, version = place.split("/versions/")
        schema_id = self.subjects[subject][int(version) - 1]
        return 200, {"subject": subject, "id": schema_id, "schema": self.schemas[schema_id]}

    def _schema(self, _body: dict[str, Any], schema_id: str) -> Answer:
        if int(schema_id) not in self.schemas:
            return 404, {"error_code": 40403, "message": "no such schema"}
        return 200, {"schema": self.schemas[int(schema_id)]}

    def _level(self, _body: dict[str, Any], subject: str) -> Answer:
        if subject not in self.levels:
            return 404, {"error_code": 40408, "message": "no level of its own"}
        return 200, {"compatibilityLevel": self.levels[subject]}

    def _set_level(self, body: dict[str, Any], subject: str) -> Answer:
        self.levels[subject] = body["compatibility"]
        return 200, body

    def _register(self, body: dict[str, Any], subject: str) -> Answer:
        new = Schema.parse("new", 0, body["schema"])
        ids = self.subjects.get(subject, [])
        olds = {at: Schema.parse("old", 0, self.schemas[at]) for at in ids}
        for schema_id, old in olds.items():
            if old.id == new.id:
                return 200, {"id": schema_id}
        for old in olds.values():
            problems = self._problems(subject, new, old)
            if problems:
                return 409, {"error_code": 409, "message": f"incompatible: {problems}"}
        schema_id = max(self.schemas, default=0) + 1
        self.schemas[schema_id] = body["schema"]
        self.subjects[subject] = [*ids, schema_id]
        return 200, {"id": schema_id}

    def _problems(self, subject: str, new: Schema, old: Schema) -> list[str]:
        level = self.levels.get(subject, "NONE")
        if level == "NONE":
            return []
        forth = problems_reading(old.coding, new.coding) if level.startswith("FULL") else []
        return problems_reading(new.coding, old.coding) + forth


_ROUTES: list[tuple[str, Handler]] = [
    (r"GET /subjects/([^/]+)/versions", SmallRegistry._versions),
    (r"GET /subjects/([^/]+/versions/\d+)", SmallRegistry._version),
    (r"POST /subjects/([^/]+)/versions", SmallRegistry._register),
    (r"GET /schemas/ids/(\d+)", SmallRegistry._schema),
    (r"GET /config/([^/]+)", SmallRegistry._level),
    (r"PUT /config/([^/]+)", SmallRegistry._set_level),
]
