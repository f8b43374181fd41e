"""Readings put into a running central through its log, as ingress would, until they are stored."""

from collections.abc import Mapping, Sequence
from itertools import count

from central.messaging import EventRecord, ReadingRecord, topic
from central.storage.catalogue import (
    Gateway,
    create_gateway,
    find_gateway,
    find_project,
    keep_point_set,
    list_sites,
)
from central.storage.settled import read_settled
from shared.columns import Columns
from shared.model import Point, PointSet, PointType
from tests.servers.central_process import Central, until
from tests.servers.link_peer import now_us

EPOCH = 99
Row = tuple[int, float, int]
"""(observed_at in microseconds, value, quality)."""

_seqs = count()


async def seeding_gateway(central: Central, name: str = "seed") -> Gateway:
    pool = central.database.service
    project = await find_project(pool, "demo")
    assert project is not None
    found = await find_gateway(pool, project.project_id, name)
    if found is not None:
        return found
    [site] = await list_sites(pool, project.project_id)
    return await create_gateway(pool, project.project_id, site.site_id, name)


async def seed(
    central: Central,
    readings: Mapping[str, Sequence[Row]],
    texts: Mapping[str, tuple[int, str]] | None = None,
    unit: str = "°C",
) -> dict[str, int]:
    """Store readings (and one text a text point); gives the point ids by key."""
    said = texts or {}
    gateway = await seeding_gateway(central)
    numbers = [Point(key, unit) for key in readings]
    point_set = PointSet((*numbers, *(Point(key, type=PointType.TEXT) for key in said)))
    ids = await keep_point_set(central.database.service, gateway, point_set)
    by_key = dict(zip((point.key for point in point_set.points), ids.tolist(), strict=True))
    rows = [(by_key[key], *row) for key, some in readings.items() for row in some]
    first_text = len(rows)
    rows += [(by_key[key], at, float("nan"), 0) for key, (at, _) in said.items()]
    kept = {first_text + row: text for row, (_, text) in enumerate(said.values())}
    series, times, values, qualities = zip(*rows, strict=True)
    columns = Columns.of(list(series), list(times), list(values), list(qualities), kept)
    await publish(central, ReadingRecord(gateway.gateway_id, EPOCH, next(_seqs), now_us(), columns))
    return by_key


async def publish(central: Central, record: ReadingRecord | EventRecord) -> None:
    """Append a record and wait until it is settled."""
    platform = central.running.platform
    kind = "readings" if isinstance(record, ReadingRecord) else "events"
    value = platform.codec.encode(record)
    await platform.log.append(topic("demo", kind), b"seed", value)

    async def is_settled() -> bool:
        rows = await read_settled(central.database.service, "demo", record.gateway_id)
        return any(
            first <= record.seq <= last
            for row in rows
            if row.epoch == record.epoch
            for first, last in row.seqs
        )

    await until(is_settled, "the seeded record is settled")


async def seed_gap(
    central: Central, ids: Sequence[int], start_us: int, end_us: int, lost: int = 0
) -> None:
    """Declare a hole of points."""
    gateway = await seeding_gateway(central)
    seq = next(_seqs)
    gap = {
        "event": "gap",
        "id": seq.to_bytes(16, "big"),
        "cause": "dropped" if lost else "missed",
        "reason": "outbox_full" if lost else "link_down",
        "points": [[each, each] for each in sorted(ids)],
        "from_us": start_us,
        "to_us": end_us,
        "count": lost,
        "missed": None if lost else 3,
        "voided": [],
    }
    await publish(central, EventRecord(gateway.gateway_id, EPOCH, seq, now_us(), 1, [gap]))
