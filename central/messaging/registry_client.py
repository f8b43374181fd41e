"""The HTTP client of a schema registry: the few calls of Confluent's API that are needed.

Whatever is wrong with the registry or the way to it is `RegistryAway`; what the registry says
about a schema is an answer. Source: Confluent Schema Registry API, as Apicurio serves it too.
"""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx2

from central.messaging.registry import RegistryAway, SchemaRefused
from shared.errors import SettingsError

ANSWER_BYTES: Final = 1024 * 1024
ANSWER_S: Final = 10.0
COMPATIBILITY: Final = "BACKWARD_TRANSITIVE"
_KEPT: Final = frozenset({COMPATIBILITY, "FULL_TRANSITIVE"})
_HEADERS: Final = {
    "Accept": "application/vnd.schemaregistry.v1+json, application/json",
    "Accept-Encoding": "identity",  # an answer's size is then what was sent
    "Content-Type": "application/vnd.schemaregistry.v1+json",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the registry said; `error_code` is 0 where it did what it was asked."""

    body: Any
    error_code: int = 0

    @property
    def is_unknown(self) -> bool:
        """Whether the registry itself (and not a proxy before it) does not know this."""
        return self.error_code // 100 == 404

    def told(self) -> str:
        message = self.body.get("message", "") if isinstance(self.body, dict) else ""
        return " ".join(str(message).split())[:500]


class RegistryClient:
    """Asks one registry; open it with `async with`.

    User and password may stand in the URL; neither they nor its query is ever shown. Every call
    ends within `limit_s` and reads at most 1 MiB. Raises `SettingsError` for a URL that cannot be.
    """

    def __init__(self, url: str, limit_s: float = ANSWER_S) -> None:
        base = _checked(url)
        self.place = f"{base.scheme}://{base.netloc.decode()}{base.path}"
        self._limit_s = limit_s
        self._http = httpx2.AsyncClient(
            base_url=self.place,
            auth=(base.username, base.password) if base.username else None,
            headers=_HEADERS,
            timeout=limit_s,
            trust_env=False,
            verify=ssl.create_default_context() if base.scheme == "https" else False,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def versions(self, subject: str) -> list[int]:
        """List the versions of a subject; none where the registry does not know it."""
        answer = await self._ask("GET", f"/subjects/{_part(subject)}/versions")
        if answer.is_unknown:
            return []
        return [_whole(number) for number in self._typed(answer, list)]

    async def text_of(self, subject: str, version: int) -> str:
        """Give the text of one version of a subject."""
        answer = await self._ask("GET", f"/subjects/{_part(subject)}/versions/{version}")
        return str(self._field(answer, "schema", str))

    async def text_of_id(self, schema_id: int) -> str | None:
        """Give the text of the schema an id stands for; None where the registry has none."""
        answer = await self._ask("GET", f"/schemas/ids/{schema_id}")
        return None if answer.is_unknown else str(self._field(answer, "schema", str))

    async def register(self, subject: str, text: str) -> int:
        """Register a schema, or find it registered, and give its id.

        Raises `SchemaRefused` with the registry's own words.
        """
        path = f"/subjects/{_part(subject)}/versions"
        answer = await self._ask("POST", path, {"schema": text})
        if answer.error_code and not answer.is_unknown:
            raise SchemaRefused(f"{self.place} refuses the schema of {subject}: {answer.told()}")
        return _whole(self._field(answer, "id", int))

    async def keep_compatible(self, subject: str) -> None:
        """Have the registry refuse a version that cannot read what all older ones wrote."""
        path = f"/config/{_part(subject)}"
        answer = await self._ask("GET", path)
        if not answer.is_unknown and self._field(answer, "compatibilityLevel", str) in _KEPT:
            return
        answer = await self._ask("PUT", path, {"compatibility": COMPATIBILITY})
        if answer.error_code:
            raise RegistryAway(f"{self.place} does not set {COMPATIBILITY}: {answer.told()}")

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> _Answer:
        try:
            async with (
                asyncio.timeout(self._limit_s),
                self._http.stream(method, path, json=body) as response,
            ):
                return self._answer(response.status_code, await self._read(response))
        except TimeoutError as error:
            raise RegistryAway(f"{self.place}: no answer in {self._limit_s:g} s") from error
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise RegistryAway(f"{self.place}: {reason}") from error

    async def _read(self, response: httpx2.Response) -> bytes:
        found = bytearray()
        async for chunk in response.aiter_raw():
            found += chunk
            if len(found) > ANSWER_BYTES:
                raise RegistryAway(f"{self.place}: an answer of more than {ANSWER_BYTES} bytes")
        return bytes(found)

    def _answer(self, status: int, content: bytes) -> _Answer:
        try:
            body = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise RegistryAway(f"{self.place} answers {status}, and not in JSON") from error
        if status == 200:
            return _Answer(body)
        code = body.get("error_code") if isinstance(body, dict) else None
        if isinstance(code, int) and (status in {409, 422} or _Answer(body, code).is_unknown):
            return _Answer(body, code)
        raise RegistryAway(f"{self.place} answers {status}: {_Answer(body).told()}")

    def _field(self, answer: _Answer, name: str, kind: type) -> Any:
        value = self._typed(answer, dict).get(name)
        if not isinstance(value, kind):
            raise RegistryAway(f"{self.place} answers without {name}: {answer.told()}")
        return value

    def _typed(self, answer: _Answer, kind: type) -> Any:
        if not isinstance(answer.body, kind):
            raise RegistryAway(f"{self.place} does not answer as a schema registry does")
        return answer.body


def _checked(url: str) -> httpx2.URL:
    problem = "SPINE_REGISTRY: not a URL of the form http(s)://host:port/path"
    try:
        found = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise SettingsError("settings", [problem]) from error
    if found.scheme not in {"http", "https"} or not found.host:
        raise SettingsError("settings", [problem])
    return found


def _part(name: str) -> str:
    return quote(name, safe="")


def _whole(number: Any) -> int:
    """Check an id or version: a whole number that fits the four bytes before a record."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**32:
        raise RegistryAway(f"the registry gives {str(number)[:40]!r} for a number")
    return number
