"""The one question of Kafka's protocol that tells a broker that serves from one that listens."""

import socket
import ssl
import struct
from contextlib import ExitStack
from typing import Final

from deploy.central.native.service import HOST

_METADATA: Final = 3
_VERSION: Final = 1
_NO_TOPICS: Final = 0
_TIMEOUT_S: Final = 2.0
_MAX_BYTES: Final = 1 << 20


def live_brokers(port: int, context: ssl.SSLContext | None) -> set[int]:
    """Ask a broker who is in service, by node id; empty where no controller is known.

    Raises `OSError` where nobody answers, or not with Kafka's protocol.
    """
    body = struct.pack(">hhih", _METADATA, _VERSION, 1, -1) + struct.pack(">i", _NO_TOPICS)
    with ExitStack() as opened:
        plain = socket.create_connection((HOST, port), _TIMEOUT_S)
        link: socket.socket = opened.enter_context(plain)
        if context is not None:
            link = opened.enter_context(context.wrap_socket(plain, server_hostname=HOST))
        link.sendall(struct.pack(">i", len(body)) + body)
        (size,) = struct.unpack(">i", _receive(link, 4))
        if not 4 <= size <= _MAX_BYTES:
            raise OSError(f"{HOST}:{port} does not speak Kafka's protocol")
        answer = _receive(link, size)
    try:
        return _brokers(answer[4:])
    except struct.error as error:
        raise OSError(f"{HOST}:{port} answers a question about brokers in no known form") from error


def _brokers(data: bytes) -> set[int]:
    (count,) = struct.unpack_from(">i", data)
    found, at = set(), 4
    for _ in range(count):
        node, length = struct.unpack_from(">ih", data, at)
        found.add(node)
        at += 6 + length + 4  # the host's name, its port
        (rack,) = struct.unpack_from(">h", data, at)
        at += 2 + max(rack, 0)
    (controller,) = struct.unpack_from(">i", data, at)
    return found if controller >= 0 else set()


def _receive(link: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        more = link.recv(size - len(parts))
        if not more:
            raise ConnectionResetError("the connection ended before the answer did")
        parts += more
    return bytes(parts)
