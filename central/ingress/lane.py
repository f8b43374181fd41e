"""Which lane a whole batch takes: by the age of its oldest and newest reading. Pure."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.clock import MICROSECONDS
from shared.model import Lane

OLDEST_US: Final = 60 * MICROSECONDS
AHEAD_US: Final = 5 * MICROSECONDS


def lane_of(observed_at: NDArray[np.int64], received_at: int) -> Lane:
    """Choose backfill where any reading lies outside [received - 60 s, received + 5 s]."""
    if len(observed_at) == 0:
        return Lane.LIVE
    oldest, newest = int(observed_at.min()), int(observed_at.max())
    is_live = received_at - OLDEST_US <= oldest and newest <= received_at + AHEAD_US
    return Lane.LIVE if is_live else Lane.BACKFILL
