"""The link proxy: frames are lost, doubled and swapped whole, and nothing else happens to them."""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from shared import pki
from shared.link import SUBPROTOCOL
from tests.chaos.fates import Fate, Fates
from tests.chaos.proxy import Direction, Proxy, running_proxy

FRAMES = 600


@dataclass(slots=True)
class Central:
    """What stands in for central: keeps what it receives, and answers each frame in kind."""

    received: list[bytes] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    close_code: int | None = None

    async def serve(self, socket: ServerConnection) -> None:
        peer = socket.transport.get_extra_info("ssl_object").getpeercert()
        self.subjects.append(str(peer["subject"]))
        async for data in socket:
            assert isinstance(data, bytes)
            self.received.append(data)
            if self.close_code is not None:
                await socket.close(self.close_code, "enough")
                return
            await socket.send(b"answer to " + data)


@dataclass(slots=True)
class Rig:
    """Central, proxy, and the way to connect as the gateway."""

    central: Central
    proxy: Proxy
    roots: bytes

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[ClientConnection]:
        url = f"wss://127.0.0.1:{self.proxy.port}/link"
        async with connect(
            url,
            ssl=pki.client_context(self.roots),
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]  # NewType of str
            proxy=None,
            close_timeout=2,
        ) as socket:
            yield socket


@asynccontextmanager
async def rig(folder: Path, share: float, port: int | None = None) -> AsyncIterator[Rig]:
    root = pki.make_root("test")
    certificate = write_pem(folder / "server.pem", pki.issue_server(root, ["127.0.0.1"]))
    key, csr = pki.make_key_and_csr()
    identity = folder / "identity.pem"
    identity.write_bytes(key + pki.issue_gateway(root, csr, "demo", "gw1"))
    central = Central()
    context = pki.server_context(certificate, certificate, root.pem)
    async with serve(
        central.serve,
        "127.0.0.1",
        0,
        ssl=context,
        subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]  # NewType of str
    ) as server:
        there = port or next(iter(server.sockets)).getsockname()[1]
        proxy = Proxy(
            f"wss://127.0.0.1:{there}/link",
            lambda: pki.client_context(root.pem, identity),
            Fates(share),
            seed=3,
        )
        async with running_proxy(proxy, server_context(certificate)):
            yield Rig(central, proxy, root.pem)


def server_context(certificate: Path) -> ssl.SSLContext:
    return pki.server_context(certificate, certificate, None)


def write_pem(path: Path, issued: pki.Issued) -> Path:
    path.write_bytes(issued.key + issued.certificate)
    return path


async def receive(socket: ClientConnection, count: int) -> list[bytes]:
    async with asyncio.timeout(10):
        return [bytes(await socket.recv(decode=False)) for _ in range(count)]


async def send_until_answered(socket: ClientConnection, data: bytes) -> None:
    async with asyncio.timeout(10):
        answered = False
        while not answered:
            await socket.send(data)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    while not answered:
                        answered = await socket.recv() == b"answer to " + data


async def test_without_fates_both_directions_pass_unchanged_under_the_gateways_name(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path, share=0.0) as it, it.gateway() as socket:
        sent = [bytes([n % 256]) * n for n in range(40)]
        for data in sent:
            await socket.send(data)
        answers = await receive(socket, len(sent))

    assert it.central.received == sent
    assert answers == [b"answer to " + data for data in sent]
    assert "gw1" in it.central.subjects[0]
    assert socket.subprotocol == SUBPROTOCOL


async def test_frames_are_lost_doubled_and_swapped_but_never_changed(tmp_path: Path) -> None:
    async with rig(tmp_path, share=0.2) as it, it.gateway() as socket:
        for n in range(FRAMES):
            await socket.send(str(n).encode())
        await send_until_answered(socket, b"last")

    numbers = [int(data) for data in it.central.received if data != b"last"]
    arrived = Counter(numbers)
    assert set(arrived) <= set(range(FRAMES))
    lost = FRAMES - len(arrived)
    doubled = sum(count - 1 for count in arrived.values())
    swapped = sum(one > other for one, other in pairwise(numbers))
    for happened in (lost, doubled, swapped):
        assert FRAMES * 0.03 < happened < FRAMES * 0.12


def test_fates_follow_the_seed_and_share_alone() -> None:
    def drawn(seed: str, share: float) -> list[Fate]:
        rng = random.Random(seed)
        fates = Fates(share)
        return [fates.draw(rng) for _ in range(1_000)]

    assert drawn("a", 0.2) == drawn("a", 0.2)
    assert drawn("a", 0.2) != drawn("b", 0.2)
    assert set(drawn("a", 0.0)) == {Fate.PASS}
    assert 120 < sum(fate is not Fate.PASS for fate in drawn("a", 0.2)) < 280


async def test_a_lone_frame_that_is_held_back_still_arrives(tmp_path: Path) -> None:
    async with rig(tmp_path, share=1.0) as it, it.gateway() as socket:
        it.proxy.fates.kinds = (Fate.SWAP,)
        await socket.send(b"alone")

        assert await receive(socket, 1) == [b"answer to alone"]


@pytest.mark.parametrize("way", list(Direction))
async def test_a_cut_stops_one_direction_and_what_waits_goes_on_after_it(
    tmp_path: Path, way: Direction
) -> None:
    async with rig(tmp_path, share=0.0) as it, it.gateway() as socket:
        async with it.proxy.cut(way):
            await socket.send(b"x")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await socket.recv()
            arrived_meanwhile = list(it.central.received)

        assert await receive(socket, 1) == [b"answer to x"]

    assert arrived_meanwhile == ([] if way is Direction.UP else [b"x"])


async def test_a_hang_up_breaks_the_line_and_the_gateway_may_come_again(tmp_path: Path) -> None:
    async with rig(tmp_path, share=0.0) as it:
        async with it.gateway() as socket:
            await socket.send(b"x")
            await receive(socket, 1)
            it.proxy.hang_up()
            with pytest.raises(ConnectionClosed) as broken:
                await socket.recv()
        async with it.gateway() as socket:
            await socket.send(b"y")
            await receive(socket, 1)

    assert broken.value.rcvd is None
    assert it.central.received == [b"x", b"y"]


async def test_a_close_by_central_reaches_the_gateway_with_its_code(tmp_path: Path) -> None:
    async with rig(tmp_path, share=0.0) as it, it.gateway() as socket:
        it.central.close_code = 4409
        await socket.send(b"x")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4409


async def test_a_central_that_is_away_is_told_at_the_upgrade(tmp_path: Path) -> None:
    async with rig(tmp_path, share=0.0, port=1) as it:
        with pytest.raises(InvalidStatus) as refused:
            async with it.gateway():
                pass

    assert refused.value.response.status_code == 502
