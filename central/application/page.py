"""The page: one file of ours, sent with a policy that lets nothing else in."""

import base64
import hashlib
import re
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse

from central.access import open_to_all

_BLOCK: Final = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
_NONE: Final = "'none'"


def routes() -> APIRouter:
    """Make the route of the page; it holds no data, so it is open. What it fetches is not."""
    html = (files("central.application") / "ui" / "index.html").read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": content_policy(html),
        "Cache-Control": "no-cache",
    }
    router = APIRouter(tags=["page"], dependencies=[open_to_all])

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> Response:
        """Give the page."""
        return HTMLResponse(html, headers=headers)

    @router.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        """Give nothing: the page carries its icon itself."""
        return Response(status_code=204)

    return router


def content_policy(html: str) -> str:
    """Write the content security policy: the inline blocks by hash, connections to itself only."""
    found: dict[str, list[str]] = {"script": [], "style": []}
    for name, text in _BLOCK.findall(html):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        found[name].append(f"'sha256-{digest}'")
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(found['script']) or _NONE}",
            f"style-src {' '.join(found['style']) or _NONE}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
