"""Writes the reference of the local API: its OpenAPI document, and a page of routes and problems.

`python docs/reference/make_local_api.py` writes both anew; a test holds them to the code.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs/reference/local-api.openapi.json"
PAGE = REPOSITORY / "docs/reference/local-api.md"

HEAD = """# The local API

What a gateway serves on site, where `gateway.api.enabled` is true:
[how to use it](../how-to/use-the-local-api.md). The [OpenAPI document](local-api.openapi.json) is
also served at `/api/v1/openapi.json`. This page is made from the code by
`python docs/reference/make_local_api.py`.

A change of the configuration names the revision it is made for (`If-Match: "7"`, as a GET's `ETag`
told it), is carried out as a whole or not at all, and answers with the new one. Lists that can be
long have a `cursor`. Times are UTC, ISO 8601.

Who may call a route: `open` anybody, `viewer` any session, `technician` a session that may change,
`local` the gateway's own command line over its Unix socket, which may call all others too.
"""

PROBLEMS = """
## Problems

Every error is a problem document (RFC 9457, `application/problem+json`) with `status`, `title`,
`detail`, a stable `code`, and `fields` where places of the request are wrong.

| code | status | meaning |
|---|---|---|
"""


def document() -> dict[str, Any]:
    """Build the OpenAPI document; no gateway is needed for that."""
    sys.path.insert(0, str(REPOSITORY))
    from edge.api.app import api_app  # noqa: PLC0415 - after the path is set

    described: dict[str, Any] = api_app(None).openapi()  # type: ignore[arg-type]  # only described
    return described


def written(described: dict[str, Any]) -> str:
    """Write the document as it lies in the repository."""
    return json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def page() -> str:
    """Write the page."""
    described = document()
    from edge.api.problems import CODES  # noqa: PLC0415 - after the path is set

    codes = [f"| `{code}` | {status} | {text} |" for code, (status, text) in CODES.items()]
    return "".join([HEAD, *_routes(described), PROBLEMS, "\n".join(codes), "\n"])


def _routes(described: dict[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["page"])[0]
            policy = operation.get("x-policy", "open")
            text = operation.get("description", "").partition("\n")[0]
            by_tag.setdefault(tag, []).append(
                f"| `{method.upper()} {path}` | {policy} | {text} |\n"
            )
    for tag, rows in by_tag.items():
        yield f"\n## {tag[0].upper()}{tag[1:]}\n\n| route | who | what |\n|---|---|---|\n"
        yield from rows
        if tag == "live":
            yield "| `WEBSOCKET /api/v1/live` | viewer | Live values: a snapshot, then changes. |\n"


if __name__ == "__main__":
    DOCUMENT.write_text(written(document()), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
