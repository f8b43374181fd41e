"""The twin: documents are checked, kept, put in force while devices are read, and undone."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge import config_store
from edge import twin as twin_module
from edge.config_store import FILE_NAME, Head, Revision, State
from edge.document import hash_of
from edge.holes import GapReason
from edge.sqlite import OutboxFull
from edge.twin import ConfigRefused, Conflict, Twin
from shared.clock import SystemClock
from shared.errors import LinkLost
from shared.model import Point, PointSet
from tests.integration import outbox_kit
from tests.integration.outbox_kit import no_open_outbox
from tests.integration.twin_kit import (
    Works,
    device,
    document,
    gaps,
    site,
    stored,
    until,
    works,
)

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)
__all__ = ["works"]

A, B, C = device("a"), device("b", "b/p", "b/q"), device("c")
CLOCK = SystemClock()
NO_ROOM = """
CREATE TRIGGER no BEFORE UPDATE ON revisions
WHEN NEW.state = 'current' BEGIN SELECT RAISE(ABORT, 'no room'); END
"""


def kept_aside(folder: Path) -> list[Path]:
    return list(folder.glob("config-damaged-*.db"))


async def opened(folder: Path, file: Any) -> Twin:
    return await Twin.opened(folder, file, CLOCK)


async def test_the_first_start_takes_the_file_as_revision_1(works: Works, tmp_path: Path) -> None:
    twin = await opened(tmp_path, document(A))
    await twin.close()
    again = await opened(tmp_path, document(A))
    assert (again.current.number, again.current.source) == (1, "file")
    assert again.current.hash == hash_of(document(A))
    assert [head.number for head in again.history()] == [1]
    await again.close()


async def test_a_gateway_starts_with_no_devices_at_all(works: Works, tmp_path: Path) -> None:
    async with site(tmp_path, None) as gateway:
        assert gateway.twin.current.document == {"devices": []}
        await gateway.twin.apply(document(A), source="api")
        await gateway.polled(works.device("a"))


async def test_a_changed_file_is_a_new_revision(works: Works, tmp_path: Path) -> None:
    await (await opened(tmp_path, document(A))).close()
    twin = await opened(tmp_path, document(A, B))
    assert (twin.current.number, twin.current.source) == (2, "file")
    assert [one.name for one in twin.devices] == ["a", "b"]
    assert twin.proposals() == []
    await twin.close()


async def test_a_changed_file_does_not_win_over_newer_changes_but_is_proposed(
    works: Works, tmp_path: Path
) -> None:
    twin = await opened(tmp_path, document(A))
    await twin.apply(document(A, B), source="api", reason="second device")
    await twin.close()
    twin = await opened(tmp_path, document(A, C))
    assert twin.current.document == document(A, B)
    (proposal,) = twin.proposals()
    assert (proposal.source, proposal.base, proposal.document) == ("file", 2, document(A, C))
    await twin.close()
    # The file is looked at once: it is not proposed again, and an unchanged one never is.
    twin = await opened(tmp_path, document(A, C))
    assert len(twin.proposals()) == 1
    accepted = await twin.answer(proposal.number, accept=True)
    assert accepted.document == document(A, C)
    await twin.close()
    twin = await opened(tmp_path, document(A, C))
    assert (twin.proposals(), twin.current.number) == ([], 3)
    await twin.close()


async def test_a_refused_proposal_changes_nothing(works: Works, tmp_path: Path) -> None:
    twin = await opened(tmp_path, document(A))
    await twin.apply(document(B), source="api")
    await twin.close()
    twin = await opened(tmp_path, document(C))
    (proposal,) = twin.proposals()
    await twin.answer(proposal.number, accept=False)
    assert (twin.current.document, twin.proposals()) == (document(B), [])
    with pytest.raises(ConfigRefused, match="no open proposal"):
        await twin.answer(proposal.number, accept=True)
    await twin.close()


async def test_a_wrong_document_is_refused_as_a_whole(works: Works, tmp_path: Path) -> None:
    async with site(tmp_path, document(A)) as gateway:
        bad = [device("b", speed=99), device("c", "a/p"), device("a")]
        with pytest.raises(ConfigRefused) as caught:
            await gateway.twin.apply(document(A, *bad), source="api")
        assert {one.path for one in caught.value.problems} == {
            "devices[1].options.speed",
            "devices[2].points[0].key",
            "devices[3].name",
            "devices[3].points[0].key",
        }
        planless = device("b")
        planless["points"][0]["source"]["at"] = 666
        with pytest.raises(ConfigRefused, match=r"devices\[1\]: nothing can be read at 666"):
            await gateway.twin.apply(document(A, planless), source="api")
        await gateway.polled(works.device("a"))
        assert works.device("a").connections == 1
        assert [head.number for head in gateway.twin.history()] == [1]


async def test_a_change_for_another_revision_is_a_conflict(works: Works, tmp_path: Path) -> None:
    twin = await opened(tmp_path, document(A))
    await twin.apply(document(A, B), source="api", base=1)
    with pytest.raises(Conflict, match="made for revision 1, but revision 2 is in force"):
        await twin.apply(document(A, C), source="api", base=1)
    assert twin.current.document == document(A, B)
    await twin.close()


async def test_two_changes_for_one_revision_at_once_are_one_and_a_conflict(
    works: Works, tmp_path: Path
) -> None:
    async with site(tmp_path, document(A)) as gateway:
        several = [
            gateway.twin.apply(document(A, device(f"x{nth}")), source="api", base=1)
            for nth in range(8)
        ]
        done = await asyncio.gather(*several, return_exceptions=True)
        assert sum(isinstance(one, Conflict) for one in done) == 7
        assert gateway.twin.current.number == 2


async def test_a_thousand_applies_of_one_document_restart_nothing_and_store_nothing(
    works: Works, tmp_path: Path
) -> None:
    async with site(tmp_path, document(A, B)) as gateway:
        await gateway.polled(works.device("a"), works.device("b"))
        for _ in range(1_000):
            await gateway.twin.apply(document(A, B), source="api")
        await gateway.polled(works.device("a"), works.device("b"))
        assert [one.connections for one in works.devices.values()] == [1, 1]
        assert gateway.twin.current.number == 1
        assert await gaps(gateway.outbox) == []


async def test_only_the_changed_device_restarts(works: Works, tmp_path: Path) -> None:
    async with site(tmp_path, document(A, B, C)) as gateway:
        await gateway.polled(*(works.device(name) for name in "abc"))
        await gateway.twin.apply(document(C, device("b", "b/p", speed=2), A), source="api")
        await gateway.polled(*(works.device(name) for name in "abc"))
        assert {name: one.connections for name, one in works.devices.items()} == {
            "a": 1,
            "b": 2,
            "c": 1,
        }
        assert works.device("b").disconnections == 1
    assert all(one.connections == one.disconnections for one in works.devices.values())


async def test_no_reading_is_lost_or_put_under_another_point_when_points_move(
    works: Works, tmp_path: Path
) -> None:
    for nth, name in enumerate("abc"):
        works.device(name).value = 1_000_000.0 * nth
    orders = [document(A, B, C), document(C, B, A), document(B, C), document(device("d"), B, A)]
    async with site(tmp_path, orders[0]) as gateway:
        for nth in range(1, 25):
            await gateway.polled(works.device("b"), more=2)
            await gateway.twin.apply(orders[nth % 4], source="api")
        await gateway.polled(works.device("b"))
    polls = works.device("b").polls
    async with site(tmp_path, None) as gateway:
        ledger = gateway.outbox.index.ledger()
        assert (ledger.produced, ledger.imbalance()) == (ledger.pending, 0)
        found = await stored(gateway.outbox)
    # B was never restarted: each of its polls is there, in order, under its own points.
    assert works.device("b").connections == 2  # and once more by the second site
    values = [value for _, value in found["b/p"]]
    assert values == [1_000_001.0 + nth for nth in range(len(values))]
    # The last one may have been on its way at the stop.
    assert len(values) >= polls - 1
    assert [value for _, value in found["b/q"]] == values
    for nth, name in enumerate("ac"):
        assert {value // 1_000_000 for _, value in found[f"{name}/p"]} == {2.0 * nth}


async def test_a_removed_device_is_closed_and_what_it_missed_is_declared(
    works: Works, tmp_path: Path
) -> None:
    async def lost() -> None:
        raise LinkLost("gone")

    async with site(tmp_path, document(A, B)) as gateway:
        await gateway.polled(works.device("a"), works.device("b"))
        works.device("b").reading = lost
        task = gateway.collector.task("b")
        assert task is not None
        await until(lambda: task.problem == "gone")
        await gateway.twin.apply(document(A), source="api")
        assert gateway.collector.task("b") is None
        ended = gateway.intake.dues.missed
        polls = works.device("b").polls
        await gateway.polled(works.device("a"), more=20)
        assert (works.device("b").polls, gateway.intake.dues.missed) == (polls, ended)
        (gap,) = await gaps(gateway.outbox)
        assert (gap[0], gap[1]) == ("b/p b/q", GapReason.DEVICE_DOWN)
        assert gap[2] is not None
        assert gap[2] * 2 == ended >= 2


async def test_a_device_that_hangs_is_taken_out_in_the_midst_of_a_poll(
    works: Works, tmp_path: Path
) -> None:
    async with site(tmp_path, document(A, B)) as gateway:
        await gateway.polled(works.device("b"))
        asked = asyncio.Event()

        async def hang() -> None:
            asked.set()
            await asyncio.Event().wait()

        works.device("b").reading = hang
        await asked.wait()
        await gateway.twin.apply(document(A), source="api")
        assert works.device("b").disconnections == 1
        (gap,) = await gaps(gateway.outbox)
        assert (gap[0], gap[1]) == ("b/p b/q", GapReason.STOPPED)


async def test_undo_walks_back_one_revision_at_a_time(works: Works, tmp_path: Path) -> None:
    async with site(tmp_path, document(A)) as gateway:
        twin = gateway.twin
        await twin.apply(document(A, B), source="api")
        await twin.apply(document(A, B, C), source="api")
        assert (await twin.undo()).document == document(A, B)
        assert (await twin.undo()).document == document(A)
        with pytest.raises(ConfigRefused, match="no revision before"):
            await twin.undo()
        assert [head.number for head in twin.history()] == [5, 4, 3, 2, 1]
        assert twin.history()[0].state is State.CURRENT
        await gateway.polled(works.device("a"))
        assert works.device("a").connections == 1
        assert [one.device.name for one in gateway.collector.tasks] == ["a"]


async def test_a_full_disk_refuses_the_change_and_the_devices_go_on(
    works: Works, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: Any) -> None:
        raise OutboxFull("the disk is full")

    async with site(tmp_path, document(A, B)) as gateway:
        await gateway.polled(works.device("a"), works.device("b"))
        with monkeypatch.context() as patch:
            patch.setattr(gateway.outbox, "repoint", full)
            with pytest.raises(ConfigRefused, match="the disk is full"):
                await gateway.twin.apply(document(A, device("b"), C), source="api")
        assert (gateway.twin.current.number, gateway.twin.history()[0].state) == (1, State.FAILED)
        await gateway.polled(works.device("a"), works.device("b"))
        assert works.device("a").connections == 1
        await gateway.twin.apply(document(A, C), source="api")
        await gateway.polled(works.device("c"))


async def test_a_change_that_cannot_be_stored_is_taken_back(
    works: Works, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path, document(A)) as gateway:
        with sqlite3.connect(tmp_path / FILE_NAME) as other:
            other.execute(NO_ROOM)
        with pytest.raises(ConfigRefused, match="no room"):
            await gateway.twin.apply(document(A, B), source="api")
        other.close()
        assert [one.device.name for one in gateway.collector.tasks] == ["a"]
        await gateway.polled(works.device("a"))


async def test_a_caller_that_goes_away_leaves_no_half_change(works: Works, tmp_path: Path) -> None:
    async with site(tmp_path, document(A)) as gateway:
        caller = asyncio.create_task(gateway.twin.apply(document(B), source="api"))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        await until(lambda: gateway.twin.current.number == 2)
        await gateway.polled(works.device("b"))


async def test_a_change_that_was_under_way_at_a_crash_did_not_happen(
    works: Works, tmp_path: Path
) -> None:
    twin = await opened(tmp_path, document(A))
    under_way = Revision(Head(0, hash_of(document(B)), "api", "", 1), document(B))
    await asyncio.to_thread(twin.secrets.store.add, under_way)
    await twin.close()
    twin = await opened(tmp_path, document(A))
    assert twin.current.document == document(A)
    assert twin.history()[0].state is State.FAILED
    await twin.close()


def overwrite(folder: Path) -> None:
    (folder / FILE_NAME).write_bytes(b"no database at all" * 500)


def shorten(folder: Path) -> None:
    data = (folder / FILE_NAME).read_bytes()
    (folder / FILE_NAME).write_bytes(data[: len(data) // 2])


def turn_a_document(folder: Path) -> None:
    with sqlite3.connect(folder / FILE_NAME) as db:
        db.execute("UPDATE revisions SET document = x'0011'")
    db.close()


@pytest.mark.parametrize("spoil", [overwrite, shorten, turn_a_document])
async def test_a_damaged_configuration_is_put_aside_and_the_file_is_taken(
    works: Works, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    await (await opened(tmp_path, document(A))).close()
    spoil(tmp_path)
    twin = await opened(tmp_path, document(A, B))
    assert (twin.current.number, twin.current.document) == (1, document(A, B))
    assert len(kept_aside(tmp_path)) == 1
    await twin.close()


async def test_a_driver_that_is_gone_leaves_its_devices_out_and_is_told(
    works: Works, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await opened(tmp_path, document(A))).close()
    monkeypatch.undo()
    twin = await opened(tmp_path, None)
    assert (twin.devices, len(twin.problems)) == ((), 1)
    assert "no driver 'fake'" in str(twin.problems[0])
    await twin.close()


async def test_old_revisions_are_forgotten_and_numbers_never_come_again(
    works: Works, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_store, "KEPT", 10)
    twin = await opened(tmp_path, document(A))
    for nth in range(30):
        await twin.apply(document(device("a", speed=1 + nth % 2)), source="api", reason=str(nth))
    last = twin.current.number
    await twin.close()
    twin = await opened(tmp_path, None)
    assert [head.number for head in twin.history()] == list(range(last, last - 10, -1))
    assert twin.current.number == last == 31
    assert (await twin.apply(document(B), source="api")).number == 32
    await twin.close()


def test_the_file_is_for_its_owner_alone(works: Works, tmp_path: Path) -> None:
    asyncio.run(_made(tmp_path))
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


async def _made(folder: Path) -> None:
    await (await opened(folder, document(A))).close()


async def test_point_sets_that_no_batch_speaks_of_are_forgotten(tmp_path: Path) -> None:
    sets = [PointSet((Point(f"p{nth}"),)) for nth in range(4)]
    outbox = await outbox_kit.opened(tmp_path, 1)
    try:
        await outbox_kit.commit(outbox, 1, outbox_kit.START_US)
        for one in sets:
            await outbox.repoint(one)
        known = [await outbox.point_set(one.hash) for one in (outbox_kit.POINTS, *sets)]
    finally:
        await outbox.close()
    assert known == [outbox_kit.POINTS, None, None, None, sets[-1]]


async def test_a_stop_in_the_midst_of_a_change_ends_and_leaves_what_was(
    works: Works, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def stuck(_: Any) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(twin_module, "CLOSE_S", 0.05)
    async with site(tmp_path, document(A)) as gateway:
        monkeypatch.setattr(gateway.intake, "repoint", stuck)
        caller = asyncio.create_task(gateway.twin.apply(document(B), source="api"))
        await reached.wait()
    await asyncio.wait([caller])
    assert caller.cancelled()
    async with site(tmp_path, document(A)) as gateway:
        assert gateway.twin.current.document == document(A)
        assert gateway.outbox.index.ledger().imbalance() == 0
        await gateway.polled(works.device("a"))
