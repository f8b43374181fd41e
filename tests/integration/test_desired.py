"""Desired and reported: what central wants, what was changed on site, and who wins."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge import schemas, trial, uplink
from edge.agreement import NOTED_S
from edge.config_store import ConfigStore, State
from edge.desired import Desires
from edge.document import hash_of
from edge.trial import Judge
from edge.twin import Twin
from edge.uplink import Uplink
from shared import link
from shared.backoff import Backoff
from shared.clock import SystemClock
from tests.integration.outbox_kit import no_open_outbox
from tests.integration.twin_kit import Site, Works, device, document, site, until, works
from tests.servers.link_central import LinkCentral, desired, link_central

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)
__all__ = ["works"]

A, B, C = device("a"), device("b", "b/p", "b/q"), device("c")
CLOCK = SystemClock()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect again at once, and take a link for good after a moment."""
    monkeypatch.setattr(
        uplink, "Backoff", lambda **_: Backoff(base_s=0.002, cap_s=0.01, floor_s=0.001)
    )
    monkeypatch.setattr(trial, "PROVEN_S", 0.05)
    monkeypatch.setattr(schemas, "all_schemas", nothing_learnt)


async def nothing_learnt(_: ConfigStore) -> dict[str, Any]:
    """Stand for a process that takes a while."""
    return {}


@dataclass
class Linked:
    """A gateway on the link of a scripted central."""

    gateway: Site
    central: LinkCentral
    uplink: Uplink

    @property
    def twin(self) -> Twin:
        return self.gateway.twin

    async def reported(self, state: str, revision: int) -> Mapping[str, Any]:
        """Wait for the report that says so; gives its sections."""

        def found() -> list[Mapping[str, Any]]:
            return [
                one.sections
                for one in self.central.of(link.Reported)
                if one.revision == revision and one.sections["configuration"]["state"] == state
            ]

        await until(found)
        return found()[-1]


@asynccontextmanager
async def linked(
    folder: Path, central: LinkCentral, file: Mapping[str, Any] | None, revert_after_s: float = 0.0
) -> AsyncIterator[Linked]:
    async with site(folder, file) as gateway:
        gateway.twin.revert_after_s = revert_after_s
        desires = Desires(gateway.twin)
        up = Uplink(central.url, central, gateway.outbox, CLOCK, configuration=desires)
        judge = Judge(gateway.twin, lambda: up.is_connected, CLOCK, tick_s=0.005)
        tasks = [asyncio.create_task(one.run()) for one in (up, desires, judge)]
        try:
            yield Linked(gateway, central, up)
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def test_what_central_wants_is_put_in_force_and_reported(
    works: Works, tmp_path: Path
) -> None:
    async with link_central(tmp_path) as central, linked(tmp_path, central, None) as gw:
        sections = await gw.reported("none", 0)
        assert sections["proposal"]["document"] == {"devices": ()}
        await central.want(desired(3, document(A, B)))
        sections = await gw.reported("applied", 3)
        assert sections["proposal"] is None
        assert sections["configuration"]["hash"] == hash_of(document(A, B))
        assert sections["devices"] == {"state": "applied", "problems": ()}
        assert "speed" in sections["drivers"]["fake"]["options"]["properties"]
        assert sections["drivers"]["modbus"] == {}
        await gw.gateway.polled(works.device("a"), works.device("b"))
        central.cut()
        await until(lambda: len(central.of(link.Hello)) == 2)
        assert [one.config_revision for one in central.of(link.Hello)] == [0, 3]


async def test_what_is_wrong_is_reported_with_its_path_and_nothing_changes(
    works: Works, tmp_path: Path
) -> None:
    async with link_central(tmp_path) as central, linked(tmp_path, central, None) as gw:
        await central.want(desired(1, document(A)))
        await gw.reported("applied", 1)
        await gw.gateway.polled(works.device("a"))
        await central.want(desired(2, document(A, device("b", speed=10))))
        sections = await gw.reported("failed", 2)
        (problem,) = sections["devices"]["problems"]
        assert problem["path"] == "devices[1].options.speed"
        assert sections["policies"]["problems"] == ()
        assert gw.twin.agreed.revision == gw.twin.current.number - 1 == 1
        await gw.gateway.polled(works.device("a"))
        assert works.device("a").connections == 1


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (desired(2, document(B)).model_copy(update={"hash": bytes(32)}), "not that of"),
        (desired(1, document(B)), "another content before"),
    ],
)
async def test_a_revision_that_contradicts_itself_is_refused(
    works: Works, tmp_path: Path, frame: link.Desired, why: str
) -> None:
    async with link_central(tmp_path) as central, linked(tmp_path, central, None) as gw:
        await central.want(desired(1, document(A)))
        await gw.reported("applied", 1)
        await central.want(frame)
        sections = await gw.reported("failed", frame.revision)
        assert why in sections["configuration"]["problems"][0]["text"]
        assert gw.twin.current.document == document(A)


async def test_an_older_revision_does_not_win(works: Works, tmp_path: Path) -> None:
    async with link_central(tmp_path) as central, linked(tmp_path, central, None) as gw:
        await central.want(desired(5, document(A)))
        await gw.reported("applied", 5)
        await central.want(desired(4, document(B)))
        await gw.reported("failed", 5)
        assert gw.twin.current.document == document(A)


async def test_a_change_on_site_is_a_proposal_until_central_takes_it(
    works: Works, tmp_path: Path
) -> None:
    async with link_central(tmp_path) as central, linked(tmp_path, central, None) as gw:
        await central.want(desired(1, document(A)))
        await gw.reported("applied", 1)
        await gw.twin.apply(document(A, B), source="api", reason="meter of the lift")
        await until(lambda: central.of(link.Reported)[-1].sections["proposal"])
        proposal = central.of(link.Reported)[-1].sections["proposal"]
        assert (proposal["base"], proposal["reason"]) == (1, "meter of the lift")
        # What central wants already is not forced on what was done on site.
        for _ in range(3):
            central.cut()
            await until(lambda: gw.uplink.is_connected)
        assert gw.twin.current.document == document(A, B)
        await central.want(desired(2, document(A, B)))
        sections = await gw.reported("applied", 2)
        assert sections["proposal"] is None
        assert (gw.twin.current.number, gw.twin.current.head.central) == (3, 2)


async def test_central_that_does_not_know_of_a_change_on_site_does_not_undo_it(
    works: Works, tmp_path: Path
) -> None:
    async with link_central(tmp_path) as central, linked(tmp_path, central, document(A)) as gw:
        sections = await gw.reported("none", 0)
        assert sections["proposal"]["document"] == {"devices": (link_form(A),)}
        await central.want(desired(7, document(C)))
        sections = await gw.reported("conflict", 7)
        # It may be large: it is not sent again and again.
        assert sections["proposal"]["document"] is None
        assert sections["proposal"]["hash"] == hash_of(document(A))
        assert gw.twin.current.document == document(A)
        (waiting,) = gw.twin.proposals()
        assert (waiting.source, waiting.central) == ("central", 7)
        for _ in range(3):
            central.cut()
            await until(lambda: gw.uplink.is_connected)
        assert len(gw.twin.proposals()) == 1
        # A person on site accepts it, and gateway and central agree.
        await gw.twin.answer(waiting.number, accept=True)
        await until(lambda: central.of(link.Reported)[-1].sections["proposal"] is None)
        assert (gw.twin.current.document, gw.twin.agreed.revision) == (document(C), 7)


async def test_central_that_knows_what_it_replaces_wins(works: Works, tmp_path: Path) -> None:
    async with link_central(tmp_path) as central, linked(tmp_path, central, document(A)) as gw:
        sections = await gw.reported("none", 0)
        await central.want(desired(8, document(C), base=sections["proposal"]["hash"]))
        await gw.reported("applied", 8)
        assert gw.twin.current.document == document(C)


def link_form(value: Any) -> Any:
    """Write lists as the tuples that a frame is read into."""
    if isinstance(value, dict):
        return {name: link_form(one) for name, one in value.items()}
    return tuple(map(link_form, value)) if isinstance(value, list) else value


async def test_a_thousand_reconnects_restart_no_device(works: Works, tmp_path: Path) -> None:
    slow = document(device("a", interval_s=0.2), device("b", interval_s=0.2))
    async with (
        link_central(tmp_path, tls=False) as central,
        linked(tmp_path, central, None) as gw,
    ):
        central.desired = desired(1, slow)
        central.cut()
        await gw.reported("applied", 1)
        while central.sessions < 1_000:
            central.seen = []
            central.cut()
            await until(lambda: central.of(link.Hello))
        await gw.gateway.polled(works.device("a"), works.device("b"))
        assert [one.connections for one in works.devices.values()] == [1, 1]
        assert gw.twin.current.number == 2


async def test_a_central_that_keeps_no_configurations_is_not_bothered(
    works: Works, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with link_central(tmp_path) as central, linked(tmp_path, central, document(A)) as gw:
        central.serves_reports = False
        for session in range(2, 5):
            await until(lambda: len(central.of(link.Batch)) > 3)
            central.cut()
            await until(lambda: central.sessions == session)  # noqa: B023 - awaited here
        assert len(central.of(link.Reported)) == 1
        # As soon as it wants something, it is answered.
        central.serves_reports = True
        await central.want(desired(1, document(A)))
        await gw.reported("applied", 1)
        assert gw.twin.current.number == 1


async def test_a_configuration_that_cuts_the_link_is_taken_back(
    works: Works, tmp_path: Path
) -> None:
    async with (
        link_central(tmp_path) as central,
        linked(tmp_path, central, None, revert_after_s=0.2) as gw,
    ):
        await central.want(desired(1, document(A)))
        await gw.reported("applied", 1)
        await until(lambda: gw.twin.trial is None)
        central.is_away = True
        gw.twin.listeners.append(central.cut)
        await central.want(desired(2, document(A, B)))
        await until(lambda: gw.twin.current.source == "revert")
        assert gw.twin.current.document == document(A)
        assert gw.twin.history()[1].state is State.REVERTED
        await gw.gateway.polled(works.device("a"))
        assert works.device("a").connections == 1
        assert gw.gateway.collector.task("b") is None
        # Central still wants it, and is told why it is not done again.
        central.is_away = False
        gw.twin.listeners.pop()
        sections = await gw.reported("failed", 2)
        assert "tried and taken back" in sections["configuration"]["problems"][0]["text"]
        assert gw.twin.current.document == document(A)
        await central.want(desired(3, document(A, C)))
        await gw.reported("applied", 3)


async def test_a_trial_outlives_a_crash(works: Works, tmp_path: Path) -> None:
    async with link_central(tmp_path) as central:
        async with linked(tmp_path, central, None, revert_after_s=3_600.0) as gw:
            await central.want(desired(1, document(A)))
            await gw.reported("applied", 1)
            await until(lambda: gw.twin.trial is None)
            central.is_away = True
            gw.twin.listeners.append(central.cut)
            await central.want(desired(2, document(B)))
            await until(lambda: gw.twin.trial is not None)
        # Each start takes its portion of the time at once: also a gateway that crashes again and
        # again gets there.
        starts, portion_s = 0, 1.0
        while portion_s:
            starts += 1
            twin = await Twin.opened(tmp_path, None, CLOCK)
            portion_s = twin.portion_s
            await twin.close()
        assert starts == 3_600 / NOTED_S
        async with linked(tmp_path, central, None) as gw:
            await until(lambda: gw.twin.current.source == "revert")
        central.is_away, central.seen = False, []
        async with linked(tmp_path, central, None) as gw:
            assert gw.twin.current.document == document(A)
            await gw.reported("failed", 2)


async def test_a_change_on_site_ends_the_trial(works: Works, tmp_path: Path) -> None:
    async with (
        link_central(tmp_path) as central,
        linked(tmp_path, central, None, revert_after_s=600.0) as gw,
    ):
        central.desired = desired(1, document(A))
        central.cut()
        await until(lambda: gw.twin.agreed.revision == 1)
        central.is_away = True
        central.cut()
        await gw.twin.apply(document(A, B), source="api")
        assert gw.twin.trial is None


async def test_all_drivers_are_described_once_and_remembered(
    works: Works, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    async with link_central(tmp_path) as central:
        async with linked(tmp_path, central, None) as gw:

            def drivers() -> Mapping[str, Any]:
                return dict(central.of(link.Reported)[-1].sections["drivers"])

            await until(lambda: central.of(link.Reported) and all(drivers().values()))
            assert set(drivers()) >= {"bacnet", "modbus", "mqtt", "opcua"}
            assert "host" in drivers()["modbus"]["options"]["properties"]
            assert "register" in drivers()["modbus"]["source"]["properties"]
            kept = await schemas.all_schemas(gw.twin.secrets.store)
        monkeypatch.setattr(schemas, "_learnt", nothing_learnt)
        twin = await Twin.opened(tmp_path, None, CLOCK)
        assert await schemas.all_schemas(twin.secrets.store) == kept
        await twin.close()


async def test_a_description_that_nobody_takes_ends_quietly() -> None:
    taken, told = os.pipe()
    learning = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.schemas", stdout=told, stderr=asyncio.subprocess.PIPE
    )
    for end in (taken, told):  # as a gateway that was killed
        os.close(end)
    async with asyncio.timeout(60):
        _, said = await learning.communicate()
    assert (learning.returncode, said) == (0, b"")
