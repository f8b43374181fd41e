"""A BACnet/IP device of bacpypes3's sample objects, on loopback, on the same port every time."""

import asyncio
import socket
from typing import Any, Final, Self

from bacpypes3.errors import ExecutionError, UnrecognizedService
from bacpypes3.ipv4.app import NormalApplication
from bacpypes3.local.analog import AnalogInputObject, AnalogValueObject
from bacpypes3.local.binary import BinaryValueObject
from bacpypes3.local.cmd import Commandable
from bacpypes3.local.device import DeviceObject
from bacpypes3.object import CharacterStringValueObject
from bacpypes3.pdu import IPv4Address

HOST: Final = "127.0.0.1"
INSTANCE: Final = 77


def free_port() -> int:
    """Find a UDP port that nobody uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class CommandableValue(Commandable, AnalogValueObject):  # type: ignore[misc]  # untyped classes
    """An analog value with a priority array."""


class CommandableSwitch(Commandable, BinaryValueObject):  # type: ignore[misc]  # untyped classes
    """A binary value with a priority array."""


class RecordingApplication(NormalApplication):  # type: ignore[misc]  # as above
    """An application that keeps the requests to tell of changes, and may refuse them."""

    tells = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[Any] = []
        self.refused: set[str] = set()

    async def do_SubscribeCOVRequest(self, apdu: Any) -> None:  # noqa: N802 - it is found by its name
        self.asked.append(apdu)
        if not self.tells:
            raise UnrecognizedService
        if str(apdu.monitoredObjectIdentifier[0]) in self.refused:
            raise ExecutionError(errorClass="services", errorCode="covSubscriptionFailed")
        await super().do_SubscribeCOVRequest(apdu)


class BacnetServer:
    """Four analog inputs, a commandable value and switch, and a text.

    It does not know how to tell of changes unless `tells`.
    """

    def __init__(self, *, tells: bool = True) -> None:
        self._tells = tells
        self.port = free_port()
        self.inputs: list[Any] = [
            AnalogInputObject(
                objectIdentifier=("analog-input", at),
                objectName=f"AHU1.Temp{at}",
                presentValue=20.0 + at,
                units="degreesCelsius",
                covIncrement=0.5,
                description=f"Sensor {at}",
            )
            for at in range(4)
        ]
        self.value: Any = CommandableValue(
            objectIdentifier=("analog-value", 1),
            objectName="Setpoint",
            presentValue=21.0,
            relinquishDefault=21.0,
            units="degreesCelsius",
        )
        self.switch: Any = CommandableSwitch(
            objectIdentifier=("binary-value", 1),
            objectName="Fan",
            presentValue="inactive",
            relinquishDefault="inactive",
        )
        self.text: Any = CharacterStringValueObject(
            objectIdentifier=("characterstring-value", 1),
            objectName="Mode",
            presentValue="heating",
            statusFlags=[0, 0, 0, 0],
        )
        self._application: Any = None

    async def start(self) -> None:
        """Start; answers when this returns."""
        if self._application is not None:
            return
        device = DeviceObject(
            objectIdentifier=("device", INSTANCE),
            objectName="Air handler 1",
            vendorIdentifier=999,
            vendorName="Sample works",
            modelName="AHU",
            firmwareRevision="1.2",
            maxApduLengthAccepted=1024,
        )
        self._application = RecordingApplication(device, IPv4Address(f"{HOST}:{self.port}"))
        self._application.tells = self._tells
        for one in (*self.inputs, self.value, self.switch, self.text):
            self._application.add_object(one)
        await asyncio.wait(self._application.normal.server._transport_tasks, timeout=30)

    async def stop(self) -> None:
        """Fall silent."""
        application, self._application = self._application, None
        if application is not None:
            for detection in application._cov_detections.values():
                detection.unbind()  # else the objects go on telling, as no device that is off does
            for one in (*self.inputs, self.value, self.switch, self.text):
                if one.objectIdentifier in application.objectIdentifier:
                    application.delete_object(one)
            application.close()
            for _ in range(3):  # the transport gives its socket back in a later turn of the loop
                await asyncio.sleep(0)

    @property
    def asked(self) -> list[Any]:
        """The requests to tell of changes since it started."""
        asked: list[Any] = self._application.asked
        return asked

    def refuse(self, kind: str) -> None:
        """Tell of no object of a type."""
        self._application.refused.add(kind)

    def forget(self, index: int) -> None:
        """Make one input unknown."""
        self._application.delete_object(self.inputs[index])

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
