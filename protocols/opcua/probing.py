"""Looks whether a server is there, and asks who made it."""

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from protocols.opcua.options import DEFAULT_PORT, OpcuaDevice
from protocols.opcua.services import read_attributes, standard
from protocols.opcua.session import Session, Target
from shared.errors import LinkLost

_TOLD: Final = {"vendor": 2263, "model": 2261, "version": 2264}
"""ManufacturerName, ProductName and SoftwareVersion of the server's BuildInfo."""


async def reach(options: OpcuaDevice) -> str:
    """See whether somebody listens at the address; raises `LinkLost` saying what to look at."""
    parts = urlsplit(options.url)
    host, port = parts.hostname or "", parts.port or DEFAULT_PORT
    try:
        async with asyncio.timeout(options.timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError as error:
        msg = f"{host}:{port}: nobody answers; look at address, cable and firewall"
        raise LinkLost(msg) from error
    except OSError as error:
        msg = f"{host}:{port}: {error.strerror or error}; look at host name and port"
        raise LinkLost(msg) from error
    writer.transport.abort()
    return f"{host}:{port}"


async def identify(session: Session) -> Mapping[str, str]:
    """Read the server's BuildInfo, as far as it tells."""
    wanted = [(Target(standard(number)), "Value") for number in _TOLD.values()]
    told = await read_attributes(session, wanted)
    return {key: one.text for key, one in zip(_TOLD, told, strict=True) if one.is_good and one.text}
