"""Where egress is, and whether it is reached: told as problems, counted, logged once an outage."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter

from central.problems import ApiProblem
from central.settings import variable
from shared import logs
from shared.errors import SettingsError

_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of one connection alone. Source: RFC 9110, 7.6.1."""
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_SOON: Final = {"Retry-After": "2"}
_log = logs.get("application")

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """The fixed address of egress."""

    scheme: str
    host: str
    port: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Read `http://host:port`; raises `SettingsError` for anything else."""
        try:
            url = urlsplit(text)
            port = url.port or (443 if url.scheme == "https" else 80)
            is_plain = not (url.username or url.path.strip("/") or url.query or url.fragment)
        except ValueError:
            raise _wrong_place() from None
        if url.scheme not in {"http", "https"} or not url.hostname or not is_plain:
            raise _wrong_place()
        return cls(url.scheme, url.hostname, port)


class Reach:
    """Counts what becomes of what is handed on, and makes the problems of what cannot be."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._is_away = False
        self._forwarded = Counter(
            "spine_application_forwarded",
            "Requests and live connections handed on to egress, by what became of them",
            ["outcome"],
            registry=registry,
        )

    def note_answer(self) -> None:
        """Count an answer; it ends an outage."""
        self._forwarded.labels("answered").inc()
        if self._is_away:
            _log.info("egress answers again")
        self._is_away = False

    def away(self, error: Exception) -> ApiProblem:
        """Make the problem of an egress that is not there, or breaks off."""
        if not self._is_away:
            _log.warning("egress is away", problem=f"{type(error).__name__}: {error}")
        self._is_away = True
        self._forwarded.labels("away").inc()
        detail = "The part of central that answers this is away. Try again in a few seconds."
        return ApiProblem(502, "egress_away", detail, _SOON)

    def slow(self) -> ApiProblem:
        """Make the problem of an egress that does not answer in time."""
        self._forwarded.labels("slow").inc()
        detail = "The answer took too long and was given up. Ask for less at once."
        return ApiProblem(504, "egress_slow", detail, _SOON)

    def busy(self) -> ApiProblem:
        """Make the problem of too many requests at a time."""
        self._forwarded.labels("busy").inc()
        return ApiProblem(503, "busy", "Too many requests wait. Try again in a moment.", _SOON)

    def cut(self, why: str) -> None:
        """Count an answer that was broken off when a part of it was sent already."""
        self._forwarded.labels("cut").inc()
        _log.warning("an answer of egress was broken off", reason=why)


def passed_on(headers: Iterable[Header], *but: str) -> list[Header]:
    """Choose the headers that go further than one connection, in order; `but` stay behind."""
    given = list(headers)
    named = {
        each.strip().lower()
        for name, value in given
        if name.lower() == "connection"
        for each in value.split(",")
    }
    stay = _HOP | named | set(but)
    return [(name, value) for name, value in given if name.lower() not in stay]


def checked_host(host: str) -> str:
    """Give a Host header that is a name or address with perhaps a port, or refuse it."""
    if not _HOST.fullmatch(host):
        raise ApiProblem(400, "wrong_host", "The Host header is not a name with a port.")
    return host


def wrong_path() -> ApiProblem:
    """Make the problem of a path or query that cannot be asked for."""
    return ApiProblem(400, "wrong_path", "The path or query is not written as URLs are.")


def _wrong_place() -> SettingsError:
    problem = f"{variable('egress_url')}: egress is named as http://host:port"
    return SettingsError("settings", [problem])
