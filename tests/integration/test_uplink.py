"""The gateway's outbox and uplink against a real central: delivered once, or refused with why."""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zstandard

from central import admin
from central.storage.database import project_transaction
from edge.enrolment import EnrolmentRefused, Identity, enrol
from edge.ledger import Ledger
from edge.outbox import Outbox
from edge.recovery import FILE_NAME, open_outbox
from edge.sealed import Draft
from edge.settings import OutboxSection
from edge.uplink import Uplink
from shared.batch import encode
from shared.clock import SystemClock
from shared.columns import Columns
from shared.link import EPOCH_LIMIT
from shared.model import Kind, Point, PointSet
from tests.servers.central_process import Central, until

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration

SET = PointSet((Point("meter1/power", "W"), Point("meter1/note")))
CLOCK = SystemClock()


@dataclass
class Gateway:
    """An outbox and its uplink, without devices."""

    folder: Path
    identity: Identity
    outbox: Outbox
    uplink: Uplink

    async def commit(self, values: Sequence[float], at_us: int) -> None:
        """Commit one batch of one point, a millisecond apart from `at_us` on."""
        count = len(values)
        at = at_us + 1_000 * np.arange(count)
        columns = Columns.of([0] * count, at, values, [0] * count)
        tail = self.outbox.tail.copy()
        tail.absorb(columns)
        await self.outbox.commit([draft(encode(columns), count)], tail, None)

    async def drained(self) -> Ledger:
        async def is_empty() -> bool:
            await self.outbox.flush(now=True)
            return self.outbox.index.ledger().pending == 0

        await until(is_empty, "the outbox is empty")
        return self.outbox.index.ledger()


def draft(body: bytes, count: int) -> Draft:
    now_us = CLOCK.now_us()
    return Draft(Kind.READINGS, count, now_us, now_us, SET.hash, body)


def url(central: Central) -> str:
    return f"wss://127.0.0.1:{central.link_port}/link"


def enrol_url(central: Central) -> str:
    return f"https://127.0.0.1:{central.enrol_port}"


@asynccontextmanager
async def gateway(central: Central, folder: Path) -> AsyncIterator[Gateway]:
    """Open the outbox in `folder` under a new epoch and connect it; enrols the first time."""
    if not (folder / "identity.pem").exists():
        code = await central.code()
        await asyncio.to_thread(enrol, enrol_url(central), code, folder)
    identity = Identity.load(folder)
    outbox, _ = await open_outbox(folder, SET, CLOCK, OutboxSection())
    await outbox.begin(secrets.randbelow(EPOCH_LIMIT - 1) + 1)
    uplink = Uplink(url(central), identity, outbox, CLOCK, trusted_clock=True)
    task = asyncio.create_task(uplink.run())
    try:
        yield Gateway(folder, identity, outbox, uplink)
        # A session that broke must leave no cancel request behind: on Python 3.11.2 the next
        # timeout would end the uplink for good.
        assert not task.done()
        assert task.cancelling() == 0
    finally:
        task.cancel()
        await asyncio.wait([task])
        await outbox.close()


async def stored(central: Central) -> list[float]:
    async with project_transaction(central.database.service, "demo") as connection:
        rows = await connection.fetch("SELECT value FROM readings ORDER BY observed_at")
    return [row["value"] for row in rows]


async def test_what_is_committed_is_stored_once_and_leaves_the_outbox(
    central: Central, tmp_path: Path
) -> None:
    async with gateway(central, tmp_path / "gw") as gw:
        start_us = CLOCK.now_us()
        for nth in range(20):
            await gw.commit([nth, nth + 0.5], start_us + 10_000 * nth)
        ledger = await gw.drained()
    assert await stored(central) == [n / 2 for n in range(40)]
    assert ledger == Ledger(40, 40, 0, 0, 0, 0)
    assert ledger.imbalance() == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_a_batch"),
        (b"no batch at all", "not_a_batch"),
        (encode(Columns.of([0], [1], [1.0], [0]))[:-3], "truncated"),
        (zstandard.ZstdCompressor().compress(bytes(2**28)), "not_a_batch"),
        (secrets.token_bytes(3 * 1024 * 1024), "not_a_batch"),
        (encode(Columns.of([7], [1], [1.0], [0])), "bad_series"),
        (encode(Columns.of([0, 0], [1, 2], [1.0, 2.0], [0, 0])), "count_mismatch"),
    ],
    ids=["empty", "text", "truncated", "bomb", "large", "series", "count"],
)
async def test_a_poisoned_batch_is_quarantined_on_both_sides_and_the_next_flows(
    central: Central, tmp_path: Path, body: bytes, code: str
) -> None:
    async with gateway(central, tmp_path / "gw") as gw:
        await gw.outbox.commit([draft(body, 1)], gw.outbox.tail, None)
        await gw.commit([21.5], CLOCK.now_us())
        ledger = await gw.drained()
        (refusal,) = await gw.outbox.refusals()
    assert refusal[2] == code
    assert refusal[3]
    assert (ledger.delivered, ledger.quarantined, ledger.imbalance()) == (1, 1, 0)
    assert await stored(central) == [21.5]
    async with project_transaction(central.database.service, "demo") as connection:
        kept = await connection.fetchrow("SELECT code, body FROM quarantine")
    assert kept is not None
    assert (kept["code"], bytes(kept["body"])) == (code, body)


async def test_a_batch_that_no_frame_holds_is_declared_as_a_gap_and_the_next_flows(
    central: Central, tmp_path: Path
) -> None:
    async with gateway(central, tmp_path / "gw") as gw:
        body = secrets.token_bytes(10 * 1024 * 1024)
        await gw.outbox.commit([draft(body, 3)], gw.outbox.tail, None)
        await gw.commit([21.5], CLOCK.now_us())
        ledger = await gw.drained()
    assert (ledger.delivered, ledger.gaps, ledger.imbalance()) == (1, 3, 0)

    async def is_declared() -> bool:
        async with project_transaction(central.database.service, "demo") as connection:
            row = await connection.fetchrow("SELECT cause, reason, count FROM gaps")
        return row is not None and tuple(row) == ("dropped", "too_large", 3)

    await until(is_declared, "the gap is declared")


async def test_an_outbox_restored_from_an_old_copy_doubles_nothing_and_loses_nothing(
    central: Central, tmp_path: Path
) -> None:
    start_us = CLOCK.now_us()
    folder, copy = tmp_path / "gw", tmp_path / "copy"
    async with gateway(central, folder) as gw:
        await gw.commit([1, 2], start_us)
        await gw.drained()
    # The copy holds batches that the original delivers later, and misses others.
    outbox, _ = await open_outbox(folder, SET, CLOCK, OutboxSection())
    await outbox.begin(77)
    offline = Gateway(folder, Identity.load(folder), outbox, None)  # type: ignore[arg-type]  # offline
    await offline.commit([3, 4], start_us + 10_000)
    shutil.copytree(folder, copy)
    await offline.commit([5], start_us + 20_000)
    await outbox.close()
    async with gateway(central, folder) as gw:
        await gw.commit([6], start_us + 30_000)
        await gw.drained()
    async with gateway(central, copy) as gw:
        await gw.commit([7], start_us + 40_000)
        ledger = await gw.drained()
    assert await stored(central) == [1, 2, 3, 4, 5, 6, 7]
    assert ledger.imbalance() == 0
    assert ledger.elsewhere > 0


async def test_a_clone_that_runs_beside_the_original_is_fenced_not_mixed_in(
    central: Central, tmp_path: Path
) -> None:
    async with gateway(central, tmp_path / "gw") as gw:
        await gw.commit([1], CLOCK.now_us())
        await gw.drained()
        await gw.outbox.flush(now=True)
        (tmp_path / "clone").mkdir()
        for name in ("identity.pem", "roots.pem", "master.key"):
            shutil.copy(tmp_path / "gw" / name, tmp_path / "clone")
        async with gateway(central, tmp_path / "clone") as clone:
            await clone.commit([2], CLOCK.now_us())
            await clone.drained()

            async def is_fenced() -> bool:
                return "4409" in gw.uplink.problem

            await until(is_fenced, "the older session is fenced")
    assert await stored(central) == [1, 2]


async def test_a_revoked_gateway_says_so_and_keeps_its_readings(
    central: Central, tmp_path: Path
) -> None:
    async with gateway(central, tmp_path / "gw") as gw:
        await gw.commit([1], CLOCK.now_us())
        await gw.drained()
        await admin.revoke(central.settings, "demo", "gw1")

        async def is_cut_off() -> bool:
            return "4403" in gw.uplink.problem or "403" in gw.uplink.problem

        await until(is_cut_off, "the gateway is cut off")
        await gw.commit([2], CLOCK.now_us())
        assert gw.outbox.index.ledger().pending == 1


async def test_a_renewed_certificate_connects(central: Central, tmp_path: Path) -> None:
    folder = tmp_path / "gw"
    async with gateway(central, folder):
        pass
    before = (folder / "identity.pem").read_bytes()
    await asyncio.to_thread(Identity.load(folder).renew, enrol_url(central))
    assert (folder / "identity.pem").read_bytes() != before
    assert (folder / "identity.pem").stat().st_mode & 0o777 == 0o600
    async with gateway(central, folder) as gw:
        await gw.commit([1], CLOCK.now_us())
        await gw.drained()
    assert await stored(central) == [1]


async def test_a_code_of_another_central_is_refused_before_it_is_sent(
    central: Central, tmp_path: Path
) -> None:
    code = await central.code()
    foreign = code[:-26] + "a" * 26
    with pytest.raises(EnrolmentRefused, match="is not the central that made the code"):
        await asyncio.to_thread(enrol, enrol_url(central), foreign, tmp_path / "gw")
    await asyncio.to_thread(enrol, enrol_url(central), code, tmp_path / "gw")
    assert not (tmp_path / "gw" / FILE_NAME).exists()


async def test_an_outage_of_central_loses_nothing(central: Central, tmp_path: Path) -> None:
    start_us = CLOCK.now_us()
    async with gateway(central, tmp_path / "gw") as gw:
        await gw.commit([1], start_us)
        await gw.drained()
    outbox, _ = await open_outbox(tmp_path / "gw", SET, CLOCK, OutboxSection())
    await outbox.begin(78)
    identity = Identity.load(tmp_path / "gw")
    offline = Gateway(tmp_path, identity, outbox, None)  # type: ignore[arg-type]  # offline
    for nth in range(300):
        await offline.commit([nth + 2], start_us + 10_000 * (nth + 1))
    await outbox.close()
    async with gateway(central, tmp_path / "gw") as gw:
        await gw.commit([302], start_us + 10_000 * 301)
        await gw.drained()
    assert await stored(central) == list(range(1, 303))
