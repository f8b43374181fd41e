"""The lane of a whole batch."""

import numpy as np
import pytest

from central.ingress.lane import lane_of
from shared.model import Lane

NOW = 1_700_000_000_000_000
SECOND = 1_000_000


@pytest.mark.parametrize(
    ("ages_s", "lane"),
    [
        ([], Lane.LIVE),
        ([0.0], Lane.LIVE),
        ([60.0], Lane.LIVE),
        ([60.000001], Lane.BACKFILL),
        ([-5.0], Lane.LIVE),
        ([-5.000001], Lane.BACKFILL),
        ([0.0, 1.0, 3_600.0], Lane.BACKFILL),
        ([0.0, -3_600.0, 1.0], Lane.BACKFILL),
    ],
)
def test_one_reading_outside_sends_the_whole_batch_to_backfill(
    ages_s: list[float], lane: Lane
) -> None:
    times = np.asarray([NOW - round(age * SECOND) for age in ages_s], np.int64)
    assert lane_of(times, NOW) is lane
