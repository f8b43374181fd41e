"""Point sets by hash: which point id each series of a gateway's batch is. Cached, bounded."""

import re
from collections import OrderedDict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from central.storage.catalogue import Gateway, find_point_set, keep_point_set
from central.storage.database import Pool
from shared.errors import FrameInvalid
from shared.link import PointSetFrame
from shared.model import KEY_LENGTH, KEY_PATTERN, PointSet

MAX_CACHED_IDS: Final = 2_000_000
UNIT_LENGTH: Final = 64

_KEY: Final = re.compile(KEY_PATTERN)


class PointSets:
    """Point ids of the sets in use; the least recently used leave when 2 million ids are kept."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._ids: OrderedDict[tuple[int, bytes], NDArray[np.int32]] = OrderedDict()
        self._cached = 0

    async def find(self, gateway: Gateway, digest: bytes) -> NDArray[np.int32] | None:
        """Give each series its point id; None where the set is unknown. Raises `DatabaseAway`."""
        key = (gateway.gateway_id, digest)
        ids = self._ids.get(key)
        if ids is not None:
            self._ids.move_to_end(key)
            return ids
        ids = await find_point_set(self._pool, gateway, digest)
        if ids is not None:
            self._keep(key, ids)
        return ids

    async def keep(self, gateway: Gateway, frame: PointSetFrame) -> None:
        """Keep a set for ever. Raises `FrameInvalid` for a wrong one, `DatabaseAway`."""
        point_set = check(frame)
        ids = await keep_point_set(self._pool, gateway, point_set)
        self._keep((gateway.gateway_id, frame.hash), ids)

    def _keep(self, key: tuple[int, bytes], ids: NDArray[np.int32]) -> None:
        if key in self._ids:
            return
        self._ids[key] = ids
        self._cached += len(ids)
        while self._cached > MAX_CACHED_IDS and len(self._ids) > 1:
            _, oldest = self._ids.popitem(last=False)
            self._cached -= len(oldest)


def check(frame: PointSetFrame) -> PointSet:
    """Read a point set from its frame.

    Raises `FrameInvalid`: `bad_point` for a key, unit, type or class that cannot be, `bad_hash`
    where the hash is not that of the points.
    """
    for key, unit, _, _ in frame.points:
        if not 1 <= len(key) <= KEY_LENGTH or not _KEY.fullmatch(key):
            raise FrameInvalid("bad_point", f"key {key[:40]!r} breaks the form of keys")
        if len(unit) > UNIT_LENGTH or not unit.isprintable():
            raise FrameInvalid(
                "bad_point", f"unit of {key!r} is not up to {UNIT_LENGTH} printable characters"
            )
    try:
        point_set = PointSet.from_rows(frame.points)
    except ValueError as error:
        raise FrameInvalid("bad_point", str(error)[:200]) from error
    if point_set.hash != frame.hash:
        raise FrameInvalid("bad_hash", "the points do not match the hash")
    return point_set
