"""Whether an address is on one of the gateway's own networks: the first thing to know of it."""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from urllib.parse import urlsplit

import psutil
from pydantic import BaseModel

Interface = IPv4Interface | IPv6Interface


def host_of(options: BaseModel) -> str | None:
    """Find the host in device options: `host`, or the one in `url`; None where there is neither."""
    host = getattr(options, "host", None)
    if isinstance(host, str):
        return host
    url = getattr(options, "url", None)
    return urlsplit(url).hostname if isinstance(url, str) else None


def own_networks() -> Iterator[tuple[str, Interface]]:
    """Yield the gateway's own addresses, each with its network and the name of its card."""
    for card, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family in {socket.AF_INET, socket.AF_INET6} and one.netmask:
                bare = one.address.partition("%")[0]
                yield card, ip_interface(f"{bare}/{_length(one.netmask)}")


def _length(netmask: str) -> int:
    """Count the bits of a mask, which psutil writes as an address also for IPv6."""
    return int(ip_address(netmask)).bit_count()


async def where_is(host: str) -> tuple[bool, str]:
    """Tell whether a host is on a network of the gateway, and say it; a name is looked up.

    Raises OSError (socket.gaierror) where the name is not known, and UnicodeError.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    address = ip_address(str(found[0][4][0]).partition("%")[0])
    networks = list(own_networks())
    for card, own in networks:
        if address in own.network:
            return True, f"{address} is on the gateway's network {card} ({own})"
    listed = ", ".join(f"{card} {own}" for card, own in networks if not own.ip.is_loopback)
    return False, f"{address} is on none of the gateway's own networks ({listed or 'it has none'})"
