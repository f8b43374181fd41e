"""Opening the outbox whatever became of its file: what is sound is kept, the rest declared."""

import asyncio
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from edge import recovery
from edge import saved as saved_
from edge.holes import GapReason
from edge.outbox import Outbox
from edge.recovery import FILE_NAME, MADE_NAME, open_outbox, read_outbox
from edge.sealed import Draft, Sealed
from edge.sqlite import OutboxDamaged, OutboxFull
from shared.batch import decode
from shared.model import Kind, Point, PointSet
from tests.integration.outbox_kit import (
    ALL,
    POINTS,
    SETTINGS,
    START_US,
    TurnedClock,
    commit,
    copied,
    damaged_in,
    gaps_in,
    no_open_outbox,
    opened,
    spoil,
    state_of,
    told,
)

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)

CORRUPTIONS = 150
Name = tuple[int, int]


async def reopened(folder: Path) -> tuple[Outbox, GapReason | None]:
    clock = TurnedClock(START_US + 3_600_000_000)
    return await open_outbox(folder, POINTS, clock, SETTINGS)


async def written(folder: Path, batches: int = 120, *, closed: bool) -> dict[Name, Sealed]:
    """Make an outbox with pending, settled and dropped batches of three epochs."""
    await asyncio.to_thread(folder.mkdir)
    tokens = b"\x81\xa1d\x92\x05\x91\xc4\x01x"
    for epoch in (11, 12, 13):
        outbox = await opened(folder, epoch, TurnedClock(START_US))
        for nth in range(batches // 3):
            await commit(outbox, 40, START_US + (1_000 * epoch + nth) * 1_000, tokens)
        outbox.index.settle([told(epoch, [2, 5, 6], 120)])
        await outbox.flush(now=True)
        await outbox.drop((await outbox.fetch(0, ALL, 1)), GapReason.TOO_LARGE)
        if epoch != 13:
            await outbox.close()
    found = {(one.epoch, one.seq): one for one in await outbox.fetch(0, ALL, 1_000)}
    if not closed:
        copied(folder, folder.with_name("as-it-is"))
    await outbox.close()
    if not closed:
        shutil.rmtree(folder)
        folder.with_name("as-it-is").rename(folder)
    return found


async def test_a_new_outbox_has_no_reason_and_one_that_ran_has(tmp_path: Path) -> None:
    outbox, reason = await reopened(tmp_path)
    assert reason is None
    await outbox.begin(1)
    copy = copied(tmp_path, tmp_path / "copy")
    await outbox.close()
    outbox, reason = await reopened(tmp_path)
    assert reason is GapReason.STOPPED
    await outbox.close()
    outbox, reason = await reopened(copy)
    assert reason is GapReason.RESTART
    await outbox.close()


async def test_the_tail_goes_on_with_other_points(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    await commit(outbox, 8, START_US)
    await outbox.close()
    points = PointSet((Point("new"), Point("p3")))
    clock = TurnedClock(START_US + 77)
    outbox, _ = await open_outbox(tmp_path, points, clock, SETTINGS)
    await outbox.begin(2)
    assert outbox.tail.last_at.tolist() == [0, START_US + 3]
    assert outbox.tail.hole_from().tolist() == [START_US + 77, START_US + 3]
    assert await outbox.point_set(POINTS.hash) == POINTS
    assert await outbox.point_set(points.hash) == points
    await outbox.close()


async def test_reading_the_books_of_a_stopped_gateway_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    await written(folder, closed=True)
    before = (folder / FILE_NAME).read_bytes()
    ledger, refused, used = read_outbox(folder / FILE_NAME)
    assert (ledger.produced, ledger.delivered, ledger.imbalance()) == (4_800, 360, 0)
    assert refused == []
    assert used > 50_000
    assert (folder / FILE_NAME).read_bytes() == before


def _change(path: Path, change: Callable[[bytearray], Any]) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def flip(path: Path, rng: random.Random) -> None:
    def some(content: bytearray) -> None:
        for _ in range(rng.choice((1, 1, 8, 200))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)

    _change(path, some)


def zero_page(path: Path, rng: random.Random) -> None:
    def some(content: bytearray) -> None:
        at = rng.randrange(len(content) // 4_096) * 4_096
        content[at : at + 4_096] = bytes(4_096)

    _change(path, some)


def truncate(path: Path, rng: random.Random) -> None:
    def some(content: bytearray) -> None:
        del content[rng.randrange(len(content)) :]

    _change(path, some)


def zero_header(path: Path, _: random.Random) -> None:
    _change(path, lambda content: content.__setitem__(slice(0, 100), bytes(100)))


def empty(path: Path, _: random.Random) -> None:
    path.write_bytes(b"")


def remove(path: Path, _: random.Random) -> None:
    path.unlink()


def shuffle_pages(path: Path, rng: random.Random) -> None:
    def some(content: bytearray) -> None:
        one, other = (rng.randrange(len(content) // 4_096) * 4_096 for _ in range(2))
        kept = content[one : one + 4_096]
        content[one : one + 4_096] = content[other : other + 4_096]
        content[other : other + 4_096] = kept

    _change(path, some)


def strange_wal(path: Path, rng: random.Random) -> None:
    path.with_name(FILE_NAME + "-wal").write_bytes(rng.randbytes(rng.randrange(1, 40_000)))


HARMS = (
    flip,
    flip,
    flip,
    zero_page,
    truncate,
    zero_header,
    empty,
    remove,
    shuffle_pages,
    strange_wal,
)


@pytest.fixture(scope="module")
async def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Name, Sealed]]:
    folder = tmp_path_factory.mktemp("sound") / "run"
    return folder, await written(folder, closed=True)


async def started(folder: Path) -> tuple[Outbox, dict[Name, Sealed]]:
    """Start as the gateway does, again if it stops over a damage it meets at work."""
    for _ in range(3):
        outbox, _ = await reopened(folder)
        try:
            await outbox.begin(random.getrandbits(62))
            found = await outbox.fetch(0, ALL, 100_000)
        except OutboxDamaged:
            await outbox.close()
        else:
            return outbox, {(one.epoch, one.seq): one for one in found}
    pytest.fail("the gateway does not get going")


@pytest.mark.parametrize("seed", range(CORRUPTIONS))
async def test_whatever_harm_is_done_the_outbox_opens_and_declares_what_is_missing(
    seed: int, tmp_path: Path, sound: tuple[Path, dict[Name, Sealed]]
) -> None:
    rng = random.Random(seed)
    folder = copied(sound[0], tmp_path / "run")
    HARMS[seed % len(HARMS)](folder / FILE_NAME, rng)
    outbox, found = await started(folder)
    for name in found.keys() & sound[1].keys():
        assert found[name].body == sound[1][name].body
        assert found[name].kind is sound[1][name].kind
    gaps = await gaps_in(outbox)
    for name in sound[1].keys() - found.keys():
        assert is_declared(name, sound[1][name], gaps), name
    assert outbox.index.ledger().imbalance() == 0
    await commit(outbox, 40, START_US + 3_600_000_000)
    before = state_of(outbox)
    copy = copied(folder, tmp_path / "copy")
    await outbox.close()
    again, later = await started(copy)
    assert later.keys() >= found.keys()
    # After a clean stop not all of the file is looked at; after a crash it is.
    if len(damaged_in(copy)) == len(damaged_in(folder)):
        assert state_of(again)[0] == before[0]
    else:
        assert damaged_in(folder) == []
    await again.close()


def is_declared(name: Name, batch: Sealed, gaps: list[dict[str, Any]]) -> bool:
    """Tell whether a gap names a lost batch, or one of unknown extent covers all its readings."""
    for gap in gaps:
        voided = {
            (one["epoch"], seq)
            for one in gap["voided"]
            for first, last in one["seqs"]
            for seq in range(first, last + 1)
        }
        covers = gap["from_us"] < batch.t0 and batch.t1 < gap["to_us"]
        if name in voided and (covers or batch.kind is Kind.EVENTS):
            return True
        if gap["reason"] == "outbox_damaged" and gap["count"] is None and covers:
            return True
    return False


async def test_all_sound_batches_of_a_file_with_a_damaged_tail_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    before = await written(folder, closed=False)
    outbox, _ = await reopened(folder)
    outbox._file._db.execute("UPDATE tail SET body = randomblob(100)")
    outbox._file.close()
    outbox, reason = await reopened(folder)
    found = {(one.epoch, one.seq): one for one in await outbox.fetch(0, ALL, 1_000)}
    assert reason is GapReason.RESTART
    assert {name: found[name].body for name in before} == {n: s.body for n, s in before.items()}
    (gap,) = [gap for gap in await gaps_in(outbox) if gap["reason"] == "outbox_damaged"]
    assert (gap["count"], gap["series"]) == (None, [[0, 7]])
    assert len(damaged_in(folder)) == 1
    await outbox.close()


async def test_batches_between_two_damaged_pages_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    outbox = await opened(folder_made(folder), 11)
    for nth in range(600):
        await commit(outbox, 8, START_US + 1_000 * nth)
    await outbox.close()
    path = folder / FILE_NAME
    for blank in [zeroed_page_of(path, seq) for seq in (100, 500)]:
        _change(path, blank)
    outbox, found = await started(folder)
    seqs = {seq for epoch, seq in found if epoch == 11}
    assert len(damaged_in(folder)) == 1
    assert {*range(50), *range(150, 450), *range(550, 600)} <= seqs
    assert seqs.isdisjoint((100, 500))
    assert outbox.index.ledger().pending == 8 * len(seqs)
    await outbox.close()


def folder_made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def zeroed_page_of(path: Path, seq: int) -> Callable[[bytearray], Any]:
    """Find the page on which the segment lies, by its body, and blank it."""
    with closing(apsw.Connection(str(path))) as db:
        body: Any = db.execute("SELECT body FROM segments WHERE seq = ?", (seq,)).get
        size: Any = db.execute("PRAGMA page_size").get

    def blank(content: bytearray) -> None:
        at = content.index(body) // size * size
        content[at : at + size] = bytes(size)

    return blank


async def test_a_lost_tail_is_made_anew_of_the_newest_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_, "LOOKED_AT", 5)
    folder = tmp_path / "run"
    outbox = await opened(folder_made(folder), 11)
    for nth in range(40):
        await commit(outbox, 8, START_US + 1_000 * nth)
    before = outbox.tail.last_at.tolist()
    outbox._file._db.execute("UPDATE tail SET body = randomblob(100)")
    outbox._file.close()
    outbox, _ = await reopened(folder)
    assert len(damaged_in(folder)) == 1
    assert outbox.tail.last_at.tolist() == before
    assert (outbox.index.ledger().pending, outbox.index.ledger().imbalance()) == (320, 0)
    await outbox.close()


async def test_a_damage_met_at_work_is_mended_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    before = await written(folder, batches=600, closed=True)
    pages = (folder / FILE_NAME).stat().st_size // 4_096
    _change(
        folder / FILE_NAME,
        lambda content: content.__setitem__(
            slice(pages // 2 * 4_096, (pages // 2 + 8) * 4_096), b"\xff" * 8 * 4_096
        ),
    )
    outbox, _ = await reopened(folder)
    with pytest.raises(OutboxDamaged):
        await outbox.fetch(0, ALL, 100_000)
    await outbox.close()
    outbox, found = await started(folder)
    assert len(damaged_in(folder)) == 1
    assert len(found.keys() & before.keys()) > 200
    await outbox.close()


async def test_an_interrupted_mending_begins_again_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    before = await written(folder, closed=True)
    outbox, _ = await reopened(folder)
    outbox._file._db.execute("UPDATE tail SET body = x'00'")
    outbox._file.close()

    async def stopped(*_: Any) -> None:
        raise OutboxFull("no room for the gap")

    with monkeypatch.context() as patched:
        patched.setattr(recovery, "_declare_damage", stopped)
        with pytest.raises(OutboxFull):
            await reopened(folder)
    assert not damaged_in(folder)
    outbox, found = await started(folder)
    assert found.keys() >= before.keys()
    assert [gap["reason"] for gap in await gaps_in(outbox)].count("outbox_damaged") == 1
    await outbox.close()


async def test_a_mended_file_takes_its_place_even_if_power_went_between(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    before = await written(folder, closed=True)
    path = folder / FILE_NAME
    # As it is when the damaged file was renamed, but neither its WAL nor the mended file.
    path.rename(folder / recovery.MENDED_NAME)
    path.with_name(FILE_NAME + "-wal").write_bytes(b"of the damaged file")
    outbox, _ = await reopened(folder)
    found = {(one.epoch, one.seq) for one in await outbox.fetch(0, ALL, 1_000)}
    assert found == before.keys()
    await outbox.close()


async def test_an_outbox_that_is_gone_is_a_loss_and_a_new_one_is_none(tmp_path: Path) -> None:
    outbox, _ = await reopened(tmp_path)
    assert (tmp_path / MADE_NAME).exists()
    assert outbox.index.epochs == {}
    await outbox.close()
    (tmp_path / FILE_NAME).unlink()
    outbox, reason = await reopened(tmp_path)
    (gap,) = await gaps_in(outbox)
    assert (reason, gap["reason"], gap["count"]) == (GapReason.RESTART, "outbox_damaged", None)
    await outbox.close()


async def test_rollups_beside_a_damaged_segment_do_not_hide_its_readings(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1, TurnedClock(START_US + 1_000_000))
    await commit(outbox, 8, START_US)
    rollups = Draft(Kind.ROLLUPS, 5, START_US, START_US, POINTS.hash, b"no matter")
    await outbox.commit([rollups], outbox.tail, None)
    spoil(outbox, "UPDATE segments SET body = x'00' WHERE seq = 0")
    await outbox.fetch(0, ALL, 10)
    (gap,) = await gaps_in(outbox)
    assert (gap["count"], outbox.index.ledger().gaps) == (8, 8)
    await outbox.close()


async def test_a_damaged_segment_is_declared_over_its_neighbours_times(tmp_path: Path) -> None:
    clock = TurnedClock(START_US + 1_000_000)
    outbox = await opened(tmp_path, 1, clock)
    for nth in range(3):
        await commit(outbox, 8, START_US + 1_000 * nth)
    spoil(outbox, "UPDATE segments SET t0 = 5, t1 = -9, body = x'00' WHERE seq = 1")
    found = await outbox.fetch(0, ALL, 10)
    assert [one.seq for one in found if one.kind is Kind.READINGS] == [0, 2]
    (gap,) = await gaps_in(outbox)
    assert (gap["count"], gap["series"], gap["voided"]) == (
        8,
        [[0, 7]],
        [{"epoch": 1, "seqs": [[1, 1]]}],
    )
    assert gap["from_us"] < START_US + 1_000
    assert START_US + 1_007 < gap["to_us"] <= START_US + 2_008
    assert all(len(decode(one.body)) == 8 for one in found if one.kind is Kind.READINGS)
    await outbox.close()
