"""Free ports below those that the system gives to outgoing connections.

A client that keeps calling a server that is down could otherwise be given that very port, and
then the server could not come back to it.
"""

import random
import socket
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Final

from deploy.central.native.service import HOST, Profile, Service, StackFailed
from deploy.central.native.state import State

_LOWEST: Final = 18_000
_TRIES: Final = 500


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a port now."""
    with socket.socket() as probe:
        # As servers do: what is left of closed connections is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(taken: Container[int]) -> int:
    """Choose a free port that is not among those taken."""
    chance = random.SystemRandom()
    for _ in range(_TRIES):
        port = chance.randrange(_LOWEST, _first_outgoing())
        if port not in taken and is_free(port):
            return port
    raise StackFailed(f"no free port found between {_LOWEST} and {_first_outgoing()} on {HOST}")


def give_ports(state: State, services: Sequence[Service], profile: Profile) -> None:
    """See that each instance has the ports its service names; those it has stay."""
    for service in services:
        for name in service.instances(profile):
            had = state.ports.setdefault(name, {})
            for port in service.ports:
                if port not in had:
                    had[port] = choose(_all(state))


def take_back_ports(state: State, services: Sequence[Service], profile: Profile) -> None:
    """Forget a port that another program has taken of a service that is wholly down."""
    for service in services:
        names = service.instances(profile)
        if any(state.alive(name) for name in names):
            continue
        for name in names:
            had = state.ports.get(name, {})
            state.ports[name] = {port: number for port, number in had.items() if is_free(number)}


def _all(state: State) -> set[int]:
    return {port for ports in state.ports.values() for port in ports.values()}


def _first_outgoing() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return first if first > _LOWEST + _TRIES else 65_536
