"""The baselines of stage `ingress`: a bare mutual-TLS ASGI sink, in a process of its own.

`python -m bench.sink FOLDER [BYTES]` serves on a free port with the server, protocol class and TLS
settings of central's own link, under the authority in FOLDER. It takes every frame that comes,
looks at nothing, and answers each with one receipt that was made before. What is posted to it by
HTTP it reads and answers with 204. With BYTES it first has the log of `SPINE_KAFKA` acknowledge a
record of so many bytes for each frame: what nobody can do without.
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import uvloop

from central.ingress.authority import Authority
from central.ingress.tls import PeerCertificateProtocol
from central.messaging import Log
from central.messaging.kafka_log import KafkaPlace, open_kafka_log
from central.serve import Door, Site, bind, serving
from central.settings import read
from shared.link import SUBPROTOCOL, WINDOW_BATCHES, Accepted, Receipt, pack

ANSWER: Final = pack(Receipt(accepted=(Accepted(epoch=2**62, seqs=((70_000, 70_000),)),)))
"""A receipt of one batch, packed once."""
TOPIC: Final = f"spine.sink_{uuid4().hex[:8]}.readings"


async def sink(scope: Any, receive: Any, send: Any) -> None:
    """Answer every frame of one connection, or one request."""
    if scope["type"] == "http":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        return
    await receive()
    await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": ANSWER})


class LoggingSink:
    """Appends a ready record for every frame, and answers when the log has it."""

    def __init__(self, log: Log, record: bytes) -> None:
        self._log = log
        self._record = record

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection: as many appends at once as a gateway sends ahead."""
        await receive()
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})

        async def work() -> None:
            while (await receive())["type"] == "websocket.receive":
                await self._log.append(TOPIC, b"1", self._record)
                await send({"type": "websocket.send", "bytes": ANSWER})

        tasks = [asyncio.create_task(work()) for _ in range(WINDOW_BATCHES)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def serve(folder: Path, record_bytes: int) -> None:
    """Serve until SIGTERM or SIGINT; prints the port once it is up."""
    if not record_bytes:
        await _serve(folder, sink)
        return
    kafka = read().kafka
    assert kafka is not None, "SPINE_KAFKA must name the log"
    async with open_kafka_log(KafkaPlace(kafka)) as log:
        await log.create_topic(TOPIC)
        try:
            await _serve(folder, LoggingSink(log, bytes(record_bytes)))
        finally:
            await log.delete_topic(TOPIC)


async def _serve(folder: Path, app: Any) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tls = Authority.open(folder).listener("sink", ("localhost",), asks_clients=True)
    bound = bind(Door("sink", "link_port", "127.0.0.1", 0))
    async with serving({bound: Site(app, tls.context, PeerCertificateProtocol)}, stop_s=1):
        print(bound.port, flush=True)
        await stop.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 0))
