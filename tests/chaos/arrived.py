"""What central has of a project: readings as numpy columns, gaps, settled totals, quarantine."""

import io
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from central.storage.database import Pool, open_pool, platform_transaction, project_transaction
from shared.link import Range

_EPOCH_2000_US: Final = 946_684_800_000_000
_HEADER_BYTES: Final = 19
_FIELD: Final = {"point": ">i4", "at": ">i8", "value": ">f8", "quality": ">i2"}


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The readings of one point in ascending time; value is NaN where there is none."""

    at: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.int16]

    @classmethod
    def empty(cls) -> "Series":
        """Make a series without a reading."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.int16))


@dataclass(frozen=True, slots=True)
class Gap:
    """A declared loss over the open interval (from_us, to_us) of the points with these keys."""

    cause: str
    reason: str
    keys: frozenset[str]
    from_us: int
    to_us: int
    count: int | None = 0


@dataclass(frozen=True, slots=True)
class EpochTotals:
    """The settled row of one epoch."""

    epoch: int
    seqs: tuple[Range, ...]
    delivered: int
    collapsed: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """All that central tells of one gateway's readings."""

    series: dict[str, Series]
    gaps: tuple[Gap, ...]
    epochs: tuple[EpochTotals, ...]
    quarantined: int

    @property
    def rows(self) -> int:
        """Count the readings that are stored."""
        return sum(len(series.at) for series in self.series.values())


async def read_arrived(dsn: str, project: str) -> Arrived:
    """Read everything a project has; `dsn` is that of central's service role."""
    async with open_pool(dsn, "spine-checker", size=1) as pool:
        keys = await _keys(pool, project)
        async with project_transaction(pool, project, is_frozen=True) as connection:
            return Arrived(
                await _series(connection, keys),
                await _gaps(connection, keys),
                await _epochs(connection),
                await connection.fetchval("SELECT coalesce(sum(count), 0)::int8 FROM quarantine"),
            )


async def _keys(pool: Pool, project: str) -> dict[int, str]:
    async with platform_transaction(pool) as connection:
        rows = await connection.fetch(
            """
            SELECT point_id, key FROM platform.points
            JOIN platform.projects USING (project_id) WHERE slug = $1
            """,
            project,
        )
    return dict(map(tuple, rows))


async def _series(connection: Any, keys: dict[int, str]) -> dict[str, Series]:
    valued = await _copied(connection, ("point", "at", "value", "quality"), "value IS NOT NULL")
    bare = await _copied(connection, ("point", "at", "quality"), "value IS NULL")
    point = np.concatenate([valued["point"], bare["point"]]).astype(np.int64)
    at = np.concatenate([valued["at"], bare["at"]]).astype(np.int64) + _EPOCH_2000_US
    value = np.concatenate([valued["value"].astype(np.float64), np.full(len(bare), np.nan)])
    quality = np.concatenate([valued["quality"], bare["quality"]]).astype(np.int16)
    order = np.lexsort((at, point))
    point, at, value, quality = point[order], at[order], value[order], quality[order]
    ids = np.array(sorted(keys), np.int64)
    bounds = np.searchsorted(point, np.append(ids, np.iinfo(np.int64).max))
    return {
        keys[point_id]: Series(at[start:end], value[start:end], quality[start:end])
        for point_id, start, end in zip(ids.tolist(), bounds, bounds[1:], strict=False)
    }


async def _copied(connection: Any, names: tuple[str, ...], where: str) -> Any:
    """Copy columns out in Postgres's binary format, whose rows are all equally long here."""
    columns = {"point": "point_id", "at": "observed_at"}
    listed = ", ".join(columns.get(name, name) for name in names)
    target = io.BytesIO()
    query = f"SELECT {listed} FROM readings WHERE {where}"  # noqa: S608 - fixed words only
    await connection.copy_from_query(query, output=target, format="binary")
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    for name in names:
        fields += [(f"{name}_bytes", ">i4"), (name, _FIELD[name])]
    raw = target.getvalue()
    if struct.unpack(">h", raw[-2:]) != (-1,):
        msg = "a binary COPY ends with -1"
        raise ValueError(msg)
    return np.frombuffer(raw[_HEADER_BYTES:-2], np.dtype(fields))


async def _gaps(connection: Any, keys: dict[int, str]) -> tuple[Gap, ...]:
    rows = await connection.fetch(
        """
        SELECT cause, reason, points,
               (extract(epoch FROM from_at) * 1000000)::int8,
               (extract(epoch FROM to_at) * 1000000)::int8, count
        FROM gaps
        """
    )
    return tuple(
        Gap(row[0], row[1], _keys_in(row[2], keys), row[3], row[4], row[5]) for row in rows
    )


def _keys_in(points: Any, keys: dict[int, str]) -> frozenset[str]:
    return frozenset(
        keys[point] for part in points for point in range(part.lower, part.upper) if point in keys
    )


async def _epochs(connection: Any) -> tuple[EpochTotals, ...]:
    rows = await connection.fetch(
        "SELECT epoch, seqs, delivered, collapsed, quarantined FROM settled ORDER BY epoch"
    )
    return tuple(
        EpochTotals(row[0], tuple((s.lower, s.upper - 1) for s in row[1]), *row[2:]) for row in rows
    )
