"""Sealed rollups: `BatchInvalid` or rows that can be."""

import numpy as np

from shared.batch import decode_rollups, encode_rollups
from shared.batch.layout import KIND_ROLLUPS, seal
from shared.errors import BatchInvalid
from shared.rollups import ROLLUP

_ROWS = np.zeros(3, ROLLUP)
_ROWS["series"], _ROWS["start"], _ROWS["width"] = [0, 0, 4], 1_790_000_000_000_000, 60_000_000
_ROWS["count"], _ROWS["mean"] = 2, np.nan
SEEDS = (encode_rollups(_ROWS), bytes(40))


def one(data: bytes) -> None:
    for body in (data, seal(data, min(len(data), 9), 1, KIND_ROLLUPS)):
        try:
            rows = decode_rollups(body, points=1_000, max_bytes=1 << 20)
        except BatchInvalid:
            continue
        assert (rows["width"] > 0).all()
        assert decode_rollups(encode_rollups(rows)).dtype == ROLLUP
