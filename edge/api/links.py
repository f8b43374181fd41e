"""How answers lead to further requests, as OpenAPI links: a revision, a name, a key, an id."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

_REVISION: Final = {"header.if-match": "$response.header.ETag"}

_LEADS: Final[Mapping[tuple[str, str, str], Mapping[str, tuple[str, str]]]] = {
    ("/api/v1/configuration", "get", "200"): {},
    ("/api/v1/devices", "get", "200"): {
        "/api/v1/devices/{name}": ("path.name", "$response.body#/devices/0/name"),
    },
    ("/api/v1/points", "get", "200"): {
        "/api/v1/points/{key}": ("path.key", "$response.body#/points/0/key"),
    },
    ("/api/v1/imports", "post", "201"): {
        "/api/v1/imports/{id}": ("path.id", "$response.body#/id"),
        "/api/v1/imports/{id}/apply": ("path.id", "$response.body#/id"),
    },
}
"""By path, method and status: which paths the answer leads to, and by what of it.

An answer that leads nowhere else leads with its revision to everything that changes.
"""


def add_links(schema: dict[str, Any]) -> None:
    """Write the links into an OpenAPI document."""
    paths = schema["paths"]
    for (path, method, status), leads in _LEADS.items():
        if path in paths:
            response = paths[path][method]["responses"][status]
            response["links"] = dict(_links(paths, leads))


def _links(
    paths: Mapping[str, Any], leads: Mapping[str, tuple[str, str]]
) -> Iterator[tuple[str, Any]]:
    for path, operations in paths.items():
        if leads and path not in leads:
            continue
        for operation in operations.values():
            needs_revision = any(
                one["name"] == "if-match" for one in operation.get("parameters", ())
            )
            given = {leads[path][0]: leads[path][1]} if leads else {}
            given |= _REVISION if needs_revision else {}
            if given:
                name = operation["operationId"]
                yield name, {"operationId": name, "parameters": given}
