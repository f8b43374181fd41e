"""What ids of schemas promise, from wherever they come.

A test module of an implementation subclasses `SchemaIdsContract`, or `RegistryContract` for a
server, and gives it a fixture `rig`: a `RegistryRig`, or None for ids that need no server.
"""

import asyncio
import contextlib
import json
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from central.messaging import (
    DeadRecord,
    EventRecord,
    LogRecord,
    ReadingRecord,
    RecordCodec,
    RecordInvalid,
    RegistryAway,
    SchemaIds,
    SchemaRefused,
    SchemaUnknown,
    open_registry,
)
from central.messaging.registry_client import RegistryClient
from central.messaging.schema_registry import SchemaRegistry
from shared.columns import Columns
from tests.contract.registry_rig import RegistryRig, Release, first_release

DEADLINE_S = 60
READINGS = ReadingRecord(1, 2, 3, 4, Columns.of([1, 2], [5, 6], [1.5, math.nan], [0, 3], {1: "on"}))
EVENTS = EventRecord(1, 2, 3, 4, 1, [{"event": "gap", "points": [[1, 2]]}])
DEAD = DeadRecord(1, 2, 3, 4, 5, "readings", "truncated", "why", b"h" * 32, b"body")
RECORDS: list[LogRecord] = [READINGS, EVENTS, DEAD]
SELDOM_S = 3_600.0
OFTEN_S = 0.05


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return first_release(tmp_path / "first", f"spine_{uuid.uuid4().hex}")


@pytest.fixture
async def client(rig: RegistryRig) -> AsyncIterator[RegistryClient]:
    async with RegistryClient(rig.url) as client:
        yield client


def next_release(release: Release) -> Release:
    folder = release.folder.with_name("next")
    folder.mkdir()
    for path in release.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return Release(folder, release.namespace)


def opened(
    rig: RegistryRig | None, release: Release, confirm_s: float = SELDOM_S
) -> contextlib.AbstractAsyncContextManager[SchemaIds]:
    return open_registry(rig.url if rig else None, release.load(), confirm_s)


def assert_same(found: LogRecord, record: LogRecord) -> None:
    again = RecordCodec()
    assert again.encode(found) == again.encode(record)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await holds():  # noqa: ASYNC110 -- a server is asked
            await asyncio.sleep(0.02)


async def state_of(ids: SchemaIds) -> str:
    try:
        return await ids.check()
    except RegistryAway as error:
        return f"not ready: {error}"


def can_write(codec: RecordCodec) -> bool:
    try:
        codec.encode(READINGS)
    except RegistryAway:
        return False
    return True


async def register_another(client: RegistryClient) -> int:
    name = f"Other{uuid.uuid4().hex}"
    return await client.register(name, json.dumps({"type": "record", "name": name, "fields": []}))


class SchemaIdsContract:
    """The contract of `central.messaging.registry.SchemaIds`."""

    async def test_records_come_back_under_the_id_of_their_schema(
        self, rig: RegistryRig | None, release: Release
    ) -> None:
        async with opened(rig, release) as ids:
            codec = RecordCodec(ids)
            for name, record in (
                ("reading_batch", READINGS),
                ("event_batch", EVENTS),
                ("dead_batch", DEAD),
            ):
                value = codec.encode(record)
                assert value[:1] == b"\x00"
                assert int.from_bytes(value[1:5], "big") == ids.id_of(ids.newest(name))
                assert_same(codec.decode(value), record)

    async def test_every_process_has_the_same_ids(
        self, rig: RegistryRig | None, release: Release
    ) -> None:
        async with opened(rig, release) as one, opened(rig, release) as other:
            assert RecordCodec(one).encode(READINGS) == RecordCodec(other).encode(READINGS)
        async with opened(rig, release) as later:
            assert later.id_of(later.newest("dead_batch")) == one.id_of(one.newest("dead_batch"))

    async def test_an_older_version_is_read_by_a_newer_release(
        self, rig: RegistryRig | None, release: Release
    ) -> None:
        async with opened(rig, release) as ids:
            value = RecordCodec(ids).encode(READINGS)
        newer = release.with_field("reading_batch", 2, type="string", default="none")
        async with opened(rig, newer) as ids:
            assert RecordCodec(ids).encode(READINGS)[1:5] != value[1:5]
            assert_same(RecordCodec(ids).decode(value), READINGS)

    async def test_an_id_that_nobody_knows_is_invalid_once_that_is_certain(
        self, rig: RegistryRig | None, release: Release
    ) -> None:
        async with opened(rig, release) as ids:
            codec = RecordCodec(ids)
            value = b"\x00" + (2**31 + 5).to_bytes(4, "big") + codec.encode(READINGS)[5:]
            with pytest.raises(SchemaUnknown):
                codec.decode(value)
            with pytest.raises(RecordInvalid, match=str(2**31 + 5)):
                await codec.decode_again(value)

    async def test_bytes_that_fit_no_schema_stay_invalid(
        self, rig: RegistryRig | None, release: Release
    ) -> None:
        async with opened(rig, release) as ids:
            codec = RecordCodec(ids)
            value = codec.encode(READINGS)
            for wrong in (b"", b"\x01", value[:-2], value + b"x"):
                with pytest.raises(RecordInvalid):
                    codec.decode(wrong)
                with pytest.raises(RecordInvalid):
                    await codec.decode_again(wrong)

    async def test_records_of_the_local_profile_are_read_everywhere(
        self, rig: RegistryRig | None, release: Release
    ) -> None:
        value = RecordCodec(release.load()).encode(READINGS)
        async with opened(rig, release) as ids:
            assert_same(RecordCodec(ids).decode(value), READINGS)

    async def test_its_state_is_told(self, rig: RegistryRig | None, release: Release) -> None:
        async with opened(rig, release) as ids:
            assert "4 schemas" in await ids.check()

    async def test_an_error_within_comes_out_as_it_is(
        self, rig: RegistryRig | None, release: Release
    ) -> None:
        with pytest.raises(LookupError, match="ours"):
            async with opened(rig, release):
                raise LookupError("ours")


class RegistryContract(SchemaIdsContract):
    """The same with a server that may refuse, be away, or have forgotten everything."""

    async def test_each_version_is_registered_once_and_in_order(
        self, rig: RegistryRig, release: Release, client: RegistryClient
    ) -> None:
        newer = release.with_field("reading_batch", 2, type="long", default=0)
        for _ in range(2):
            async with opened(rig, newer):
                pass

        assert await client.versions(release.subject) == [1, 2]
        assert "added_2" not in await client.text_of(release.subject, 1)
        assert "added_2" in await client.text_of(release.subject, 2)

    async def test_processes_that_start_together_get_the_same_ids(
        self, rig: RegistryRig, release: Release, client: RegistryClient
    ) -> None:
        newer = release.with_field("reading_batch", 2, type="long", default=0)

        async def start() -> list[bytes]:
            async with opened(rig, newer, OFTEN_S) as ids:
                await until(partial(self._tells, ids, "answers"))
                return [RecordCodec(ids).encode(record) for record in RECORDS]

        values = await asyncio.gather(*(start() for _ in range(6)))

        assert all(found == values[0] for found in values)
        assert await client.versions(release.subject) == [1, 2]

    async def test_the_registry_itself_refuses_what_cannot_read_older_records(
        self, rig: RegistryRig, release: Release, client: RegistryClient
    ) -> None:
        async with opened(rig, release):
            pass
        newer = release.document("reading_batch")
        newer["fields"].append({"name": "needed", "type": "string"})

        with pytest.raises(SchemaRefused, match="needed"):
            await client.register(release.subject, json.dumps(newer))

    async def test_a_registry_that_refuses_our_schema_ends_the_start(
        self, rig: RegistryRig, release: Release, client: RegistryClient
    ) -> None:
        document = release.document("reading_batch")
        wider = {**document, "fields": [*document["fields"], {"name": "more", "type": "string"}]}
        await client.register(release.subject, json.dumps(wider))
        await self.set_level(client, release.subject, "FULL_TRANSITIVE")

        with pytest.raises(SchemaRefused, match=f"refuses the schema of {release.subject}"):
            async with opened(rig, release):
                pass

    async def set_level(self, client: RegistryClient, subject: str, level: str) -> None:
        answer = await client._ask("PUT", f"/config/{subject}", {"compatibility": level})
        assert not answer.error_code

    async def test_a_version_that_ours_cannot_read_ends_the_start_by_name(
        self, rig: RegistryRig, release: Release, client: RegistryClient
    ) -> None:
        document = release.document("reading_batch")
        document["fields"][1]["type"] = "string"
        await client.register(release.subject, json.dumps(document))

        place = rf"version 1 of {release.subject}.*reading_batch\.1\.avsc.*epoch: string"
        with pytest.raises(SchemaRefused, match=place):
            async with opened(rig, release):
                pass

    async def test_a_newer_version_that_ours_can_read_is_learned(
        self, rig: RegistryRig, release: Release
    ) -> None:
        newer = next_release(release).with_field("reading_batch", 2, type="long", default=7)
        async with opened(rig, release) as old, opened(rig, newer) as new:
            value = RecordCodec(new).encode(READINGS)
            with pytest.raises(SchemaUnknown):
                RecordCodec(old).decode(value)

            assert_same(await RecordCodec(old).decode_again(value), READINGS)
            assert_same(RecordCodec(old).decode(value), READINGS)

    async def test_a_newer_version_that_ours_cannot_read_is_not_thrown_away(
        self, rig: RegistryRig, release: Release
    ) -> None:
        newer = next_release(release)
        document = newer.document("dead_batch")
        document["fields"] = [one for one in document["fields"] if one["name"] != "detail"]
        newer.keep("dead_batch", 2, document)
        async with opened(rig, release) as old, opened(rig, newer) as new:
            value = b"\x00" + new.id_of(new.newest("dead_batch")).to_bytes(4, "big") + b"anything"

            with pytest.raises(SchemaRefused, match="detail"):
                await RecordCodec(old).decode_again(value)

    async def test_a_foreign_schema_is_not_ours(
        self, rig: RegistryRig, release: Release, client: RegistryClient
    ) -> None:
        schema_id = await register_another(client)
        async with opened(rig, release) as ids:
            with pytest.raises(RecordInvalid):
                await RecordCodec(ids).decode_again(b"\x00" + schema_id.to_bytes(4, "big"))

    async def test_while_it_is_away_its_ids_serve_and_nothing_is_called_invalid(
        self, rig: RegistryRig, release: Release
    ) -> None:
        async with opened(rig, release, OFTEN_S) as ids:
            codec = RecordCodec(ids)
            value = codec.encode(READINGS)
            await rig.down()
            try:
                await until(lambda: self._tells(ids, "away, its ids are known"))
                assert codec.encode(READINGS) == value
                assert_same(codec.decode(value), READINGS)
                with pytest.raises(RegistryAway):
                    await codec.decode_again(b"\x00\x7f\x00\x00\x00" + value[5:])
            finally:
                await rig.up()
            await until(lambda: self._tells(ids, "answers"))
            assert codec.encode(READINGS) == value

    async def test_a_start_without_it_writes_nothing_until_it_comes(
        self, rig: RegistryRig, release: Release
    ) -> None:
        await rig.down()
        async with opened(rig, release) as ids:
            try:
                assert not can_write(RecordCodec(ids))
                with pytest.raises(RegistryAway):
                    await ids.check()
            finally:
                await rig.up()
            await until(lambda: self._tells(ids, "answers"))
            assert can_write(RecordCodec(ids))

    async def _tells(self, ids: SchemaIds, text: str) -> bool:
        return text in await state_of(ids)

    async def test_a_refusal_that_comes_late_ends_the_block(
        self, rig: RegistryRig, release: Release, client: RegistryClient
    ) -> None:
        document = release.document("reading_batch")
        document["fields"][1]["type"] = "string"
        await client.register(release.subject, json.dumps(document))
        await rig.down()
        try:
            with pytest.raises(SchemaRefused, match="epoch"):
                await self._stay(rig, release)
        finally:
            await rig.up()

    async def _stay(self, rig: RegistryRig, release: Release) -> None:
        async with asyncio.timeout(DEADLINE_S), opened(rig, release):
            await rig.up()
            await asyncio.Event().wait()

    async def test_ids_given_anew_after_a_loss_never_read_a_record_as_another(
        self, rig: RegistryRig, release: Release, client: RegistryClient
    ) -> None:
        async with opened(rig, release) as old:
            before = [RecordCodec(old).encode(record) for record in RECORDS]
            await self._emptied(rig)
            lowest = min(int.from_bytes(value[1:5], "big") for value in before)
            await self._shift_ids(client, lowest)
            async with opened(rig, release) as new:
                after = [RecordCodec(new).encode(record) for record in RECORDS]
                assert {value[1:5] for value in before} & {value[1:5] for value in after}

                codec = RecordCodec(old)
                for value, record in zip(after, RECORDS, strict=True):
                    assert_same(await self._read(codec, value), record)
                for value, record in zip(before, RECORDS, strict=True):
                    assert_same(await self._read(codec, value), record)
                    assert_same(codec.decode(value), record)

    async def _shift_ids(self, client: RegistryClient, lowest: int) -> None:
        """Register something else until the next ids are all but one those of before."""
        taken = 0
        while taken < lowest:
            taken = await register_another(client)

    async def _read(self, codec: RecordCodec, value: bytes) -> LogRecord:
        """Read a record as a consumer has to."""
        try:
            return codec.decode(value)
        except RecordInvalid:
            return await codec.decode_again(value)

    async def test_a_registry_that_lost_everything_is_filled_again(
        self, rig: RegistryRig, release: Release, client: RegistryClient
    ) -> None:
        async with opened(rig, release, OFTEN_S) as ids:
            await self._emptied(rig)

            async def is_back() -> bool:
                return await client.versions(release.subject) == [1]

            await until(is_back)
            assert isinstance(ids, SchemaRegistry)
            await ids.turn()  # the other schemas may still be on their way
            value = RecordCodec(ids).encode(READINGS)
        async with opened(rig, release) as later:
            assert_same(await RecordCodec(later).decode_again(value), READINGS)

    async def test_a_registry_that_fits_no_more_stops_writing_until_it_fits_again(
        self, rig: RegistryRig, release: Release, client: RegistryClient
    ) -> None:
        document = release.document("reading_batch")
        document["fields"][1]["type"] = "string"
        async with opened(rig, release) as ids:
            assert isinstance(ids, SchemaRegistry)
            codec = RecordCodec(ids)
            value = codec.encode(READINGS)
            await self._emptied(rig)
            await client.register(release.subject, json.dumps(document))
            await ids.turn()
            assert await self._tells(ids, "cannot be read by reading_batch.1.avsc")
            assert not can_write(codec)
            assert_same(codec.decode(value), READINGS)

            await self._emptied(rig)
            await ids.turn()
            assert await self._tells(ids, "answers")
            assert can_write(codec)

    async def _emptied(self, rig: RegistryRig) -> None:
        await rig.down()
        await rig.wipe()
        await rig.up()
