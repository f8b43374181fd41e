"""A busy port is told before anything is started, whichever of the row it is."""

import socket

import pytest

from deploy.central.modules import PORTS, refuse_busy
from deploy.central.processes import RunFailed
from tests.servers.ports import ports_in_a_row


@pytest.mark.parametrize(("profile", "count"), [("local", 3), ("dev", PORTS)])
def test_each_port_of_the_row_is_looked_at(profile: str, count: int) -> None:
    first = ports_in_a_row(PORTS)
    refuse_busy(profile, first)
    for port in range(first, first + count):
        with (
            socket.create_server(("127.0.0.1", port)),
            pytest.raises(RunFailed, match=rf"^port {port} is in use.*PORT="),
        ):
            refuse_busy(profile, first)


def test_ports_behind_the_row_may_be_taken() -> None:
    first = ports_in_a_row(4)
    with socket.create_server(("127.0.0.1", first + 3)):
        refuse_busy("local", first)
