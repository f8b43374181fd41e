"""The small page at `/`: signing in by a link, and what the API offers. Nothing comes from afar."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from edge.api.access import OPEN

router = APIRouter(dependencies=[OPEN], include_in_schema=False)


@router.get("/")
async def page() -> HTMLResponse:
    """Serve the page."""
    text, policy = _page()
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


@router.get("/api/v1/openapi.json")
async def description(request: Request) -> JSONResponse:
    """Describe the API as OpenAPI 3.1."""
    document: dict[str, Any] = request.app.openapi()
    return JSONResponse(document)


@cache
def _page() -> tuple[str, str]:
    text = Path(__file__).with_name("page.html").read_text("utf-8")
    script, style = (
        _hash(text, re.compile(f"<{tag}>(.*?)</{tag}>", re.DOTALL)) for tag in ("script", "style")
    )
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text, policy


def _hash(text: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(text)
    body = found[1] if found else ""
    return f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"
