"""The broker that the building brings if none is given: amqtt, in the same process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from amqtt.broker import Broker as AmqttBroker
from amqtt.errors import BrokerError

from protocols.simulated.mqtt_client import Broker
from shared.errors import SettingsError


class _TidyBroker(AmqttBroker):  # type: ignore[misc] # amqtt ships no types
    """Closes every connection it is done with: amqtt forgets some whose client left early."""

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one client."""
        try:
            await super().stream_connected(reader, writer, listener_name)
        finally:
            writer.close()


@asynccontextmanager
async def broker(host: str, port: int) -> AsyncIterator[Broker]:
    """Run a broker that lets everyone in; on a free port if `port` is 0."""
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    running = _TidyBroker(config)
    try:
        await running.start()
    except BrokerError as error:
        raise SettingsError("--mqtt-port", [f"{host}:{port} cannot listen: {error}"]) from error
    try:
        yield Broker(host, _port_of(running))
    finally:
        await running.shutdown()


def _port_of(running: Any) -> int:
    """Ask the listening socket; amqtt itself does not tell."""
    (server,) = running._servers.values()  # noqa: SLF001 -- there is no other way to port 0
    port: int = server.instance.sockets[0].getsockname()[1]
    return port
