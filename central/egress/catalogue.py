"""Points by key and by id for the routes of egress: asked of the catalogue, bounded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Query

from central.access import Caller
from central.problems import ApiProblem
from central.storage.catalogue import PointRow, list_points, points_by_key
from central.storage.database import Pool
from shared.model import KEY_LENGTH, KEY_PATTERN

MAX_KEYS: Final = 100
MAX_LISTED: Final = 1_000

Keys = Annotated[
    list[Annotated[str, Query(pattern=KEY_PATTERN, max_length=KEY_LENGTH)]],
    Query(alias="key", max_length=MAX_KEYS, description="Keys of points; repeat for several."),
]
PART_PATTERN: Final = r"^[A-Za-z0-9_\-.:~/]*$"
Prefix = Annotated[
    str | None,
    Query(
        pattern=PART_PATTERN,
        max_length=KEY_LENGTH,
        description="Only points whose key begins so: `ahu1/`.",
    ),
]
After = Annotated[
    str | None,
    Query(pattern=PART_PATTERN, max_length=KEY_LENGTH, description="From `next_after`."),
]


@dataclass(frozen=True, slots=True)
class Selection:
    """The points a request is about."""

    points: tuple[PointRow, ...]
    next_key: str | None = None

    @property
    def ids(self) -> list[int]:
        """List the point ids."""
        return [point.point_id for point in self.points]


async def select(pool: Pool, caller: Caller, keys: Sequence[str]) -> Selection:
    """Find points by key, in the order asked for.

    Raises `ApiProblem` 404 that names the keys nobody has.
    """
    wanted = list(dict.fromkeys(keys))
    found = await points_by_key(pool, caller.project_id, wanted)
    missing = [key for key in wanted if key not in found]
    if missing:
        raise ApiProblem(
            404,
            "unknown_point",
            f"No such point: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}. "
            "See the project's /points.",
        )
    return Selection(tuple(found[key] for key in wanted))


async def page(
    pool: Pool, caller: Caller, prefix: str | None, after: str | None, limit: int
) -> Selection:
    """List points by key, one page; `next_key` is the last key where there are more."""
    rows = await list_points(
        pool, caller.project_id, after_key=after, limit=limit + 1, prefix=prefix
    )
    has_more = len(rows) > limit
    shown = tuple(rows[:limit])
    return Selection(shown, shown[-1].key if has_more else None)
