r"""Stage `writer`: from the log to the commit, against psql's `\copy` of the same rows.

Ours is the writer of a topic in this process: it reads 1,000-reading records that lie in the log,
and commits rows, position, settled set, latest values and dirty marks. The baseline copies a binary
file of the same rows in the same order into the same, emptied table with the same index, as one
transaction. Both take turns. CPU is that of the client, and of all processes of the database.
"""

import asyncio
import os
import re
import resource
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import numpy as np
import uvloop

from bench.fleet import Load
from bench.inputs import walk
from bench.stack import Servers, cpu_s, psql, servers, workplace
from bench.stage import StageResult
from central import admin
from central.connections import open_log
from central.messaging import Log, ReadingRecord, RecordCodec, topic
from central.storage.copy_format import encode_rows, timestamps
from central.storage.database import Pool, open_pool, project_transaction, schema_of
from central.storage.topic_writer import READ_BYTES, TopicWriter
from shared.columns import Columns, concatenate

GATEWAYS: Final = 20
RECEIVED_US: Final = 1_700_000_000_000_000
_EMPTY: Final = "TRUNCATE readings, readings_texts, latest, settled, log_positions, dirty_marks"
_SIZE: Final = """
SELECT count(*), (
    SELECT coalesce(sum(pg_total_relation_size(part)), 0) FROM (
        SELECT 'readings'::regclass AS part
        UNION SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'readings'::regclass
    ) AS parts
) FROM readings
"""
_TIMING: Final = re.compile(r"Time: ([\d.]+) ms")


@dataclass(frozen=True, slots=True)
class Taken:
    """What one round of one side took; CPU in µs for 1,000 readings."""

    rate: float
    client_cpu: float
    database_cpu: float
    bytes_per_reading: float


@dataclass(slots=True)
class Rig:
    """One project, its log, and rows that lie both in the log and in a file for psql."""

    project: str
    service: Pool
    owner: Pool
    superuser: Pool
    log: Log
    readings: int
    records: int
    file: Path
    owner_dsn: str
    postmaster: int
    codec: RecordCodec = field(default_factory=RecordCodec)

    @property
    def topic(self) -> str:
        """Where the records lie."""
        return topic(self.project, "backfill")

    async def ours(self) -> Taken:
        """Write every record from the first to the last."""
        await self._empty()
        writer = TopicWriter(self.service, self.log, self.codec, self.project, self.topic)
        await writer.load()
        database, cpu, start = cpu_s(self.postmaster), time.process_time(), time.perf_counter()
        done = 0
        while done < self.records:
            done += await writer.step(wait_s=0)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        return await self._taken(wall, cpu, cpu_s(self.postmaster) - database)

    async def copy(self) -> Taken:
        """Copy the file with psql; its own count of the time leaves its start out."""
        await self._empty()
        database = cpu_s(self.postmaster)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = await asyncio.to_thread(self._run_psql)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        found = _TIMING.search(said)
        assert found is not None, f"psql told no time: {said}"
        return await self._taken(float(found[1]) / 1_000, cpu, cpu_s(self.postmaster) - database)

    async def parts(self) -> dict[str, float]:
        """Do parts of our work alone: CPU of this process in µs for 1,000 readings."""
        start, values = time.process_time(), list[bytes]()
        while len(values) < self.records:
            found = await self.log.read(self.topic, 0, len(values), READ_BYTES, 0)
            values += [record.value for record in found]
        read, start = time.process_time() - start, time.process_time()
        for value in values:
            self.codec.decode(value)
        decode = time.process_time() - start
        return {
            "log_read_us_per_1000": read * 1e9 / self.readings,
            "decode_us_per_1000": decode * 1e9 / self.readings,
        }

    async def _empty(self) -> None:
        async with self.owner.transaction() as connection:
            await connection.execute(f"SET LOCAL search_path = {schema_of(self.project)}")
            await connection.execute(_EMPTY)
        await self.superuser.fetchval("CHECKPOINT")

    async def _taken(self, wall: float, client: float, database: float) -> Taken:
        async with project_transaction(self.service, self.project) as connection:
            count, size = await connection.fetchrow(_SIZE)
        assert count == self.readings, f"{count} readings are stored, not {self.readings}"
        to_us = 1e9 / self.readings
        return Taken(self.readings / wall, client * to_us, database * to_us, int(size) / count)

    def _run_psql(self) -> str:
        command = (
            rf"\copy p_{self.project}.readings (observed_at, value, point_id, quality)"
            f" FROM '{self.file}' WITH (FORMAT binary)"
        )
        run = subprocess.run(
            [psql(), "-X", "-v", "ON_ERROR_STOP=1", "-c", r"\timing on", "-c", command],
            env={**os.environ, **_libpq(self.owner_dsn)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout


def run(rounds: int, quick: bool) -> StageResult:
    """Let both sides take turns on a log of 20 gateways' batches."""
    with (
        workplace() as folder,
        servers(folder / "stack", ("kafka", "timescale")) as found,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_measure(folder, found, rounds, 40 if quick else 600))


async def _measure(folder: Path, found: Servers, rounds: int, records: int) -> StageResult:
    async with _rig(folder, found, records) as rig:
        await rig.ours()  # warms both up: caches, connections, the first chunk
        await rig.copy()
        turns = [(await rig.ours(), await rig.copy()) for _ in range(rounds)]
        parts = await rig.parts()
    ours, copied = (_middle(side) for side in zip(*turns, strict=True))
    return StageResult(
        stage="writer",
        metric="rate",
        ratio=ours.rate / copied.rate,
        better="higher",
        rate=ours.rate,
        baseline_rate=copied.rate,
        cpu_us_per_1000=ours.client_cpu,
        bytes_per_reading=ours.bytes_per_reading,
        rounds=rounds,
        ours={
            "path": "TopicWriter: log, decode, rows, position, settled, latest, dirty, commit",
            "records": records,
            "gateways": GATEWAYS,
            "database_cpu_us_per_1000": _short(ours.database_cpu),
            "cpu_ratio": _short(
                (copied.client_cpu + copied.database_cpu) / (ours.client_cpu + ours.database_cpu)
            ),
            **{name: _short(figure) for name, figure in parts.items()},
        },
        baseline={
            "path": r"psql \copy (format binary) of one file, one transaction",
            "client_cpu_us_per_1000": _short(copied.client_cpu),
            "database_cpu_us_per_1000": _short(copied.database_cpu),
            "bytes_per_reading": _short(copied.bytes_per_reading),
        },
    )


@asynccontextmanager
async def _rig(folder: Path, found: Servers, records: int) -> AsyncIterator[Rig]:
    settings, project = found.settings(folder / "data"), f"bench_{uuid4().hex[:8]}"
    await admin.setup(settings, project, "main")
    batches = _batches(records)
    async with AsyncExitStack() as stack:
        service, owner, superuser = [
            await stack.enter_async_context(open_pool(dsn, size=2))
            for dsn in (found.env["SPINE_DSN"], found.env["SPINE_OWNER_DSN"], found.superuser)
        ]
        log = await stack.enter_async_context(open_log(settings, service))
        rig = Rig(
            project=project,
            service=service,
            owner=owner,
            superuser=superuser,
            log=log,
            readings=sum(len(batch) for batch in batches),
            records=records,
            file=folder / "rows",
            owner_dsn=found.env["SPINE_OWNER_DSN"],
            postmaster=found.pids["timescale"],
        )
        rig.file.write_bytes(_copy_file(batches))
        await _preload(rig, batches)
        yield rig


def _batches(records: int) -> list[Columns]:
    """Make batches as gateways' come: each in its turn, all points of a gateway its own."""
    load = Load(walk(20))
    points = len(load.given.keys)
    made: list[Columns] = []
    while len(made) < records:
        batch = load.next()
        order = np.lexsort((batch.observed_at, batch.series))
        ordered = batch.take(order)  # as the body and the record have it
        made += [ordered.with_series(ordered.series + g * points + 1) for g in range(GATEWAYS)]
    return made[:records]


async def _preload(rig: Rig, batches: Sequence[Columns]) -> None:
    for at, batch in enumerate(batches):
        record = ReadingRecord(1 + at % GATEWAYS, 7, at // GATEWAYS, RECEIVED_US, batch)
        await rig.log.append(rig.topic, b"1", rig.codec.encode(record))


def _copy_file(batches: Sequence[Columns]) -> bytes:
    rows = concatenate(batches)
    quality = rows.quality.view(np.int16)
    return bytes(
        encode_rows(len(rows), timestamps(rows.observed_at), rows.value, rows.series, quality)
    )


def _libpq(dsn: str) -> dict[str, str]:
    """Give a DSN as variables: arguments can be read by every user of the machine."""
    parts = urlsplit(dsn)
    return {
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": parts.path.lstrip("/"),
    }


def _middle(side: Sequence[Taken]) -> Taken:
    return Taken(
        *(
            median(getattr(one, name) for one in side)
            for name in ("rate", "client_cpu", "database_cpu", "bytes_per_reading")
        )
    )


def _short(figure: float) -> float:
    return float(f"{figure:.4g}")
