"""Asks an address which servers are there, and how each lets itself be spoken to."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from asyncua import ua
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from protocols.driver import Found
from protocols.opcua.faults import LIBRARY_FAULTS, sign_in_name
from protocols.opcua.options import OpcuaDevice, whole_url
from protocols.opcua.security import is_ours, plain_channel, policy_name
from protocols.opcua.trust import Presented, load_presented

MOST_SERVERS: Final = 20
MOST_FOUND: Final = 200


class OpcuaSearch(BaseModel):
    """Where to look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(
        min_length=1,
        max_length=500,
        description="Where a server or a discovery server listens: opc.tcp://HOST:PORT, or HOST.",
    )
    timeout_s: float = Field(
        default=4.0, gt=0, le=60, description="How long to wait for each answer, in seconds."
    )

    @field_validator("url")
    @classmethod
    def _whole(cls, url: str) -> str:
        return whole_url(url if "://" in url else f"opc.tcp://{url}")


async def discover(options: OpcuaSearch, progress: Callable[[float], None]) -> AsyncIterator[Found]:
    """Find every way to speak with the servers at an address.

    One for each endpoint, security and sign-in, at most `MOST_FOUND`. Nothing is found where
    nobody listens. The thumbprint is what the server presents: look at it before you take it.
    """
    asked = urlsplit(options.url)
    urls = await _servers(asked, options.timeout_s)
    seen: set[str] = set()
    for nth, url in enumerate(urls):
        progress(nth / len(urls))
        for found in await _ways(url, options.timeout_s):
            if found.title not in seen and len(seen) < MOST_FOUND:
                seen.add(found.title)
                yield found
    progress(1.0)


async def _servers(asked: SplitResult, timeout_s: float) -> list[str]:
    """Ask which servers there are; the address itself is always one to ask."""
    urls = [asked.geturl()]
    try:
        async with asyncio.timeout(2 * timeout_s), plain_channel(urls[0], timeout_s) as channel:
            known = await channel.find_servers()
        for application in known or []:
            if application.ApplicationType != ua.ApplicationType.Client:
                urls += [_reached(url, asked) for url in application.DiscoveryUrls or [] if url]
    except LIBRARY_FAULTS:
        pass  # the address itself may still answer
    fitting = [url for url in dict.fromkeys(urls) if url.startswith("opc.tcp://")]
    return fitting[:MOST_SERVERS]


async def _ways(url: str, timeout_s: float) -> list[Found]:
    try:
        async with asyncio.timeout(2 * timeout_s), plain_channel(url, timeout_s) as channel:
            endpoints = await channel.get_endpoints()
        known = (one for one in endpoints if is_ours(one))
        return [way for endpoint in known for way in _found(endpoint, urlsplit(url))]
    except LIBRARY_FAULTS:  # also what it tells may be no endpoint
        return []


def _found(endpoint: ua.EndpointDescription, asked: SplitResult) -> Iterator[Found]:
    policy, mode = policy_name(endpoint.SecurityPolicyUri), endpoint.SecurityMode.name.rstrip("_")
    url = _reached(endpoint.EndpointUrl, asked)
    presented = load_presented(endpoint.ServerCertificate or b"")
    name = endpoint.Server.ApplicationName.Text or endpoint.Server.ApplicationUri or url
    options: dict[str, Any] = {"url": url}
    if policy != "None":
        options |= {"security": policy, "security_mode": mode}
        if presented is not None:
            options["server_certificate"] = presented.thumbprint
    for sign_in in dict.fromkeys(token.TokenType for token in endpoint.UserIdentityTokens or []):
        shown = sign_in_name(sign_in)
        facts = {"sign_in": shown, "security_level": str(endpoint.SecurityLevel)}
        if not _is_spoken(options, sign_in):
            facts["not_served"] = "this gateway does not speak so"
        yield Found(
            f"{name}: {url}, {policy}, {mode}, {shown}",
            options,
            facts | _facts(endpoint, presented),
        )


def _facts(endpoint: ua.EndpointDescription, presented: Presented | None) -> dict[str, str]:
    server = endpoint.Server
    facts = {"application_uri": server.ApplicationUri or "", "product": server.ProductUri or ""}
    if presented is not None:
        facts |= {
            "thumbprint": presented.thumbprint,
            "thumbprint_sha1": presented.thumbprint_sha1,
            "certificate": str(presented),
        }
    return {key: text for key, text in facts.items() if text}


def _is_spoken(options: dict[str, Any], sign_in: ua.UserTokenType) -> bool:
    """Tell whether this driver can connect in such a way, given what a person adds."""
    if sign_in == ua.UserTokenType.IssuedToken:
        return False
    if "security" not in options:
        return bool(sign_in == ua.UserTokenType.Anonymous)
    try:
        OpcuaDevice.model_validate(options | {"identity": "given"})
    except ValidationError:
        return False
    return True


def _reached(url: str, asked: SplitResult) -> str:
    """Name the server by the host that answered: its own name for itself often leads nowhere."""
    told = urlsplit(url)
    if told.scheme != "opc.tcp" or told.port != asked.port:
        return url
    return told._replace(netloc=asked.netloc).geturl()
