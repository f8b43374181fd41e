"""A BACnet/IP device on rusty-bacnet, run as a process of its own: `rusty_bacnet_server.py PORT`.

Four analog inputs and a commandable analog value. A line of standard input is {"put": {"1": 5.0}}
for the inputs, or {"forget": 1}, which starts the device anew without one of them.
"""

import asyncio
import json
import sys
from typing import Any

import rusty_bacnet as rusty

HOST = "127.0.0.1"
INSTANCE = 78


class Device:
    """The device, which keeps its values over a new start."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._values = dict.fromkeys(range(4), 0.0)
        self._server: Any = None

    async def start(self) -> None:
        server = self._server = rusty.BACnetServer(
            INSTANCE, "Rust", interface=HOST, port=self._port, broadcast_address=HOST
        )
        for instance, value in self._values.items():
            server.add_analog_input(instance, f"Input {instance}", 62, value)
        server.add_analog_value(1, "Setpoint")
        await server.start()

    async def put(self, values: dict[str, float]) -> None:
        for instance, value in values.items():
            self._values[int(instance)] = value
            kind = rusty.ObjectType.ANALOG_INPUT
            place = rusty.ObjectIdentifier(kind, int(instance))
            await self._server.set_present_value_local(place, rusty.PropertyValue.real(value))

    async def forget(self, instance: int) -> None:
        await self._server.stop()
        self._values.pop(instance, None)
        await self.start()


async def main() -> None:
    device = Device(int(sys.argv[1]))
    await device.start()
    print("READY", flush=True)  # noqa: T201 - whoever started it waits for that
    while line := await asyncio.to_thread(sys.stdin.readline):
        told = json.loads(line)
        await device.put(told.get("put", {}))
        if "forget" in told:
            await device.forget(told["forget"])
        print("DONE", flush=True)  # noqa: T201


asyncio.run(main())
