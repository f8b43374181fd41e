"""A serial line as a transport of asyncio: pyserial sets it up, the event loop waits for bytes."""

import asyncio
from contextlib import suppress
from typing import Any, Final

import serial

from protocols.modbus.options import ModbusDeviceOptions
from shared.errors import LinkLost

_PARITY: Final = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}


class SerialTransport(asyncio.Transport):
    """Writes whole frames and feeds a `BufferedProtocol`; a line that fails is lost."""

    def __init__(self, port: Any, protocol: asyncio.BufferedProtocol) -> None:
        """Take an open port."""
        super().__init__()
        self._port = port
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._unsent = b""
        self._is_closed = False
        protocol.connection_made(self)
        self._loop.add_reader(port.fd, self._read)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write as the line takes it."""
        if self._is_closed:
            return
        if not self._unsent:
            self._loop.add_writer(self._port.fd, self._send)
        self._unsent += bytes(data)

    def abort(self) -> None:
        """Close at once."""
        self._lose(None)

    def close(self) -> None:
        """Close at once: nothing waits to be written that anybody wants."""
        self._lose(None)

    def is_closing(self) -> bool:
        """Tell whether it is closed."""
        return self._is_closed

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._port.write(self._unsent) :]
        except (serial.SerialException, OSError) as error:
            self._lose(error)
            return
        if not self._unsent:
            self._loop.remove_writer(self._port.fd)

    def _read(self) -> None:
        try:
            data = self._port.read(4_096)
        except (serial.SerialException, OSError) as error:
            self._lose(error)
            return
        while data and not self._is_closed:
            buffer = memoryview(self._protocol.get_buffer(len(data)))
            part = data[: len(buffer)]
            buffer[: len(part)] = part
            self._protocol.buffer_updated(len(part))
            data = data[len(part) :]

    def _lose(self, error: Exception | None) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        with suppress(OSError, ValueError):
            self._loop.remove_reader(self._port.fd)
            self._loop.remove_writer(self._port.fd)
        with suppress(serial.SerialException, OSError):
            self._port.close()
        self._loop.call_soon(self._protocol.connection_lost, error)


async def open_serial(options: ModbusDeviceOptions, protocol: asyncio.BufferedProtocol) -> None:
    """Open the line of a device for a protocol; raises `LinkLost` that says what to look at."""

    def opened() -> Any:
        return serial.Serial(
            options.serial,
            baudrate=options.baudrate,
            parity=_PARITY[options.parity],
            stopbits=options.stop_bits,
            timeout=0,
            write_timeout=0,
            exclusive=True,
        )

    opening = asyncio.ensure_future(asyncio.to_thread(opened))
    try:
        port = await asyncio.shield(opening)
    except asyncio.CancelledError:
        # The thread opens it all the same, and nobody else could until it is closed again.
        await asyncio.wait([opening])
        if opening.exception() is None:
            opening.result().close()
        raise
    except (serial.SerialException, OSError, ValueError) as error:
        msg = (
            f"Modbus {options.serial}: cannot open the serial line: {error}; check that it is"
            " plugged in, that this user may use it (group dialout), and that nobody else does"
        )
        raise LinkLost(msg) from error
    port.reset_input_buffer()
    SerialTransport(port, protocol)
