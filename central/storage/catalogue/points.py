"""Points and point sets: a key is unique in its project, a point id is never used again.

A point belongs to the gateway that made it: only that one changes its unit, type and class.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from central.storage.catalogue.gateways import Gateway
from central.storage.database import Connection, Pool, catalogue_transaction
from shared import logs
from shared.model import PointSet

_log = logs.get("catalogue")

_COLUMNS = "points.point_id, points.key, points.unit, points.type, points.class, gateways.name"
_FROM = "FROM platform.points JOIN platform.gateways USING (project_id, gateway_id)"


@dataclass(frozen=True, slots=True)
class PointRow:
    """A point as a list shows it; `gateway` is the one that made it."""

    point_id: int
    key: str
    unit: str
    type: str
    klass: str
    gateway: str


async def find_point_set(
    pool: Pool, gateway: Gateway, point_set: bytes
) -> NDArray[np.int32] | None:
    """Give the point id of each series of a point set, by its hash; None if it is not known."""
    async with catalogue_transaction(pool, gateway.project_id) as connection:
        return await _find_ids(connection, gateway.project_id, point_set)


async def keep_point_set(pool: Pool, gateway: Gateway, points: PointSet) -> NDArray[np.int32]:
    """Keep a point set for ever and give the point id of each of its series.

    Makes the points that are new and takes the units, types and classes of the gateway's own.
    Those of a point that another gateway made stay; that is logged, once for the set. Called
    again, or by several at once, it gives the same ids.
    """
    async with catalogue_transaction(pool, gateway.project_id) as connection:
        known = await _find_ids(connection, gateway.project_id, points.hash)
        if known is not None:
            return known
        # One at a time per project: an id that a lost race took would be lost for ever.
        await connection.fetchval(
            "SELECT pg_advisory_xact_lock(hashtext('spine.points'), $1)", gateway.project_id
        )
        ids = await _keep_points(connection, gateway, points)
        await connection.execute(
            "INSERT INTO platform.point_sets (project_id, hash, point_ids, gateway_id)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            gateway.project_id,
            points.hash,
            ids,
            gateway.gateway_id,
        )
    return np.asarray(ids, np.int32)


async def list_points(
    pool: Pool,
    project_id: int,
    after_key: str | None = None,
    limit: int = 1_000,
    prefix: str | None = None,
) -> list[PointRow]:
    """List a project's points by key, from the one after `after_key`, those of a prefix only."""
    async with catalogue_transaction(pool, project_id) as connection:
        rows = await connection.fetch(
            f"SELECT {_COLUMNS} {_FROM}"
            " WHERE project_id = $1 AND ($2::text IS NULL OR points.key > $2)"
            " AND ($4::text IS NULL OR starts_with(points.key, $4))"
            " ORDER BY points.key LIMIT $3",
            project_id,
            after_key,
            limit,
            prefix,
        )
    return [PointRow(*row) for row in rows]


async def points_by_key(pool: Pool, project_id: int, keys: Iterable[str]) -> dict[str, PointRow]:
    """Find points by key; those that are not there are left out."""
    return {row["key"]: PointRow(*row) for row in await _find(pool, project_id, "key", list(keys))}


async def points_by_id(pool: Pool, project_id: int, ids: Iterable[int]) -> dict[int, PointRow]:
    """Find points by id; those that are not there are left out."""
    rows = await _find(pool, project_id, "point_id", list(ids))
    return {row["point_id"]: PointRow(*row) for row in rows}


async def _find(pool: Pool, project_id: int, column: str, wanted: list[Any]) -> list[Any]:
    async with catalogue_transaction(pool, project_id) as connection:
        rows: list[Any] = await connection.fetch(
            f"SELECT {_COLUMNS} {_FROM} WHERE project_id = $1 AND points.{column} = ANY($2)",
            project_id,
            wanted,
        )
    return rows


async def _find_ids(
    connection: Connection, project_id: int, point_set: bytes
) -> NDArray[np.int32] | None:
    ids = await connection.fetchval(
        "SELECT point_ids FROM platform.point_sets WHERE project_id = $1 AND hash = $2",
        project_id,
        point_set,
    )
    return None if ids is None else np.asarray(ids, np.int32)


async def _keep_points(connection: Connection, gateway: Gateway, points: PointSet) -> list[int]:
    by_key = {point.key: point for point in points.points}
    rows = sorted(by_key.values(), key=lambda point: point.key)
    columns = (
        [point.key for point in rows],
        [point.unit for point in rows],
        [point.type.value for point in rows],
        [point.klass.value for point in rows],
    )
    await connection.execute(
        """
        INSERT INTO platform.points (project_id, gateway_id, key, unit, type, class)
        SELECT $1, $2, wanted.key, wanted.unit, wanted.type, wanted.class
        FROM unnest($3::text[], $4::text[], $5::text[], $6::text[])
            AS wanted (key, unit, type, class)
        WHERE NOT EXISTS (
            SELECT FROM platform.points AS old WHERE old.project_id = $1 AND old.key = wanted.key
        )
        """,
        gateway.project_id,
        gateway.gateway_id,
        *columns,
    )
    await connection.execute(
        """
        UPDATE platform.points SET unit = wanted.unit, type = wanted.type, class = wanted.class
        FROM unnest($3::text[], $4::text[], $5::text[], $6::text[])
            AS wanted (key, unit, type, class)
        WHERE points.project_id = $1 AND points.gateway_id = $2 AND points.key = wanted.key
        """,
        gateway.project_id,
        gateway.gateway_id,
        *columns,
    )
    found = await connection.fetch(
        "SELECT key, point_id, gateway_id FROM platform.points"
        " WHERE project_id = $1 AND key = ANY($2) ORDER BY key",
        gateway.project_id,
        columns[0],
    )
    _warn_of_foreign(gateway, points, [row for row in found if row[2] != gateway.gateway_id])
    ids = {row["key"]: row["point_id"] for row in found}
    return [ids[point.key] for point in points.points]


def _warn_of_foreign(gateway: Gateway, points: PointSet, foreign: list[Any]) -> None:
    if not foreign:
        return
    _log.warning(
        "a gateway names points that another gateway made; their unit, type and class stay. "
        "Give the points of each gateway keys of their own",
        project_id=gateway.project_id,
        gateway_id=gateway.gateway_id,
        point_set=points.hash.hex(),
        points=len(foreign),
        keys=[row["key"] for row in foreign[:5]],
        owners=sorted({row["gateway_id"] for row in foreign})[:5],
    )
