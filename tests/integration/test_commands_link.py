"""Commands over the link: taken once, ended once, and told until central has it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge import uplink
from edge.commands import CommandStore, Orders
from edge.uplink import Uplink
from shared import link
from shared.backoff import Backoff
from shared.clock import SystemClock
from tests.integration.commands_kit import CommandSite, SiteClock, site_in
from tests.integration.outbox_kit import no_open_outbox, opened
from tests.integration.twin_kit import until
from tests.servers.link_central import LinkCentral, link_central

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)

ID, OTHER = bytes(range(16)), bytes(range(1, 17))


@dataclass
class Linked:
    """A gateway's commands on the link of a scripted central."""

    site: CommandSite
    central: LinkCentral

    async def order(self, id_: bytes, value: Any, **more: Any) -> None:
        document = {"point": "a", "value": value, "expires_us": self.site.clock.us(60), **more}
        await self.send(link.Command(id=id_, document=document))

    async def send(self, frame: link.Frame) -> None:
        assert self.central.socket is not None
        await self.central.socket.send(link.pack(frame))

    def told(self, id_: bytes = ID) -> list[str]:
        return [one.state for one in self.central.of(link.Outcome) if one.id == id_]

    async def told_times(self, times: int) -> None:
        await until(lambda: len(self.told()) == times)

    async def session(self, number: int) -> None:
        await until(lambda: self.central.of(link.Hello)[number - 1 :])


@pytest.fixture
async def gw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Linked]:
    monkeypatch.setattr(
        uplink, "Backoff", lambda **_: Backoff(base_s=0.002, cap_s=0.01, floor_s=0.001)
    )
    async with linked(tmp_path) as made:
        yield made


@asynccontextmanager
async def linked(folder: Path) -> AsyncIterator[Linked]:
    site = site_in(folder)
    site.make_store = lambda path, _: CommandStore(path)
    await site.start()
    outbox = await opened(folder, 1)
    async with link_central(folder) as central:
        orders = Orders(site.commander)
        up = Uplink(central.url, central, outbox, SystemClock(), commands=orders)
        works = (up.run(), orders.run(), site.commander.run())
        tasks = [asyncio.create_task(work) for work in works]
        made = Linked(site, central)
        try:
            await made.session(1)
            yield made
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await site.stop()
            await outbox.close()


async def test_an_order_is_carried_out_and_its_end_told(gw: Linked) -> None:
    await gw.order(ID, 21.5)
    await until(lambda: gw.told() == ["done"])
    assert gw.site.written() == [21.5]


async def test_an_order_that_comes_again_is_answered_again_and_written_once(gw: Linked) -> None:
    expires_us = gw.site.clock.us(60)
    for nth, value in enumerate([21.5, 21.5, 21.5, 22.5], start=1):
        await gw.order(ID, value, expires_us=expires_us)
        await gw.told_times(nth)
    assert set(gw.told()) == {"done"}
    assert gw.site.written() == [21.5]


async def test_an_end_is_told_after_each_welcome_until_it_is_confirmed(gw: Linked) -> None:
    await gw.order(ID, 21.5)
    await until(lambda: gw.told() == ["done"])
    gw.central.cut()
    await gw.session(2)
    await until(lambda: gw.told() == ["done", "done"])
    await gw.send(link.Outcome(id=ID, state="done"))
    await until(lambda: gw.site.commander.desk.store.untold(9) == [])
    gw.central.cut()
    await gw.session(3)
    await gw.order(OTHER, 20.5)
    await until(lambda: gw.told(OTHER) == ["done"])
    assert gw.told() == ["done", "done"]


async def test_what_is_no_command_is_refused_with_the_reason(gw: Linked) -> None:
    await gw.send(link.Command(id=ID, document={"point": "a"}))
    await until(lambda: gw.told() == ["refused"])
    assert "value" in gw.central.of(link.Outcome)[0].detail


async def test_a_central_that_serves_no_outcomes_is_not_bothered_on(gw: Linked) -> None:
    await gw.order(ID, 21.5)
    await until(lambda: gw.told() == ["done"])
    await gw.send(link.Unsupported(frame="outcome"))
    await gw.order(OTHER, 22.5)
    await until(lambda: gw.site.written() == [21.5, 22.5])
    await gw.send(link.NeedPointSet(hash=bytes(32)))
    await gw.send(link.Command(id=OTHER, document={}))
    assert gw.told(OTHER) == []
    gw.central.cut()
    await gw.session(2)
    await until(lambda: gw.told(OTHER))


async def test_a_gateway_without_commands_says_so(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    async with link_central(tmp_path) as central:
        up = asyncio.create_task(Uplink(central.url, central, outbox, SiteClock()).run())
        await until(lambda: central.of(link.Hello))
        assert central.socket is not None
        await central.socket.send(link.pack(link.Command(id=ID, document={})))
        await until(lambda: central.of(link.Unsupported))
        assert central.of(link.Unsupported)[0].frame == "command"
        up.cancel()
        await asyncio.wait([up])
    await outbox.close()
