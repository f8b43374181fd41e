"""A program that watches the live values of project demo over the WebSocket of a central."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.servers.central_process import Central

DEADLINE_S: Final = 30.0


@asynccontextmanager
async def watching(
    central: Central, query: str = "", project: str = "demo", **options: Any
) -> AsyncIterator[ClientConnection]:
    """Watch with an API key of the project, unless `additional_headers` say otherwise."""
    url = f"{central.url.replace('http', 'ws')}/api/v1/projects/{project}/live{query}"
    if "additional_headers" not in options:
        options["additional_headers"] = {"Authorization": f"Bearer {await central.key()}"}
    async with connect(url, **options) as socket:
        yield socket


async def frame(socket: ClientConnection) -> dict[str, Any]:
    """Wait for the next message."""
    async with asyncio.timeout(DEADLINE_S):
        told: dict[str, Any] = json.loads(await socket.recv())
    return told


async def refusal(central: Central, **options: Any) -> tuple[int, str]:
    """Watch, expecting to be refused; gives the HTTP status and the error's code."""
    with pytest.raises(InvalidStatus) as refused:
        async with watching(central, **options):
            pass
    response = refused.value.response
    return response.status_code, json.loads(response.body or b"{}")["code"]
